//! What a batcher does for a few sequences by hand, and what holds whatever happens, by playing thousands of steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::JobId;
use Class::{Background, Interactive};

const PAGE: u32 = 4;
const PLENTY: u32 = 1000;

/// 20 ms for the weights, and 1 ms of arithmetic for a token beyond the twentieth.
const GAIT: Gait = Gait {
    launch_s: 0.0,
    read_s: 0.02,
    token_s: 0.001,
    past_s: 0.0,
    watts_prefill: 1.0,
    watts_decode: 1.0,
    spread: 1.0,
};

fn batcher() -> Batcher {
    Batcher::new(
        Limits {
            running: 4,
            sequences: usize::MAX,
            prefill_tokens: 40,
            stretch: 2.0,
            guest_stretch: 1.25,
            page_tokens: PAGE,
        },
        GAIT,
    )
}

fn seq(job: u64) -> SeqId {
    SeqId {
        job: JobId(job),
        choice: 0,
    }
}

fn start(batcher: &mut Batcher, job: u64, class: Class, known: u32) -> SeqId {
    batcher.admit(seq(job), class, known, 0, Time::default());
    seq(job)
}

/// A step so many milliseconds after the beginning.
fn step_at(batcher: &mut Batcher, ms: u64) -> Vec<(u64, u32, bool)> {
    let now = Time(ms * 1000);
    let plan = batcher.plan(PLENTY, &Settings::default(), now);
    let plan = plan.expect("something runs");
    batcher.computed(now);
    for slice in plan.slices.iter().filter(|slice| slice.complete) {
        batcher.wrote(slice.seq, 1);
    }
    let facts = plan.slices.iter();
    facts.map(|s| (s.seq.job.0, s.n_tok, s.complete)).collect()
}

fn step(batcher: &mut Batcher) -> Vec<(u64, u32, bool)> {
    step_at(batcher, 0)
}

#[test]
fn a_prompt_is_read_in_chunks_and_then_one_token_follows_another() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Interactive, 50);
    assert_eq!(step(&mut batcher), [(1, 40, false)]);
    assert_eq!(step(&mut batcher), [(1, 10, true)]);
    assert_eq!(step(&mut batcher), [(1, 1, true)]);
    batcher.remove(seq(1));
    assert_eq!(batcher.plan(PLENTY, &Settings::default(), Time(0)), None);
}

#[test]
fn answers_flow_on_while_a_prompt_is_read() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Interactive, 1);
    start(&mut batcher, 2, Interactive, 100);
    // Twice 20 ms, less the answer's own token, by the estimate.
    assert_eq!(step(&mut batcher), [(1, 1, true), (2, 39, false)]);
    // 20 ms, and 1 ms more for each token, as steps have shown: 42 ms for 22 tokens.
    for n_tok in [1, 9].repeat(200) {
        batcher.observe(n_tok, Duration::from_millis(20 + u64::from(n_tok)));
    }
    assert_eq!(step(&mut batcher), [(1, 1, true), (2, 21, false)]);
}

#[test]
fn tokens_are_drafted_where_all_write_and_nobody_more_urgent_waits_for_it() {
    let mut batcher = batcher();
    let may_draft = |batcher: &mut Batcher| {
        let plan = batcher.plan(PLENTY, &Settings::default(), Time(0));
        plan.expect("something runs").may_draft
    };
    let first = start(&mut batcher, 1, Interactive, 9);
    assert!(!may_draft(&mut batcher), "it reads");
    assert_eq!(step(&mut batcher), [(1, 9, true)]);
    assert!(may_draft(&mut batcher));
    batcher.computed(Time(0));
    assert!(batcher.wrote(first, 4));
    assert_eq!(batcher.progress(first), Some((14, 13)), "one is to go");
    assert_eq!(step(&mut batcher), [(1, 1, true)]);
    start(&mut batcher, 2, Interactive, 1);
    assert!(may_draft(&mut batcher), "both write");
    start(&mut batcher, 3, Background, 1);
    assert!(!may_draft(&mut batcher), "a guest is there");
    batcher.remove(seq(3));
    start(&mut batcher, 4, Interactive, 30);
    assert!(!may_draft(&mut batcher), "somebody waits for a first token");
}

#[test]
fn a_short_prompt_overtakes_a_long_one_and_does_not_stop_it() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Interactive, 100);
    start(&mut batcher, 2, Interactive, 30);
    start(&mut batcher, 3, Interactive, 5);
    assert_eq!(
        step(&mut batcher),
        [(3, 5, true), (2, 15, false), (1, 20, false)]
    );
}

