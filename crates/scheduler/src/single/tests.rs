//! What a batcher does for a few sequences by hand, and what holds whatever happens, by playing thousands of steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PAGE: usize = 4;

fn batcher() -> Batcher {
    Batcher::new(Limits {
        queue: 2,
        running: 4,
        prefill_tokens: 16,
        stretch: 2.0,
        page_tokens: PAGE,
    })
}

/// Submits and admits at once.
fn start(batcher: &mut Batcher, id: u64, known: usize, held: usize) -> SeqId {
    let id = SeqId(id);
    batcher.submit(id, known).expect("room in the queue");
    assert_eq!(batcher.next_admission(1000), Some(id));
    batcher.admit(id, held);
    id
}

fn step(batcher: &mut Batcher) -> Vec<(u64, usize, bool)> {
    let plan = batcher.plan(1000).expect("something runs");
    for &slice in &plan.slices {
        batcher.computed(slice);
        if slice.complete {
            batcher.wrote(slice.id);
        }
    }
    let facts = plan.slices.iter();
    facts.map(|s| (s.id.0, s.n_tok, s.complete)).collect()
}

#[test]
fn a_prompt_is_read_in_chunks_and_then_one_token_follows_another() {
    let mut batcher = batcher();
    start(&mut batcher, 1, 20, 0);
    assert_eq!(step(&mut batcher), [(1, 16, false)]);
    assert_eq!(step(&mut batcher), [(1, 4, true)]);
    assert_eq!(step(&mut batcher), [(1, 1, true)]);
    batcher.remove(SeqId(1));
    assert_eq!(batcher.plan(1000), None);
}

#[test]
fn answers_flow_on_while_a_prompt_is_read() {
    let mut batcher = batcher();
    start(&mut batcher, 1, 1, 0);
    start(&mut batcher, 2, 100, 0);
    assert_eq!(
        step(&mut batcher),
        [(1, 1, true), (2, PREFILL_TOKENS_MIN, false)]
    );
    // 1 ms, and 1 ms more for each token: 2 ms for an answer, so 4 ms and 2 tokens of the prompt beside it; but never
    // less than the least.
    for n_tok in [1, 9] {
        batcher.observe(n_tok, Duration::from_millis(1 + n_tok as u64));
    }
    assert_eq!(step(&mut batcher)[1], (2, PREFILL_TOKENS_MIN, false));
    // 20 ms, and 1 ms more for each.
    for n_tok in [1, 9].repeat(200) {
        batcher.observe(n_tok, Duration::from_millis(20 + n_tok as u64));
    }
    assert_eq!(step(&mut batcher)[1], (2, 16, false));
}

#[test]
fn a_short_prompt_overtakes_a_long_one_and_does_not_stop_it() {
    let mut batcher = batcher();
    start(&mut batcher, 1, 100, 0);
    start(&mut batcher, 2, 30, 0);
    start(&mut batcher, 3, 5, 0);
    assert_eq!(
        step(&mut batcher),
        [(3, 5, true), (2, 3, false), (1, 8, false)]
    );
}

#[test]
fn what_is_cached_is_not_read() {
    let mut batcher = batcher();
    start(&mut batcher, 1, 20, 16);
    assert_eq!(step(&mut batcher), [(1, 4, true)]);
}

#[test]
fn a_full_queue_refuses() {
    let mut batcher = batcher();
    for id in 0..4 {
        start(&mut batcher, id, 3, 0);
    }
    for id in 4..6 {
        batcher.submit(SeqId(id), 3).expect("room in the queue");
    }
    assert_eq!(batcher.submit(SeqId(6), 3), Err(QueueFull { waiting: 2 }));
    assert_eq!(batcher.next_admission(1000), None, "four run already");
    batcher.remove(SeqId(0));
    assert_eq!(batcher.next_admission(1000), Some(SeqId(4)));
}

#[test]
fn a_fork_pays_for_the_page_that_it_writes_to() {
    let mut batcher = batcher();
    let first = start(&mut batcher, 1, PAGE + 1, 0);
    let plan = batcher.plan(1000).expect("runs");
    assert_eq!(plan.n_page, 2);
    batcher.computed(plan.slices[0]);
    batcher.fork(first, SeqId(2));
    batcher.wrote(first);
    batcher.wrote(SeqId(2));
    let plan = batcher.plan(1000).expect("runs");
    assert_eq!((plan.slices.len(), plan.n_page), (2, 2));
}

