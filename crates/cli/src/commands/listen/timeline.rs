//! A line of bars: how much speech there was, and when. As long as the sound may be, it takes the same memory.

/// Columns of the line.
const WIDTH: usize = 64;

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Probabilities over time, in at most twice as many slots as there are columns.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Sums over the frames of each slot.
    slots: Vec<f32>,
    /// Frames of a whole slot.
    frames: usize,
    /// Frames of the last slot.
    last: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            frames: 1,
            last: 0,
        }
    }
}

impl Timeline {
    /// Takes the next frame's probability.
    pub(super) fn push(&mut self, probability: f32) {
        if self.last == self.frames || self.slots.is_empty() {
            if self.slots.len() == 2 * WIDTH {
                self.slots = self.slots.chunks(2).map(|pair| pair.iter().sum()).collect();
                self.frames *= 2;
            }
            self.slots.push(0.0);
            self.last = 0;
        }
        if let Some(slot) = self.slots.last_mut() {
            *slot += probability;
        }
        self.last += 1;
    }

    /// The line: from left to right, from the beginning to now; a full column is speech throughout.
    pub(super) fn bar(&self) -> String {
        let total = self.slots.len();
        let columns = total.min(WIDTH);
        let column = |n: usize| {
            let (from, to) = (n * total / columns, (n + 1) * total / columns);
            let sum: f32 = self.slots[from..to].iter().sum();
            let mut frames = (to - from) * self.frames;
            if to == total {
                frames -= self.frames - self.last;
            }
            let height = (sum / frames as f32 * 8.0).round() as usize;
            BARS[height.min(8)]
        };
        (0..columns).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(probabilities: impl IntoIterator<Item = f32>) -> String {
        let mut timeline = Timeline::default();
        for probability in probabilities {
            timeline.push(probability);
        }
        timeline.bar()
    }

    #[test]
    fn bars_are_as_high_as_what_they_stand_for() {
        assert_eq!(bar([]), "");
        assert_eq!(bar([0.0, 0.5, 1.0]), " ▄█");
    }

    #[test]
    fn a_long_sound_has_a_line_of_the_same_length() {
        for frames in [64, 65, 128, 129, 1000, 100_000, 100_001] {
            let half = bar((0..frames).map(|n| if n < frames / 2 { 0.0 } else { 1.0 }));
            let length = half.chars().count();
            assert!((WIDTH / 2..=WIDTH).contains(&length), "{frames}: {length}");
            let silent = half.chars().take_while(|&bar| bar == ' ').count();
            assert!(silent.abs_diff(length / 2) <= 1, "{frames}: {half}");
            // The last column may stand for a few frames alone, and is as high as they are.
            assert!(half.ends_with('█'), "{frames}: {half}");
        }
    }
}
