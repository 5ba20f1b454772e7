//! What the scheduler costs: a step with a thousand jobs under way, and queues that grow a hundredfold.
//!
//! A device answers at once here, so that all the time is the scheduler's (and a little this driver's).

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use troika_base::{Bytes, DeviceKind};
use troika_scheduler::{
    Action, Class, DeviceFacts, DeviceId, Elsewhere, Event, Form, Gait, JobId, JobSpec, Limits,
    ModelFacts, ModelId, OwnerId, PoolFacts, PoolId, RemoteFacts, Schedule, Scheduler, Settings,
    Slice, StepReport, Time, Work, Wrote,
};

const DEVICES: u16 = 4;
const GIB: u64 = 1 << 30;

/// A scheduler with devices that answer at once.
struct Rig {
    scheduler: Scheduler,
    now: Time,
    answers: Vec<Event>,
    /// Steps under way, the oldest first.
    steps: VecDeque<(DeviceId, Vec<Slice>)>,
    /// Whether sequences end with their first token.
    ends: bool,
    done: usize,
    jobs: u64,
    /// Endpoints that every job may go to.
    elsewhere: Vec<Elsewhere>,
}

impl Rig {
    fn new(running: usize, ends: bool) -> Self {
        let device = |id: u16| DeviceFacts {
            name: format!("gpu{id}"),
            chip: "a chip".to_owned(),
            kind: DeviceKind::Gpu,
            pools: vec![PoolId(id)],
            parts: Vec::new(),
            watts_busy: None,
            watts_assumed: None,
            watts_idle: 10.0,
            link_gbs: 16.0,
            residents_max: 8,
            batch_max: usize::MAX,
            moves: true,
            embeds: true,
        };
        let pool = |id: u16| PoolFacts {
            name: format!("gpu{id}"),
            capacity: Bytes(80 * GIB),
            reserve: Bytes(GIB),
        };
        let settings = Settings {
            limits: Limits {
                running,
                ..Limits::default()
            },
            queue: usize::MAX,
            ..Settings::default()
        };
        let devices = (0..DEVICES).map(device).collect();
        let pools = (0..DEVICES).map(pool).collect();
        let mut rig = Self {
            scheduler: Scheduler::new(settings, devices, pools),
            now: Time(0),
            answers: vec![Event::ModelKnown(model())],
            steps: VecDeque::new(),
            ends,
            done: 0,
            jobs: 0,
            elsewhere: Vec::new(),
        };
        rig.settle();
        rig
    }

    /// Every job may go to so many endpoints from now on, none of which is worth its price.
    fn open_endpoints(&mut self, count: u16) {
        for device in (DEVICES..DEVICES + count).map(DeviceId) {
            self.answers.push(Event::RemoteIs(RemoteFacts {
                device,
                name: format!("remote:{}", device.0),
                concurrent: None,
                closed: None,
            }));
            self.elsewhere.push(Elsewhere {
                device,
                ttft_s: 1.0,
                tps: 50.0,
                spread: 1.5,
                money: Some(1e9),
            });
        }
        self.settle();
    }

    /// Tells what is to be told until the scheduler waits for a step.
    fn settle(&mut self) {
        loop {
            let events = std::mem::take(&mut self.answers);
            let actions = self.scheduler.step(self.now, events);
            for action in actions {
                self.carry_out(action);
            }
            if self.answers.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Probe(device) => self.answers.push(Event::Probed {
                device,
                outcome: Ok(()),
            }),
            Action::Load {
                device,
                model,
                kv_tokens,
            } => self.answers.push(Event::Loaded {
                device,
                model,
                bytes: vec![Bytes(8 * GIB)],
                pages: kv_tokens / 32,
                took: Duration::from_secs(1),
            }),
            Action::Start { device, job, .. } => self.answers.push(Event::Started {
                device,
                job,
                held: 0,
                free_pages: PAGES,
            }),
            Action::Step { device, slices, .. } => self.steps.push_back((device, slices)),
            Action::Finish { .. } | Action::Refuse { .. } => self.done += 1,
            other => drop(black_box(other)),
        }
    }

    fn submit(&mut self, count: u64, work: Work) {
        for _ in 0..count {
            let spec = JobSpec {
                model: ModelId(0),
                owner: OwnerId((self.jobs % 7) as u32),
                class: Class::ALL[(self.jobs % 4) as usize],
                prompt_tokens: 16,
                work,
                deadline: None,
                require_device: None,
                elsewhere: self.elsewhere.clone(),
                keep_alive: None,
            };
            let job = JobId(self.jobs);
            self.jobs += 1;
            self.answers.push(Event::Submitted { job, spec });
            // As in the server: one event, one step.
            self.settle();
        }
    }

    /// The oldest step ends. `false` if there is none.
    fn advance(&mut self) -> bool {
        let Some((device, slices)) = self.steps.pop_front() else {
            return false;
        };
        self.now += Duration::from_millis(5);
        let complete = slices.iter().filter(|slice| slice.complete);
        let wrote = complete.map(|slice| Wrote {
            seq: slice.seq,
            n_tok: 1,
            has_ended: self.ends,
        });
        let report = StepReport {
            took: Duration::from_millis(20),
            joules: None,
            wrote: wrote.collect(),
            drafted: 0,
            failed: Vec::new(),
            free_pages: PAGES,
        };
        self.answers.push(Event::StepDone { device, report });
        self.settle();
        true
    }
}

/// More than anybody needs.
const PAGES: u32 = 1 << 20;

fn model() -> ModelFacts {
    let form = Form {
        bytes: vec![Bytes(5 * GIB)],
        load_peak: Bytes(0),
        kv_tokens: PAGES * 32,
        n_ctx: 1 << 20,
        load_s: 1.0,
        gait: Gait {
            launch_s: 0.001,
            read_s: 0.015,
            token_s: 0.0002,
            past_s: 1e-9,
            watts_prefill: 300.0,
            watts_decode: 200.0,
            spread: 1.3,
        },
    };
    ModelFacts {
        id: ModelId(0),
        name: "a model".to_owned(),
        forms: (0..DEVICES)
            .map(|id| (DeviceId(id), form.clone()))
            .collect(),
        impossible: BTreeMap::new(),
        kv_bytes_per_token: 16,
    }
}

const ENDLESS: Work = Work::Write {
    n: 1,
    max_tokens: 1 << 19,
};

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("step of 1000 live jobs on 4 devices");
    for (name, running, endpoints) in [
        ("all of them running", 256, 0),
        ("256 running, the others wait", 64, 0),
        ("256 running, the others wait and may leave", 64, 3),
    ] {
        group.bench_function(name, |b| {
            let mut rig = Rig::new(running, false);
            rig.open_endpoints(endpoints);
            rig.submit(1000, ENDLESS);
            for _ in 0..2000 {
                rig.advance();
            }
            b.iter(|| assert!(rig.advance(), "endless jobs do not end"));
        });
    }
    group.finish();
}

fn queues(c: &mut Criterion) {
    let mut group = c.benchmark_group("submission and drain");
    group.sample_size(10);
    for count in [1_000u64, 10_000, 100_000] {
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, &count| {
            b.iter(|| {
                let mut rig = Rig::new(64, true);
                rig.submit(count, Work::Embed);
                while rig.advance() {}
                assert_eq!(rig.done as u64, count, "all are done");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps, queues);
criterion_main!(benches);