#[test]
fn the_youngest_gives_way_when_pages_run_out() {
    let mut batcher = batcher();
    start(&mut batcher, 1, PAGE, 0);
    start(&mut batcher, 2, PAGE, 0);
    step(&mut batcher);
    let plan = batcher.plan(1).expect("the oldest runs");
    assert_eq!(plan.preempted, [SeqId(2)]);
    assert_eq!(
        (plan.slices.len(), plan.slices[0].id, plan.n_page),
        (1, SeqId(1), 1)
    );
    // It waits, and starts over with all it knows.
    assert_eq!(batcher.next_admission(2), None, "and not at once");
    assert_eq!(batcher.next_admission(5), Some(SeqId(2)));
}

/// A cache of pages and what sequences hold, as the loop around a batcher keeps them.
struct World {
    batcher: Batcher,
    n_page: usize,
    held: BTreeMap<SeqId, usize>,
    /// Tokens that are known, and tokens that a sequence will have in the end.
    jobs: BTreeMap<SeqId, (usize, usize)>,
    next: u64,
    waited: BTreeMap<SeqId, usize>,
}

impl World {
    fn used(&self) -> usize {
        self.held.values().map(|held| held.div_ceil(PAGE)).sum()
    }

    fn submit(&mut self, known: usize, more: usize) {
        let id = SeqId(self.next);
        if self.batcher.submit(id, known).is_ok() {
            self.next += 1;
            self.jobs.insert(id, (known, known + more));
            self.waited.insert(id, 0);
        }
    }

    fn cancel(&mut self, id: SeqId) {
        self.batcher.remove(id);
        self.held.remove(&id);
        self.jobs.remove(&id);
        self.waited.remove(&id);
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        while let Some(id) = self.batcher.next_admission(self.n_page - self.used()) {
            self.batcher.admit(id, 0);
            self.held.insert(id, 0);
        }
        let Some(plan) = self.batcher.plan(self.n_page - self.used()) else {
            prop_assert!(self.jobs.is_empty(), "jobs wait and nothing runs");
            return Ok(());
        };
        for id in &plan.preempted {
            self.held.remove(id);
        }
        let before = self.used();
        let decoding = plan.slices.iter().filter(|slice| slice.n_tok == 1).count();
        prop_assert!(plan.n_tok() <= 16 + decoding);
        for &slice in &plan.slices {
            let (known, _) = self.jobs[&slice.id];
            let held = self.held.get_mut(&slice.id).expect("it was admitted");
            *held += slice.n_tok;
            prop_assert!(*held <= known);
            prop_assert_eq!(slice.complete, *held == known);
            self.batcher.computed(slice);
        }
        prop_assert_eq!(self.used() - before, plan.n_page);
        prop_assert!(self.used() <= self.n_page, "more pages than there are");
        self.write(&plan)
    }

    fn write(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        for waited in self.waited.values_mut() {
            *waited += 1;
            prop_assert!(*waited < 2000, "somebody starves");
        }
        for slice in &plan.slices {
            self.waited.insert(slice.id, 0);
            if !slice.complete {
                continue;
            }
            let (known, end) = self.jobs.get_mut(&slice.id).expect("a job");
            *known += 1;
            match known == end {
                true => self.cancel(slice.id),
                false => self.batcher.wrote(slice.id),
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_job_ends_and_memory_is_never_exceeded(
        n_page in 10_usize..40,
        events in prop::collection::vec((0_usize..6, 1_usize..30, 1_usize..9), 1..120),
    ) {
        let mut world = World {
            batcher: batcher(),
            n_page,
            held: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next: 0,
            waited: BTreeMap::new(),
        };
        for (kind, known, more) in events {
            match kind {
                0..3 => world.submit(known, more),
                3 => {
                    let id = world.jobs.keys().nth(known % world.jobs.len().max(1)).copied();
                    id.into_iter().for_each(|id| world.cancel(id));
                }
                _ => world.step()?,
            }
        }
        for _ in 0..2000 {
            world.step()?;
        }
        prop_assert!(world.jobs.is_empty(), "{} jobs never ended", world.jobs.len());
        prop_assert_eq!(world.used(), 0);
    }
}
