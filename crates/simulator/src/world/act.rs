//! What the scheduler wants is done.

use std::collections::BTreeSet;
use std::time::Duration;

use troika_base::Bytes;
use troika_scheduler::{Action, Cause, DeviceId, Event, JobId, Load, ModelId, SeqId, Slice};

use super::World;
use super::agenda::{Done, Happening};
use super::device::{Resident, Working, predicted_bytes};
use super::pages::{Held, Pages};
use super::record::{index, most_urgent};
use crate::chance::Chance as _;
use crate::log::{Span, SpanKind, State};

/// A probe is a short question.
const PROBE: Duration = Duration::from_millis(200);
/// Memory is given back quickly.
const UNLOAD: Duration = Duration::from_millis(20);
/// What a copy costs however small it is.
const MOVE_MIN: Duration = Duration::from_millis(2);
/// A driver that waits for a step gives up after so long: an attentive one, and one that leaves it to the scheduler.
const WATCHDOG: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// A model that an NPU has compiled once is loaded from its blob, at this share of the time.
const COMPILED: f64 = 0.05;

impl World<'_> {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Probe(device) => self.later(device, PROBE, Done::Probe),
            Action::Load {
                device,
                model,
                kv_tokens,
            } => self.load(device, model, kv_tokens),
            Action::Unload { device, model, .. } => {
                if let Some(resident) = self.device(device).residents.get_mut(&model) {
                    resident.is_ready = false;
                    self.later(device, UNLOAD, Done::Unload(model));
                }
            }
            Action::Start { device, model, job } => self.start(device, model, job),
            Action::Step {
                device,
                model,
                slices,
                may_draft,
            } => {
                let n_draft = if may_draft { self.options.drafts } else { 0 };
                self.step(device, model, slices, n_draft);
            }
            Action::Move {
                job,
                model,
                from,
                to,
                tokens,
            } => self.begin_move(job, model, from, to, tokens),
            Action::Release { device, seq } => self.release(device, seq),
            Action::Send { job, to } => self.send(job, to),
            Action::Drop { device, job } if self.is_remote(device) => self.call_back(job),
            Action::Drop { device, job } => self.drop_job(device, job),
            Action::Abandon(device) => self.devices[usize::from(device.0)].reset(),
            Action::Refuse { job, refusal } => self.close(job, State::Refused(refusal.to_string())),
            Action::Place(decision) => {
                self.log.replays += u32::from(decision.cause == Cause::Replay);
            }
            Action::Finish { job, account } => {
                if let Some(found) = self.job(job) {
                    found.account = Some(*account);
                }
                self.close(job, State::Done);
            }
            _ => {}
        }
    }

    fn later(&mut self, id: DeviceId, after: Duration, what: Done) {
        let device = self.device(id);
        device.n_pending += 1;
        let epoch = device.epoch;
        let what = Happening::Done {
            device: id,
            epoch,
            what,
        };
        self.agenda.plan(self.now + after, what);
    }

    /// A span of time, a little longer or shorter than it should be.
    pub(super) fn noisy(&mut self, seconds: f64) -> Duration {
        let noise = 1.0 + self.options.noise * (2.0 * self.rng.unit() - 1.0);
        Duration::from_secs_f64((seconds * noise).max(1e-6))
    }

    fn load(&mut self, id: DeviceId, model: ModelId, kv_tokens: u32) {
        let facts = self.models[&model];
        let Some(form) = facts.forms.get(&id) else {
            return;
        };
        let off = 0.98 + 0.05 * self.rng.unit();
        let bytes = predicted_bytes(facts, form, kv_tokens);
        let bytes = bytes.iter().map(|b| Bytes((b.0 as f64 * off) as u64));
        let pages = kv_tokens / self.settings.limits.page_tokens;
        let resident = Resident {
            is_ready: false,
            bytes: bytes.collect(),
            pages: Pages::new(pages, self.settings.limits.page_tokens),
            caches: Default::default(),
            jobs: BTreeSet::new(),
        };
        let is_npu = self.machine.devices[usize::from(id.0)].kind == troika_base::DeviceKind::Npu;
        let again = is_npu && !self.compiled.insert((id, model));
        let took = self.noisy(form.load_s * if again { COMPILED } else { 1.0 });
        self.device(id).residents.insert(model, resident);
        self.later(id, took, Done::Load { model, took });
    }

    fn start(&mut self, id: DeviceId, model: ModelId, job: JobId) {
        let hits = self.wrong(self.options.faults.prefix_hits);
        let share = self.rng.unit();
        let owner = self.keeper(job);
        let Some(found) = self.jobs.get(index(job)) else {
            return;
        };
        let open = (0u32..).zip(&found.answers);
        let open: Vec<u32> = open
            .filter(|(_, answer)| !answer.has_ended)
            .map(|(choice, _)| choice)
            .collect();
        let least = open.iter().map(|&choice| found.known(choice)).min();
        // The last known token is computed in any case: its logits are wanted.
        let most = least.unwrap_or(1) - 1;
        let Some(resident) = self.devices[usize::from(id.0)].residents.get_mut(&model) else {
            return;
        };
        resident.jobs.insert(job);
        let mut first = match owner.filter(|_| !hits) {
            Some(owner) => {
                let left = resident.pages.left_by(owner);
                let common = left.map_or(0, |left| self.lineage.common(index(job), index(left)));
                resident.pages.find(owner, common.min(most))
            }
            None => Held::default(),
        };
        if hits {
            let wanted = (f64::from(most) * share) as u32;
            if resident.pages.grow(&mut first, wanted) {
                first.tokens = wanted;
            }
        }
        let held = first.tokens;
        for &choice in open.iter().skip(1) {
            let shared = resident.pages.share(&first);
            resident.caches.insert(SeqId { job, choice }, shared);
        }
        match open.first() {
            Some(&choice) => drop(resident.caches.insert(SeqId { job, choice }, first)),
            None => resident.pages.release(first),
        }
        self.inbox.push(Event::Started {
            device: id,
            job,
            held,
            free_pages: resident.pages.n_free(),
        });
    }

    fn step(&mut self, id: DeviceId, model: ModelId, slices: Vec<Slice>, n_draft: u32) {
        let crowd = self.crowd(id);
        let draw_gbs = self.machine.hardware[usize::from(id.0)].draw_gbs;
        let device = &mut self.devices[usize::from(id.0)];
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        // A sequence whose cache was given up begins anew.
        for slice in &slices {
            resident.caches.entry(slice.seq).or_default();
        }
        let writes = slices.iter().map(|s| (&resident.caches[&s.seq], s.n_tok));
        let needs = resident.pages.needs(writes.clone());
        let load = Load {
            tokens: slices.iter().map(|s| u64::from(s.n_tok + n_draft)).sum(),
            past: writes.map(|(held, _)| u64::from(held.tokens)).sum(),
        };
        if needs > resident.pages.n_free() {
            let free_pages = resident.pages.n_free();
            self.inbox.push(Event::OutOfPages {
                device: id,
                free_pages,
            });
            return;
        }
        for slice in &slices {
            if let Some(held) = resident.caches.get_mut(&slice.seq) {
                let grown = resident.pages.grow(held, slice.n_tok);
                debug_assert!(grown, "the pages were counted");
            }
        }
        let (seconds, watts) = device.step(&self.models[&model].forms[&id], load, crowd);
        device.working = Some(Working {
            model,
            jobs: slices.iter().map(|slice| slice.seq.job).collect(),
            dropped: BTreeSet::new(),
            draw_gbs,
        });
        if self.wrong(self.options.faults.step_hangs) {
            return self.hang(id);
        }
        let took = self.noisy(seconds);
        self.spent(id, model, &slices, took, watts);
        let joules = watts * took.as_secs_f64();
        let what = Done::Step {
            model,
            slices,
            took,
            joules,
            n_draft,
        };
        self.later(id, took, what);
    }

    /// A step does not end. Half of the drivers notice soon.
    fn hang(&mut self, id: DeviceId) {
        let is_noticed = self.rng.happens(0.5);
        let device = self.device(id);
        device.n_pending += 1;
        let epoch = device.epoch;
        let what = Happening::GivenUp { device: id, epoch };
        let after = WATCHDOG[usize::from(!is_noticed)];
        self.agenda.plan(self.now + after, what);
    }

    /// Writes down what a step takes.
    fn spent(
        &mut self,
        id: DeviceId,
        model: ModelId,
        slices: &[Slice],
        took: Duration,
        watts: f64,
    ) {
        let seconds = took.as_secs_f64();
        self.device(id).joules += watts * seconds;
        self.device(id).busy_s += seconds;
        for part in &self.machine.devices[usize::from(id.0)].parts {
            self.devices[usize::from(part.0)].busy_s += seconds;
        }
        let reads = |slice: &Slice| {
            let job = &self.jobs[index(slice.seq.job)];
            !job.has_parted() || slice.n_tok > 1
        };
        let is_reading = slices.iter().any(reads);
        let classes = slices.iter().map(|s| self.specs[index(s.seq.job)].class);
        self.spans.add(Span {
            device: id.0,
            from: self.now,
            to: self.now + took,
            model: self.models[&model].name.clone(),
            kind: if is_reading {
                SpanKind::Read
            } else {
                SpanKind::Write
            },
            class: most_urgent(classes),
            watts,
        });
    }

    /// How many times as long a device waits for a memory that others draw on at this moment.
    fn crowd(&self, id: DeviceId) -> f64 {
        let pool = self.machine.devices[usize::from(id.0)].pools[0];
        let Some(most) = self.machine.pool_gbs[usize::from(pool.0)] else {
            return 1.0;
        };
        let devices = self.machine.devices.iter().zip(&self.devices);
        let others = devices
            .filter(|(facts, _)| facts.pools[0] == pool)
            .filter_map(|(_, device)| device.working.as_ref())
            .map(|working| working.draw_gbs);
        let own = self.machine.hardware[usize::from(id.0)].draw_gbs;
        ((own + others.sum::<f64>()) / most).max(1.0)
    }

    fn begin_move(
        &mut self,
        job: JobId,
        model: ModelId,
        from: DeviceId,
        to: DeviceId,
        tokens: u32,
    ) {
        let bytes = self.models[&model].kv_bytes_per_token as f64 * f64::from(tokens);
        let gbs = self.machine.devices[usize::from(to.0)].link_gbs.max(1e-3);
        let took = self.noisy(bytes / (gbs * 1e9)).max(MOVE_MIN);
        let mut end = |id: DeviceId| {
            let device = self.device(id);
            device.n_pending += 1;
            (id, device.epoch)
        };
        let (from, to) = (end(from), end(to));
        let what = Happening::Moved {
            job,
            model,
            from,
            to,
            began: self.now,
        };
        self.agenda.plan(self.now + took, what);
    }

    fn release(&mut self, id: DeviceId, seq: SeqId) {
        let model = self.specs[index(seq.job)].model;
        let owner = self.keeper(seq.job);
        if let Some(resident) = self.device(id).residents.get_mut(&model) {
            resident.release(seq, owner);
        }
    }

    fn drop_job(&mut self, id: DeviceId, job: JobId) {
        let model = self.specs[index(job)].model;
        let owner = self.keeper(job);
        let device = self.device(id);
        // What is being computed is let go of when that is done.
        if let Some(working) = &mut device.working
            && working.model == model
            && working.jobs.contains(&job)
        {
            working.dropped.insert(job);
            return;
        }
        if let Some(resident) = device.residents.get_mut(&model) {
            resident.forget(job, owner);
        }
    }
}
