//! Jobs that wait, by class and model, shared out fairly among owners.
//!
//! Within a class and a model, the owner goes first who has had least so far (a counter of seconds, as in start-time fair
//! queueing); an owner that comes back begins where the least served one is, so that nobody saves up. An owner's own jobs
//! go in the order in which they came. Jobs that were cancelled are skipped when they come up, so that leaving costs
//! nothing.
//!
//! Jobs that may leave the machine have a lane of their own beside that of those that stay, which they need not wait for;
//! what an owner has had counts in both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Class;
use crate::job::{JobId, ModelId, OwnerId};

/// An owner's counter in units that have an order: microseconds.
type Served = u64;

#[derive(Clone, Debug, Default)]
struct Line {
    jobs: VecDeque<JobId>,
    served: Served,
}

/// Names a lane: jobs of one class for one model, which all may leave the machine or all stay. The most urgent one is first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneId {
    class: Reverse<Class>,
    pub(crate) model: ModelId,
    pub(crate) may_leave: bool,
}

impl LaneId {
    pub(crate) fn new(class: Class, model: ModelId, may_leave: bool) -> Self {
        let class = Reverse(class);
        Self {
            class,
            model,
            may_leave,
        }
    }

    pub(crate) fn class(self) -> Class {
        self.class.0
    }

    /// The lane of the jobs beside them.
    fn beside(self) -> Self {
        Self {
            may_leave: !self.may_leave,
            ..self
        }
    }
}

/// The jobs of a lane.
#[derive(Clone, Debug, Default)]
struct Lane {
    owners: BTreeMap<OwnerId, Line>,
    /// Owners that have jobs, the least served first.
    order: BTreeSet<(Served, OwnerId)>,
    /// Jobs in all lines.
    len: usize,
}

impl Lane {
    fn push(&mut self, owner: OwnerId, job: JobId, is_first: bool) {
        let floor = self.order.first().map_or(0, |&(served, _)| served);
        let line = self.owners.entry(owner).or_default();
        if line.jobs.is_empty() {
            line.served = line.served.max(floor);
            self.order.insert((line.served, owner));
        }
        self.len += 1;
        match is_first {
            true => line.jobs.push_front(job),
            false => line.jobs.push_back(job),
        }
    }

    /// The next job that still waits; those that do not are dropped.
    fn head(&mut self, waits: impl Fn(JobId) -> bool) -> Option<JobId> {
        while let Some(&(served, owner)) = self.order.first() {
            let line = self.owners.get_mut(&owner)?;
            while let Some(&job) = line.jobs.front() {
                if waits(job) {
                    return Some(job);
                }
                line.jobs.pop_front();
                self.len -= 1;
            }
            self.order.remove(&(served, owner));
        }
        None
    }

    /// Takes the head out and charges its owner, who is returned.
    fn pop(&mut self, cost: Served) -> Option<OwnerId> {
        let (served, owner) = self.order.pop_first()?;
        let line = self.owners.get_mut(&owner)?;
        self.len -= usize::from(line.jobs.pop_front().is_some());
        line.served = served.saturating_add(cost);
        if !line.jobs.is_empty() {
            self.order.insert((line.served, owner));
        }
        Some(owner)
    }

    /// Charges an owner for what was taken from elsewhere.
    fn charge(&mut self, owner: OwnerId, cost: Served) {
        if let Some(line) = self.owners.get_mut(&owner) {
            let waits = self.order.remove(&(line.served, owner));
            line.served = line.served.saturating_add(cost);
            if waits {
                self.order.insert((line.served, owner));
            }
        }
    }
}

/// All jobs that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    lanes: BTreeMap<LaneId, Lane>,
    waiting: [usize; 4],
    /// Seconds of work that waits, as estimated when it came; by class.
    work_s: [f64; 4],
}

impl Queues {
    /// Adds a job; one that has begun already goes before the owner's others.
    pub(crate) fn push(
        &mut self,
        lane: LaneId,
        owner: OwnerId,
        job: JobId,
        cost_s: f64,
        has_begun: bool,
    ) {
        let found = self.lanes.entry(lane).or_default();
        found.push(owner, job, has_begun);
        let class = lane.class().index();
        self.waiting[class] += 1;
        self.work_s[class] += cost_s;
    }

    /// The lanes in which jobs may wait, the most urgent class first.
    pub(crate) fn lanes(&self) -> Vec<LaneId> {
        let lanes = self.lanes.iter().filter(|(_, lane)| !lane.order.is_empty());
        lanes.map(|(&id, _)| id).collect()
    }

    /// Whether jobs of a class may wait for a model.
    pub(crate) fn has_lane(&self, class: Class, model: ModelId) -> bool {
        let mut both = self.both(class, model);
        both.any(|lane| !lane.order.is_empty())
    }

    /// Jobs of a class that wait for a model, those counted in that left without being asked for since.
    pub(crate) fn n_for(&self, class: Class, model: ModelId) -> usize {
        self.both(class, model).map(|lane| lane.len).sum()
    }

    /// A class's two lanes for a model.
    fn both(&self, class: Class, model: ModelId) -> impl Iterator<Item = &Lane> {
        let lane = move |may_leave| self.lanes.get(&LaneId::new(class, model, may_leave));
        [false, true].into_iter().filter_map(lane)
    }