#[test]
fn guests_stay_out_while_somebody_waits_for_a_first_token() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Background, 1);
    start(&mut batcher, 2, Background, 500);
    start(&mut batcher, 3, Interactive, 50);
    assert_eq!(step(&mut batcher), [(3, 40, false)]);
    assert_eq!(step(&mut batcher), [(3, 10, true)]);
    // A quarter more than 20 ms: the guest that writes, and what is left for the one that reads.
    assert_eq!(
        step(&mut batcher),
        [(3, 1, true), (1, 1, true), (2, 23, false)]
    );
}

#[test]
fn a_guest_that_waited_too_long_comes_along() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Background, 1);
    start(&mut batcher, 2, Interactive, 100);
    assert_eq!(step_at(&mut batcher, 1999), [(2, 40, false)]);
    assert_eq!(step_at(&mut batcher, 2001), [(2, 40, false), (1, 1, true)]);
    assert_eq!(step_at(&mut batcher, 2002), [(2, 20, true)]);
    let settings = Settings::default();
    let urgency = |ms: u64| batcher.urgency(&settings, Time(ms * 1000), true);
    let lifted = Urgency {
        class: Interactive,
        reads: false,
    };
    assert_eq!(urgency(2003), Some(lifted));
    batcher.remove(seq(2));
    let urgency = |ms: u64| batcher.urgency(&settings, Time(ms * 1000), true);
    assert_eq!(urgency(2003).map(|u| u.class), Some(Background));
    assert_eq!(urgency(4002), Some(lifted), "waiting lifts it");
}

#[test]
fn background_reads_in_steps_that_somebody_can_wait_for() {
    let mut batcher = Batcher::new(
        Limits {
            prefill_tokens: 3000,
            ..batcher().limits
        },
        GAIT,
    );
    start(&mut batcher, 1, Background, 5000);
    assert_eq!(step(&mut batcher), [(1, 45, false)], "45 ms");
    start(&mut batcher, 2, Interactive, 5000);
    assert_eq!(step(&mut batcher), [(2, 3000, false)]);
}

#[test]
fn lower_classes_are_in_nobodys_way() {
    let mut batcher = batcher();
    for job in 0..4 {
        start(&mut batcher, job, Background, PAGE);
    }
    step(&mut batcher);
    assert!(!batcher.admits(Background, 1, PLENTY), "four run");
    assert!(batcher.admits(Interactive, 3 * PAGE, 1));
    assert_eq!(batcher.lacks(Interactive, 3 * PAGE, 1), 3);
    assert_eq!(batcher.preempt(Some(Interactive)), Some(seq(3)));
    assert_eq!(batcher.preempt(Some(Background)), None);
}

#[test]
fn a_device_for_one_sequence_takes_turns() {
    let mut batcher = Batcher::new(
        Limits {
            sequences: 1,
            ..batcher().limits
        },
        GAIT,
    );
    start(&mut batcher, 1, Interactive, 1);
    start(&mut batcher, 2, Interactive, 1);
    let turns: Vec<_> = (1..5).map(|ms| step_at(&mut batcher, ms)[0].0).collect();
    assert_eq!(turns, [1, 2, 1, 2]);
}

#[test]
fn a_fork_pays_for_the_page_that_it_writes_to() {
    let mut batcher = batcher();
    let first = start(&mut batcher, 1, Interactive, PAGE + 1);
    let plan = batcher.plan(PLENTY, &Settings::default(), Time(0));
    let plan = plan.expect("runs");
    assert_eq!(plan.n_page, 2);
    batcher.computed(Time(0));
    let fork = SeqId { choice: 1, ..first };
    batcher.fork(first, fork);
    batcher.wrote(first, 1);
    batcher.wrote(fork, 1);
    let plan = batcher.plan(PLENTY, &Settings::default(), Time(0));
    let plan = plan.expect("runs");
    assert_eq!((plan.slices.len(), plan.n_page), (2, 2));
}

#[test]
fn the_youngest_of_the_lowest_class_gives_way_when_pages_run_out() {
    let mut batcher = batcher();
    start(&mut batcher, 1, Background, PAGE);
    start(&mut batcher, 2, Interactive, PAGE);
    let plan = loop {
        let plan = batcher.plan(0, &Settings::default(), Time(0));
        let plan = plan.expect("somebody runs");
        if !plan.preempted.is_empty() {
            break plan;
        }
        step(&mut batcher);
    };
    assert_eq!(plan.preempted, [seq(1)]);
    assert_eq!(plan.slices[0].seq, seq(2));
}

