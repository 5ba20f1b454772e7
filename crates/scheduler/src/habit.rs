//! What prompts of one owner have in common, as far as caches showed.
//!
//! A conversation comes back longer by a turn, an agent by a step; where its last prompt was read, the beginning is in the
//! cache. How much of it really is, every start tells; the next one is expected to be alike.

use std::collections::BTreeMap;

use crate::job::{DeviceId, ModelId, OwnerId};

/// What one start more counts.
const LEARN: f64 = 0.2;
/// Of a prompt of which nothing is known, this share is taken to be in the cache where the last one was.
const SHARE: f64 = 0.3;
/// Owners and models that are remembered.
const HABITS_MAX: usize = 4096;

#[derive(Clone, Debug, Default)]
struct Habit {
    /// Share of what could be in a cache that was.
    share: Option<f64>,
    /// Tokens of the longest text that was on a device.
    seen: BTreeMap<DeviceId, u32>,
}

/// What prompts have in common, by owner and model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    by: BTreeMap<(OwnerId, ModelId), Habit>,
}

impl Habits {
    /// Tokens of a prompt that a device has in its cache, as expected.
    pub(crate) fn expected(
        &self,
        owner: OwnerId,
        model: ModelId,
        device: DeviceId,
        prompt: u32,
    ) -> u32 {
        let habit = self.by.get(&(owner, model));
        let seen = habit.and_then(|habit| Some((habit, habit.seen.get(&device)?)));
        seen.map_or(0, |(habit, &seen)| {
            (f64::from(seen.min(prompt)) * habit.share.unwrap_or(SHARE)) as u32
        })
    }

    /// Learns from a start: `held` of the prompt's tokens were there.
    pub(crate) fn started(
        &mut self,
        owner: OwnerId,
        model: ModelId,
        device: DeviceId,
        prompt: u32,
        held: u32,
    ) {
        if self.by.len() >= HABITS_MAX && !self.by.contains_key(&(owner, model)) {
            self.by.clear();
        }
        let habit = self.by.entry((owner, model)).or_default();
        if let Some(&seen) = habit.seen.get(&device) {
            let share = f64::from(held) / f64::from(seen.min(prompt).max(1));
            let share = share.min(1.0);
            let before = habit.share.unwrap_or(share);
            habit.share = Some(before + LEARN * (share - before));
        }
        let seen = habit.seen.entry(device).or_default();
        *seen = prompt.max(*seen);
    }

    /// A model is not on a device any more, and its cache with it.
    pub(crate) fn left(&mut self, model: ModelId, device: DeviceId) {
        for ((_, theirs), habit) in &mut self.by {
            if *theirs == model {
                habit.seen.remove(&device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: (OwnerId, ModelId) = (OwnerId(1), ModelId(1));
    const HERE: DeviceId = DeviceId(1);

    #[test]
    fn a_conversation_is_expected_where_it_was() {
        let mut habits = Habits::default();
        let expected = |habits: &Habits, device| habits.expected(WHO.0, WHO.1, device, 1000);
        assert_eq!(expected(&habits, HERE), 0);
        habits.started(WHO.0, WHO.1, HERE, 900, 0);
        assert_eq!(expected(&habits, HERE), 270);
        for _ in 0..50 {
            habits.started(WHO.0, WHO.1, HERE, 1000, 950);
        }
        assert!((940..=960).contains(&expected(&habits, HERE)));
        assert_eq!(expected(&habits, DeviceId(0)), 0);
        for _ in 0..50 {
            habits.started(WHO.0, WHO.1, HERE, 1000, 0);
        }
        assert!(expected(&habits, HERE) < 10, "these have nothing in common");
        habits.left(WHO.1, HERE);
        assert_eq!(expected(&habits, HERE), 0);
    }
}
