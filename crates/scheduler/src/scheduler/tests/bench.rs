//! Three devices of round numbers, that do at once what they are told.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use troika_base::{Bytes, DeviceKind};

use crate::event::Action;
use crate::{
    Account, Class, Decision, DeviceFacts, DeviceId, Event, Form, Gait, JobId, JobSpec, Load,
    ModelFacts, ModelId, Outlook, OwnerId, PoolFacts, PoolId, Refusal, Returned, Schedule,
    Scheduler, Settings, Slice, Snapshot, StepReport, Time, Work, Wrote,
};

pub(super) const CPU: DeviceId = DeviceId(0);
pub(super) const GPU: DeviceId = DeviceId(1);
pub(super) const NPU: DeviceId = DeviceId(2);
/// A model that takes more than the NPU may have, and all of the GPU.
pub(super) const TOO_BIG_FOR_NPU: ModelId = ModelId(2);

const GIB: u64 = 1 << 30;
const PAGE: u32 = 32;

pub(super) fn job(class: Class, prompt_tokens: u32, max_tokens: u32) -> JobSpec {
    JobSpec {
        model: ModelId(1),
        owner: OwnerId(0),
        class,
        prompt_tokens,
        work: Work::Write { n: 1, max_tokens },
        deadline: None,
        require_device: None,
        elsewhere: Vec::new(),
        keep_alive: None,
    }
}

/// Seconds of a token's weights, of its arithmetic; watts.
fn gait(read_s: f64, token_s: f64, watts: f64) -> Gait {
    Gait {
        launch_s: 0.0,
        read_s,
        token_s,
        past_s: 0.0,
        watts_prefill: watts,
        watts_decode: watts,
        spread: 1.2,
    }
}

fn gait_on(device: DeviceId) -> Gait {
    match device {
        CPU => gait(0.1, 0.01, 60.0),
        GPU => gait(0.01, 0.0005, 200.0),
        _ => gait(0.05, 0.002, 6.0),
    }
}

pub(super) fn form(device: DeviceId, gib: u64) -> Form {
    Form {
        bytes: vec![Bytes(gib * GIB)],
        load_peak: Bytes(0),
        kv_tokens: 16384,
        n_ctx: 8192,
        load_s: 1.0,
        gait: gait_on(device),
    }
}