    /// The job of a lane that goes next; `waits` tells of a job whether it still does.
    pub(crate) fn head(&mut self, lane: LaneId, waits: impl Fn(JobId) -> bool) -> Option<JobId> {
        self.lanes.get_mut(&lane)?.head(waits)
    }

    /// Takes the head of a lane out, and charges its owner for it.
    pub(crate) fn pop(&mut self, lane: LaneId, cost_s: f64) {
        let cost = (cost_s.max(0.0) * 1e6) as Served;
        let owner = self.lanes.get_mut(&lane).and_then(|lane| lane.pop(cost));
        let beside = self.lanes.get_mut(&lane.beside());
        if let (Some(owner), Some(beside)) = (owner, beside) {
            beside.charge(owner, cost);
        }
        self.left(lane.class(), cost_s);
    }

    /// Takes note that a job does not wait any more, wherever it stands.
    pub(crate) fn left(&mut self, class: Class, cost_s: f64) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = waiting.saturating_sub(1);
        let work = &mut self.work_s[class.index()];
        // Sums of many small numbers do not come out at zero by themselves.
        *work = if *waiting == 0 {
            0.0
        } else {
            (*work - cost_s).max(0.0)
        };
    }

    /// Jobs of a class that wait.
    pub(crate) fn n_waiting(&self, class: Class) -> usize {
        self.waiting[class.index()]
    }

    /// All jobs that wait.
    pub(crate) fn n_all(&self) -> usize {
        self.waiting.iter().sum()
    }

    /// Seconds of work of at least this class that waits.
    pub(crate) fn work_from(&self, class: Class) -> f64 {
        self.work_s[class.index()..].iter().sum()
    }

    /// Forgets lanes that are empty: models come and go.
    pub(crate) fn tidy(&mut self) {
        self.lanes.retain(|_, lane| !lane.order.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId {
        class: Reverse(Class::Agent),
        model: ModelId(1),
        may_leave: false,
    };

    fn push(queues: &mut Queues, owner: u32, job: u64) {
        queues.push(LANE, OwnerId(owner), JobId(job), 1.0, false);
    }

    fn pop(queues: &mut Queues, cost_s: f64) -> Option<u64> {
        let head = queues.head(LANE, |_| true)?;
        queues.pop(LANE, cost_s);
        Some(head.0)
    }

    #[test]
    fn owners_take_turns_by_what_they_had() {
        let mut queues = Queues::default();
        for job in 0..6 {
            push(&mut queues, 1, job);
        }
        push(&mut queues, 2, 10);
        push(&mut queues, 2, 11);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queues, 1.0)).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4, 5]);
        assert_eq!(queues.n_all(), 0);
        assert_eq!(queues.work_from(Class::Batch), 0.0);
    }

    #[test]
    fn an_owner_with_small_jobs_gets_more_of_them() {
        let mut queues = Queues::default();
        for job in 0..4 {
            push(&mut queues, 1, job);
            push(&mut queues, 2, 10 + job);
        }
        let mut order = Vec::new();
        while let Some(head) = queues.head(LANE, |_| true) {
            queues.pop(LANE, if head.0 < 10 { 3.0 } else { 1.0 });
            order.push(head.0);
        }
        assert_eq!(order[..5], [0, 10, 11, 12, 1]);
    }

    #[test]
    fn whoever_was_away_has_not_saved_up() {
        let mut queues = Queues::default();
        push(&mut queues, 2, 10);
        pop(&mut queues, 1.0);
        for job in 0..3 {
            push(&mut queues, 1, job);
        }
        pop(&mut queues, 100.0);
        push(&mut queues, 2, 11);
        push(&mut queues, 2, 12);
        // Owner 2 is level with owner 1, and not a hundred seconds ahead.
        assert_eq!(pop(&mut queues, 1.0), Some(1));
    }

    #[test]
    fn who_left_is_skipped_and_who_has_begun_goes_first() {
        let mut queues = Queues::default();
        push(&mut queues, 1, 1);
        push(&mut queues, 1, 2);
        queues.push(LANE, OwnerId(1), JobId(3), 1.0, true);
        assert_eq!(queues.head(LANE, |_| true), Some(JobId(3)));
        let waits = |job: JobId| job.0 == 2;
        assert_eq!(queues.head(LANE, waits), Some(JobId(2)));
        assert_eq!(queues.head(LANE, |_| false), None);
        assert!(queues.lanes().is_empty());
    }

    #[test]
    fn who_may_leave_waits_for_nobody_who_stays_and_pays_in_both_lanes() {
        let mut queues = Queues::default();
        let leaving = LANE.beside();
        for job in 0..2 {
            push(&mut queues, 1, job);
            push(&mut queues, 2, 10 + job);
        }
        queues.push(leaving, OwnerId(1), JobId(20), 1.0, false);
        assert_eq!(queues.lanes(), [LANE, leaving]);
        assert_eq!(queues.n_for(Class::Agent, LANE.model), 5);
        assert_eq!(queues.head(leaving, |_| true), Some(JobId(20)));
        queues.pop(leaving, 5.0);
        // Owner 1 was served beside this lane, so owner 2 goes first here, twice.
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queues, 1.0)).collect();
        assert_eq!(order, [10, 11, 0, 1]);
        assert!(!queues.has_lane(Class::Agent, LANE.model));
    }
}
