//! What happens in the world, and what the scheduler hears of it.

use troika_base::{Bytes, Joules};
use troika_scheduler::{DeviceId, Event, JobId, ModelId, SeqId, Slice, StepReport, Time, Wrote};

use super::agenda::{Done, Happening};
use super::record::index;
use super::{World, keeper};
use crate::chance::Chance as _;
use crate::faults::Fault;
use crate::log::{Span, SpanKind, State};

impl World<'_> {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Comes(at) => self.comes(at),
            Happening::Leaves(at) => self.leaves(at),
            Happening::Midnight => {
                self.agenda
                    .plan(self.now + self.options.day, Happening::Midnight);
                self.inbox.push(Event::Midnight);
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::Done {
                device,
                epoch,
                what,
            } => {
                if self.device(device).epoch == epoch {
                    self.device(device).n_pending -= 1;
                    self.done(device, what);
                }
            }
            Happening::Moved {
                job,
                model,
                from,
                to,
                began,
            } => self.moved(job, model, from, to, began),
            Happening::Back(back) => self.back(&back),
            Happening::GivenUp { device, epoch } => {
                if self.device(device).epoch == epoch {
                    self.lose(device, "it hangs");
                }
            }
        }
    }

    fn comes(&mut self, at: usize) {
        self.jobs[at].came = Some(self.now);
        self.inbox.push(Event::Submitted {
            job: JobId(at as u64),
            spec: self.specs[at].clone(),
        });
    }

    fn leaves(&mut self, at: usize) {
        if self.jobs[at].is_open() {
            self.close(JobId(at as u64), State::Cancelled);
            self.inbox.push(Event::Cancelled(JobId(at as u64)));
        }
    }

    /// A job has ended.
    pub(super) fn close(&mut self, id: JobId, state: State) {
        let now = self.now;
        if let Some(job) = self.job(id)
            && job.is_open()
        {
            job.end = Some((state, now));
            self.n_open -= 1;
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Lose(device) => {
                if self.device(device).is_up {
                    self.device(device).is_up = false;
                    self.lose(device, "it is gone");
                }
            }
            Fault::Return(device) => self.device(device).is_up = true,
            Fault::Heat(device, heat) => {
                self.device(device).heat = heat;
                self.inbox.push(Event::HeatIs { device, heat });
            }
            Fault::Others(pool, bytes) => {
                self.others[usize::from(pool.0)] = bytes;
                self.inbox.push(Event::OthersUse { pool, bytes });
            }
            Fault::Power(power) => self.inbox.push(Event::PowerIs(power)),
            Fault::Policy(policy) => self.inbox.push(Event::PolicyIs(policy)),
            Fault::Cool(model) => self.inbox.push(Event::Cool(model)),
            Fault::Remote(at, is_up) => self.remote_is(at, is_up),
        }
    }

    /// A device has lost all that was on it, and so has what it is part of.
    fn lose(&mut self, id: DeviceId, why: &str) {
        for (at, facts) in self.machine.devices.iter().enumerate() {
            let other = DeviceId(at as u16);
            if other != id && !facts.parts.contains(&id) {
                continue;
            }
            let device = &mut self.devices[at];
            let is_missed = device.n_pending > 0 || !device.residents.is_empty();
            device.reset();
            if other == id || is_missed {
                self.inbox.push(Event::Lost {
                    device: other,
                    why: why.to_owned(),
                });
            }
        }
    }

    /// Whether a device and all its parts are there.
    fn is_up(&self, id: DeviceId) -> bool {
        let of = |id: DeviceId| usize::from(id.0);
        let parts = &self.machine.devices[of(id)].parts;
        self.devices[of(id)].is_up && parts.iter().all(|part| self.devices[of(*part)].is_up)
    }

    fn done(&mut self, device: DeviceId, what: Done) {
        match what {
            Done::Step {
                model,
                slices,
                took,
                joules,
                n_draft,
            } => {
                let report = self.step_done(device, model, &slices, n_draft);
                let report = StepReport {
                    took,
                    joules: self.device(device).is_metered.then_some(Joules(joules)),
                    ..report
                };
                self.inbox.push(Event::StepDone { device, report });
            }
            Done::Load { model, took } => self.loaded(device, model, took),
            Done::Unload(model) => {
                self.device(device).residents.remove(&model);
                self.inbox.push(Event::Unloaded { device, model });
            }
            Done::Probe => self.probed(device),
        }
    }

    /// The step's tokens are computed and the next ones written. Of the tokens that it has drafted for a sequence, by chance
    /// some are right.
    fn step_done(
        &mut self,
        id: DeviceId,
        model: ModelId,
        slices: &[Slice],
        n_draft: u32,
    ) -> StepReport {
        let now = self.now;
        let n_ctx = self.models[&model].forms[&id].n_ctx;
        let fails = self.wrong(self.options.faults.job_fails);
        let device = &mut self.devices[usize::from(id.0)];
        let working = device.working.take();
        let dropped = working.map(|working| working.dropped).unwrap_or_default();
        let mut wrote = Vec::new();
        let mut failed = Vec::new();
        let Some(resident) = device.residents.get_mut(&model) else {
            // It was unloaded at work: a scheduler that is checked is stopped before.
            return StepReport {
                took: std::time::Duration::ZERO,
                joules: None,
                wrote: Vec::new(),
                drafted: 0,
                failed: Vec::new(),
                free_pages: 0,
            };
        };
        if fails && let Some(slice) = slices.first() {
            failed.push(slice.seq.job);
        }
        for slice in slices {
            let job = &mut self.jobs[index(slice.seq.job)];
            if let Some(held) = resident.caches.get_mut(&slice.seq) {
                held.tokens += slice.n_tok;
            }
            if !slice.complete || failed.contains(&slice.seq.job) {
                continue;
            }
            let mut writers = vec![slice.seq.choice];
            let mut n_tok = 1;
            if job.has_parted() && n_draft > 0 {
                let room = resident.caches.get(&slice.seq);
                let room = room.map_or(0, |held| resident.pages.room(held));
                n_tok += self.rng.below(n_draft as usize + 1) as u32;
                n_tok = n_tok.min(1 + room);
            }
            if !job.has_parted() {
                for choice in job.part(now) {
                    writers.push(choice);
                    if let Some(held) = resident.caches.get(&slice.seq) {
                        let shared = resident.pages.share(held);
                        let seq = SeqId {
                            choice,
                            ..slice.seq
                        };
                        resident.caches.insert(seq, shared);
                    }
                }
            }
            for choice in writers {
                let before = job.known(choice);
                let mut has_ended = false;
                for _ in 0..n_tok {
                    has_ended = has_ended || job.write(choice, n_ctx, now);
                }
                let seq = SeqId {
                    choice,
                    ..slice.seq
                };
                let n_tok = (job.known(choice) - before).max(1);
                if let Some(held) = resident.caches.get_mut(&seq) {
                    held.tokens += n_tok - 1;
                }
                if has_ended {
                    resident.release(seq, keeper(&self.specs[index(seq.job)]));
                }
                wrote.push(Wrote {
                    seq,
                    n_tok,
                    has_ended,
                });
            }
        }
        for job in dropped.into_iter().chain(failed.iter().copied()) {
            resident.forget(job, keeper(&self.specs[index(job)]));
        }
        StepReport {
            took: std::time::Duration::ZERO,
            joules: None,
            wrote,
            drafted: n_draft * slices.len() as u32,
            failed,
            free_pages: resident.pages.n_free(),
        }
    }

    fn loaded(&mut self, id: DeviceId, model: ModelId, took: std::time::Duration) {
        let is_short = self.is_short_of_memory(id, model);
        let fails = self.wrong(self.options.faults.load_fails);
        let facts = &self.machine.devices[usize::from(id.0)];
        let device = &mut self.devices[usize::from(id.0)];
        if is_short || fails {
            device.residents.remove(&model);
            let why = if is_short {
                "there is not enough memory"
            } else {
                "the driver refused"
            };
            self.inbox.push(Event::LoadFailed {
                device: id,
                model,
                why: why.to_owned(),
                is_final: false,
            });
            return;
        }
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        resident.is_ready = true;
        let began = Time(self.now.0.saturating_sub(took.as_micros() as u64));
        self.inbox.push(Event::Loaded {
            device: id,
            model,
            bytes: resident.bytes.clone(),
            pages: resident.pages.n_free(),
            took,
        });
        self.spans.add(Span {
            device: id.0,
            from: began,
            to: self.now,
            model: self.models[&model].name.clone(),
            kind: SpanKind::Load,
            class: None,
            watts: facts.watts_idle,
        });
    }

    /// Whether all that is in a pool of the device is more than there is.
    fn is_short_of_memory(&self, id: DeviceId, model: ModelId) -> bool {
        let facts = &self.machine.devices[usize::from(id.0)];
        let peak = self.models[&model].forms[&id].load_peak;
        facts.pools.iter().enumerate().any(|(at, &pool)| {
            let devices = self.machine.devices.iter().zip(&self.devices);
            let taken = devices.map(|(facts, device)| device.takes(&facts.pools, pool));
            let others = self.others[usize::from(pool.0)];
            let peak = if at == 0 { peak } else { Bytes(0) };
            let capacity = self.machine.pools[usize::from(pool.0)].capacity;
            taken.sum::<u64>() + others.0 + peak.0 > capacity.0
        })
    }

    fn probed(&mut self, device: DeviceId) {
        let is_wrong = self.wrong(self.options.faults.probe_wrong);
        let outcome = match (self.is_up(device), is_wrong) {
            (false, _) => Err("it does not answer".to_owned()),
            (true, true) => Err("2 and 2 are 5".to_owned()),
            (true, false) => Ok(()),
        };
        let is_wrong = outcome.is_err();
        self.inbox.push(Event::Probed { device, outcome });
        if !is_wrong {
            return;
        }
        // What it is part of is as little to be trusted; one that is being probed itself will tell.
        for (at, facts) in self.machine.devices.iter().enumerate() {
            if facts.parts.contains(&device) && !self.devices[at].residents.is_empty() {
                self.devices[at].reset();
                self.inbox.push(Event::Lost {
                    device: DeviceId(at as u16),
                    why: "a part of it answers wrongly".to_owned(),
                });
            }
        }
    }

    fn moved(
        &mut self,
        job: JobId,
        model: ModelId,
        from: (DeviceId, u32),
        to: (DeviceId, u32),
        began: Time,
    ) {
        let is_same =
            |world: &mut Self, (id, epoch): (DeviceId, u32)| world.device(id).epoch == epoch;
        if is_same(self, from) {
            self.device(from.0).n_pending -= 1;
        }
        if is_same(self, to) {
            self.device(to.0).n_pending -= 1;
        }
        // Who lost a device knows what became of the job.
        if !(is_same(self, from) && is_same(self, to)) {
            return;
        }
        let fails = self.wrong(self.options.faults.move_fails);
        let owner = self.keeper(job);
        let source = self.device(from.0).residents.get(&model);
        let held: Vec<(SeqId, u32)> = source
            .filter(|resident| resident.jobs.contains(&job))
            .map(|resident| {
                let caches = resident.caches.iter().filter(|(seq, _)| seq.job == job);
                caches.map(|(&seq, held)| (seq, held.tokens)).collect()
            })
            .unwrap_or_default();
        if held.is_empty() {
            return;
        }
        match (fails, self.take_over(job, model, to.0, &held)) {
            (false, Some(free_pages)) => {
                if let Some(resident) = self.device(from.0).residents.get_mut(&model) {
                    resident.forget(job, owner);
                }
                self.log.moves += 1;
                self.spans.add(Span {
                    device: to.0.0,
                    from: began,
                    to: self.now,
                    model: self.models[&model].name.clone(),
                    kind: SpanKind::Move,
                    class: Some(self.specs[index(job)].class),
                    watts: self.machine.devices[usize::from(to.0.0)].watts_idle,
                });
                self.inbox.push(Event::Moved {
                    job,
                    to: to.0,
                    free_pages,
                });
            }
            (_, taken) => {
                if taken.is_some()
                    && let Some(resident) = self.device(to.0).residents.get_mut(&model)
                {
                    resident.forget(job, None);
                }
                self.inbox.push(Event::MoveFailed {
                    job,
                    why: "the copy failed".to_owned(),
                });
            }
        }
    }

    /// Writes the caches of a job's sequences to a device. Returns the pages that are left; `None` if they are short.
    fn take_over(
        &mut self,
        job: JobId,
        model: ModelId,
        to: DeviceId,
        held: &[(SeqId, u32)],
    ) -> Option<u32> {
        let resident = self.device(to).residents.get_mut(&model)?;
        resident.jobs.insert(job);
        for &(seq, tokens) in held {
            let mut copy = super::pages::Held::default();
            if !resident.pages.grow(&mut copy, tokens) {
                resident.forget(job, None);
                return None;
            }
            copy.tokens = tokens;
            resident.caches.insert(seq, copy);
        }
        Some(resident.pages.n_free())
    }

    /// Whether something goes wrong that does so with this share. Nothing does once faults have stopped.
    pub(super) fn wrong(&mut self, share: f64) -> bool {
        share > 0.0 && self.now < self.options.faults.until && self.rng.happens(share)
    }
}