#[derive(PartialEq, Eq)]
struct Due(Time, u64, usize);

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The scheduler with its devices.
pub(super) struct Bench {
    scheduler: Scheduler,
    pub(super) now: Time,
    due: BinaryHeap<Due>,
    events: Vec<Event>,
    jobs: BTreeMap<JobId, JobSpec>,
    written: BTreeMap<(JobId, u32), u32>,
    running: BTreeMap<JobId, DeviceId>,
    models: BTreeMap<DeviceId, ModelId>,
    pages: BTreeMap<(DeviceId, ModelId), u32>,
    gone: BTreeSet<DeviceId>,
    pub(super) lies: BTreeSet<DeviceId>,
    /// Endpoints that fail whatever comes, each with whether they say something first.
    pub(super) fails: BTreeMap<DeviceId, bool>,
    pub(super) log: Vec<Action>,
    pub(super) finished: BTreeMap<JobId, Account>,
    pub(super) refused: BTreeMap<JobId, Refusal>,
    decisions: BTreeMap<JobId, Decision>,
    pub(super) unloads: usize,
    /// Guesses that steps make for each answer where they may; all of them are right.
    pub(super) drafts: u32,
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        Self::with(settings, &[CPU, GPU, NPU])
    }

    /// A machine on which models run on one of the devices alone.
    pub(super) fn only(device: DeviceId) -> Self {
        Self::with(Settings::default(), &[device])
    }

    /// A machine whose NPU cannot embed.
    pub(super) fn whose_npu_only_writes() -> Self {
        let limit = |facts: &mut DeviceFacts| facts.embeds = facts.kind != DeviceKind::Npu;
        Self::of(Settings::default(), &[CPU, GPU, NPU], limit)
    }

    /// A machine whose NPU keeps what it has cached.
    pub(super) fn whose_npu_keeps_caches(settings: Settings) -> Self {
        let limit = |facts: &mut DeviceFacts| facts.moves = facts.kind != DeviceKind::Npu;
        Self::of(settings, &[CPU, GPU, NPU], limit)
    }

    fn with(settings: Settings, devices: &[DeviceId]) -> Self {
        Self::of(settings, devices, |_| ())
    }

    fn of(settings: Settings, devices: &[DeviceId], limit: fn(&mut DeviceFacts)) -> Self {
        let facts = |name: &str, kind, pool, watts_idle, batch_max| DeviceFacts {
            name: name.to_owned(),
            chip: name.to_uppercase(),
            kind,
            pools: vec![PoolId(pool)],
            parts: Vec::new(),
            watts_idle,
            watts_busy: None,
            watts_assumed: None,
            link_gbs: 10.0,
            residents_max: 4,
            batch_max,
            moves: true,
            embeds: true,
        };
        let pool = |name: &str, gib| PoolFacts {
            name: name.to_owned(),
            capacity: Bytes(gib * GIB),
            reserve: Bytes(0),
        };
        let mut all = vec![
            facts("cpu0", DeviceKind::Cpu, 0, 2.0, 64),
            facts("gpu0", DeviceKind::Gpu, 1, 10.0, 64),
            facts("npu0", DeviceKind::Npu, 0, 0.5, 1),
        ];
        all.iter_mut().for_each(limit);
        let pools = vec![pool("ram", 32), pool("gpu0", 8)];
        let mut bench = Self {
            scheduler: Scheduler::new(settings, all, pools),
            now: Time::default(),
            due: BinaryHeap::new(),
            events: Vec::new(),
            jobs: BTreeMap::new(),
            written: BTreeMap::new(),
            running: BTreeMap::new(),
            models: BTreeMap::new(),
            pages: BTreeMap::new(),
            gone: BTreeSet::new(),
            lies: BTreeSet::new(),
            fails: BTreeMap::new(),
            log: Vec::new(),
            finished: BTreeMap::new(),
            refused: BTreeMap::new(),
            decisions: BTreeMap::new(),
            unloads: 0,
            drafts: 0,
        };
        let model = |id: u32, gib: u64, on: &dyn Fn(DeviceId) -> bool| ModelFacts {
            id: ModelId(id),
            name: format!("model {id}"),
            forms: devices
                .iter()
                .filter(|device| on(**device))
                .map(|&device| (device, form(device, gib)))
                .collect(),
            impossible: [(NPU, "it needs more than the NPU may have".to_owned())].into(),
            kv_bytes_per_token: 1 << 16,
        };
        bench.events.push(Event::ModelKnown(model(1, 5, &|_| true)));
        bench
            .events
            .push(Event::ModelKnown(model(2, 6, &|device| device != NPU)));
        bench
    }

    /// Tells it now.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
        self.turn();
    }

    pub(super) fn submit(&mut self, spec: JobSpec) -> JobId {
        let job = self.push(spec);
        self.turn();
        job
    }

    /// Submits a job with whatever is told next.
    pub(super) fn push(&mut self, spec: JobSpec) -> JobId {
        let job = JobId(self.jobs.len() as u64 + 1);
        self.jobs.insert(job, spec.clone());
        self.events.push(Event::Submitted { job, spec });
        job
    }

    pub(super) fn lose(&mut self, device: DeviceId) {
        self.gone.insert(device);
        self.pages.retain(|(on, _), _| *on != device);
        self.tell(Event::Lost {
            device,
            why: "it fell off the bus".to_owned(),
        });
    }

    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.scheduler.settings.patience = [patience; 4];
    }

    /// Nobody knows any more what models draw on a device.
    pub(super) fn forget_watts(&mut self, device: DeviceId) {
        for model in self.scheduler.models.values_mut() {
            if let Some(form) = model.facts.forms.get_mut(&device) {
                (form.gait.watts_prefill, form.gait.watts_decode) = (0.0, 0.0);
            }
        }
    }

    /// Watts of a device at work beside its models, and those that its like draw at most.
    pub(super) fn set_watts(&mut self, device: DeviceId, busy: Option<f64>, assumed: Option<f64>) {
        let facts = &mut self.scheduler.device_mut(device).facts;
        (facts.watts_busy, facts.watts_assumed) = (busy, assumed);
    }

    /// A device is good for so many tokens of a sequence and no more.
    pub(super) fn shorten(&mut self, device: DeviceId, n_ctx: u32) {
        for model in self.scheduler.models.values_mut() {
            if let Some(form) = model.facts.forms.get_mut(&device) {
                form.n_ctx = n_ctx;
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.scheduler.snapshot()
    }

    pub(super) fn outlook(&self, spec: &JobSpec) -> Outlook {
        self.scheduler.outlook(spec)
    }

    pub(super) fn decision(&self, job: JobId) -> &Decision {
        &self.decisions[&job]
    }

    pub(super) fn running_on(&self, job: JobId) -> Option<DeviceId> {
        self.running.get(&job).copied()
    }

    /// The devices that did a job, in order.
    pub(super) fn devices_of(&self, job: JobId) -> Vec<DeviceId> {
        let mut devices: Vec<_> = self.finished[&job].spans.iter().map(|s| s.device).collect();
        devices.dedup();
        devices
    }

    /// Until every job has ended.
    pub(super) fn run(&mut self) {
        let open = |bench: &Self| bench.finished.len() + bench.refused.len() < bench.jobs.len();
        let end = self.now + Duration::from_secs(20_000);
        while open(self) && self.advance(end) {}
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.advance(end) {}
        self.now = end;
        self.turn();
    }

    /// To what comes next, if that is before `end`.
    fn advance(&mut self, end: Time) -> bool {
        let due = self.due.peek().map(|due| due.0);
        let wake = self.scheduler.wake_at();
        let Some(next) = due
            .into_iter()
            .chain(wake)
            .min()
            .filter(|next| *next <= end)
        else {
            return false;
        };
        self.now = self.now.max(next);
        while self.due.peek().is_some_and(|due| due.0 <= self.now) {
            let Some(Due(_, _, at)) = self.due.pop() else {
                break;
            };
            let action = self.log[at].clone();
            self.done(&action);
        }
        self.turn();
        true
    }

    fn turn(&mut self) {
        let events = std::mem::take(&mut self.events);
        for action in self.scheduler.step(self.now, events) {
            self.begin(action);
        }
        if !self.events.is_empty() {
            self.turn();
        }
    }

    /// Tokens that a step drafts for each answer.
    fn n_draft(&self, may_draft: bool) -> u32 {
        if may_draft { self.drafts } else { 0 }
    }

    fn load(&self, slices: &[Slice], may_draft: bool) -> Load {
        let n_draft = self.n_draft(may_draft);
        let tokens = slices.iter().map(|slice| u64::from(slice.n_tok + n_draft));
        Load {
            tokens: tokens.sum(),
            past: 0,
        }
    }

    fn begin(&mut self, action: Action) {
        let seconds = match &action {
            Action::Step {
                device,
                model,
                slices,
                may_draft,
            } => {
                assert!(self.pages.contains_key(&(*device, *model)), "no such model");
                let load = self.load(slices, *may_draft);
                gait_on(*device).step_s(load)
            }
            Action::Load { .. } | Action::Send { .. } => 1.0,
            Action::Move { .. } => 0.1,
            Action::Finish { job, account } => {
                assert!(self.finished.insert(*job, (**account).clone()).is_none());
                self.running.remove(job);
                0.0
            }
            Action::Refuse { job, refusal } => {
                assert!(self.refused.insert(*job, refusal.clone()).is_none());
                0.0
            }
            Action::Place(decision) => {
                self.decisions.insert(decision.job, (**decision).clone());
                0.0
            }
            Action::Drop { job, .. } => {
                self.running.remove(job);
                0.0
            }
            _ => 0.0,
        };
        let at = self.log.len();
        self.log.push(action);
        let when = self.now + Duration::from_secs_f64(seconds);
        self.due.push(Due(when, at as u64, at));
    }

    /// What becomes of a job at an endpoint: it takes a second, of which half is the first token's.
    fn returned(&self, job: JobId, at: DeviceId) -> Returned {
        if let Some(&said) = self.fails.get(&at) {
            return Returned::Failed {
                why: "503: busy".to_owned(),
                said,
                is_down: true,
            };
        }
        let spec = &self.jobs[&job];
        let written = match spec.work {
            Work::Write { n, max_tokens } => u64::from(n * max_tokens),
            Work::Embed | Work::Load => 0,
        };
        Returned::Done {
            read: u64::from(spec.prompt_tokens),
            written,
            ttft: Some(Duration::from_millis(500)),
            took: Duration::from_secs(1),
        }
    }

    fn done(&mut self, action: &Action) {
        let free_pages = 16384 / PAGE;
        let event = match action {
            Action::Probe(device) => {
                self.gone.remove(device);
                let outcome = match self.lies.contains(device) {
                    true => Err("2 and 2 are 5".to_owned()),
                    false => Ok(()),
                };
                Event::Probed {
                    device: *device,
                    outcome,
                }
            }
            Action::Send { job, to } => Event::Back {
                job: *job,
                from: *to,
                outcome: self.returned(*job, *to),
            },
            Action::Load { device, model, .. } => {
                self.pages.insert((*device, *model), free_pages);
                Event::Loaded {
                    device: *device,
                    model: *model,
                    bytes: vec![Bytes(6 * GIB)],
                    pages: free_pages,
                    took: Duration::from_secs(1),
                }
            }
            Action::Unload { device, model, .. } => {
                self.unloads += 1;
                self.pages.remove(&(*device, *model));
                Event::Unloaded {
                    device: *device,
                    model: *model,
                }
            }
            Action::Start { device, job, model } => {
                self.running.insert(*job, *device);
                self.models.insert(*device, *model);
                Event::Started {
                    device: *device,
                    job: *job,
                    held: 0,
                    free_pages,
                }
            }
            Action::Move { job, to, .. } => {
                self.running.insert(*job, *to);
                Event::Moved {
                    job: *job,
                    to: *to,
                    free_pages,
                }
            }
            Action::Step {
                device,
                slices,
                model,
                may_draft,
            } if !self.gone.contains(device) => {
                let mut wrote = Vec::new();
                let n_draft = self.n_draft(*may_draft);
                for slice in slices.iter().filter(|slice| slice.complete) {
                    let Work::Write { n, max_tokens } = self.jobs[&slice.seq.job].work else {
                        wrote.push(Wrote {
                            seq: slice.seq,
                            n_tok: 1,
                            has_ended: true,
                        });
                        continue;
                    };
                    let is_first = !self.written.contains_key(&(slice.seq.job, 0));
                    for choice in 0..if is_first { n } else { 1 } {
                        let choice = if is_first { choice } else { slice.seq.choice };
                        let written = self.written.entry((slice.seq.job, choice)).or_insert(0);
                        let n_tok = (1 + n_draft).min(max_tokens - *written);
                        *written += n_tok;
                        let seq = crate::SeqId {
                            choice,
                            ..slice.seq
                        };
                        wrote.push(Wrote {
                            seq,
                            n_tok,
                            has_ended: *written >= max_tokens,
                        });
                    }
                }
                let took = gait_on(*device).step_s(self.load(slices, *may_draft));
                let _ = model;
                Event::StepDone {
                    device: *device,
                    report: StepReport {
                        took: Duration::from_secs_f64(took),
                        joules: None,
                        drafted: n_draft * slices.len() as u32,
                        wrote,
                        failed: Vec::new(),
                        free_pages,
                    },
                }
            }
            _ => return,
        };
        self.events.push(event);
    }
}