/// A cache of pages and what sequences hold, as the loop around a batcher keeps them.
struct World {
    batcher: Batcher,
    settings: Settings,
    now: Time,
    n_page: u32,
    waiting: Vec<(SeqId, Class)>,
    held: BTreeMap<SeqId, u32>,
    /// Tokens that are known, and tokens that a sequence will have in the end.
    jobs: BTreeMap<SeqId, (u32, u32)>,
    waited: BTreeMap<SeqId, usize>,
    next: u64,
}

impl World {
    fn used(&self) -> u32 {
        self.held.values().map(|held| held.div_ceil(PAGE)).sum()
    }

    fn submit(&mut self, class: Class, known: u32, more: u32) {
        let id = seq(self.next);
        self.next += 1;
        self.waiting.push((id, class));
        self.jobs.insert(id, (known, known + more));
        self.waited.insert(id, 0);
    }

    fn cancel(&mut self, id: SeqId) {
        self.batcher.remove(id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.held.remove(&id);
        self.jobs.remove(&id);
        self.waited.remove(&id);
    }

    fn admit(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (id, class) in waiting {
            let (known, _) = self.jobs[&id];
            let mut free = self.n_page - self.used();
            if !self.batcher.admits(class, known, free) {
                self.waiting.push((id, class));
                continue;
            }
            while self.batcher.lacks(class, known, free) > 0 {
                let Some(gone) = self.batcher.preempt(Some(class)) else {
                    break;
                };
                self.held.remove(&gone);
                self.waiting.push((gone, Background));
                free = self.n_page - self.used();
            }
            self.batcher.admit(id, class, known, 0, self.now);
            self.held.insert(id, 0);
        }
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        self.now += Duration::from_millis(100);
        self.admit();
        let free = self.n_page - self.used();
        let Some(plan) = self.batcher.plan(free, &self.settings, self.now) else {
            prop_assert!(self.jobs.is_empty(), "jobs wait and nothing runs");
            return Ok(());
        };
        for &id in &plan.preempted {
            self.held.remove(&id);
            self.waiting.push((id, Background));
        }
        let before = self.used();
        for &slice in &plan.slices {
            let (known, _) = self.jobs[&slice.seq];
            let held = self.held.get_mut(&slice.seq).expect("it was admitted");
            *held += slice.n_tok;
            prop_assert!(*held <= known);
            prop_assert_eq!(slice.complete, *held == known);
        }
        self.batcher.computed(self.now);
        prop_assert_eq!(self.used() - before, plan.n_page);
        prop_assert!(self.used() <= self.n_page, "more pages than there are");
        for waited in self.waited.values_mut() {
            *waited += 1;
            prop_assert!(*waited < 3000, "somebody starves");
        }
        for slice in &plan.slices {
            self.waited.insert(slice.seq, 0);
            if !slice.complete {
                continue;
            }
            let (known, end) = self.jobs.get_mut(&slice.seq).expect("a job");
            let held = self.held.get_mut(&slice.seq).expect("it was admitted");
            // As many guesses are right as its last page has room for, where there may be any.
            let room = held.next_multiple_of(PAGE) - *held;
            let n_draft = if plan.may_draft { room } else { 0 };
            let n_tok = (1 + n_draft).min(*end - *known);
            *known += n_tok;
            *held += n_tok - 1;
            match known == end {
                true => self.cancel(slice.seq),
                false => drop(self.batcher.wrote(slice.seq, n_tok)),
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_job_ends_and_memory_is_never_exceeded(
        n_page in 10_u32..40,
        events in prop::collection::vec((0_usize..6, 1_u32..30, 1_u32..9), 1..120),
    ) {
        let mut world = World {
            batcher: batcher(),
            settings: Settings::default(),
            now: Time::default(),
            n_page,
            waiting: Vec::new(),
            held: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waited: BTreeMap::new(),
            next: 0,
        };
        for (kind, known, more) in events {
            match kind {
                0 => world.submit(Interactive, known, more),
                1 | 2 => world.submit(Background, known, more),
                3 => {
                    let at = known as usize % world.jobs.len().max(1);
                    let id = world.jobs.keys().nth(at).copied();
                    id.into_iter().for_each(|id| world.cancel(id));
                }
                _ => world.step()?,
            }
        }
        for _ in 0..3000 {
            world.step()?;
        }
        prop_assert!(world.jobs.is_empty(), "{} jobs never ended", world.jobs.len());
        prop_assert_eq!(world.used(), 0);
    }
}
