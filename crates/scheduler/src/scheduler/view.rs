//! The state of everything, for people.

use troika_base::Bytes;

use super::Scheduler;
use crate::facts::Power;
use crate::fleet::{Device, Health, Resident, Stage};
use crate::job::{DeviceId, JobId, ModelId};
use crate::live::{Job, Place};
use crate::snapshot::{
    AwayView, BudgetView, DeviceView, JobView, PoolView, QueueView, ResidentView, Snapshot,
};
use crate::{Class, Phase};

impl Scheduler {
    pub(super) fn view(&self) -> Snapshot {
        let power: Power = self.power;
        Snapshot {
            at: self.now,
            policy: self.settings.policy,
            power,
            devices: self.ids().map(|id| self.device_view(id)).collect(),
            pools: self.pool_views(),
            queues: self.queue_views(),
            jobs: self.job_views(),
            away: self.away_views(),
            budget: self.settings.budget_wh.map(|watt_hours| BudgetView {
                watt_hours,
                spent: self.spent / 3600.0,
            }),
        }
    }

    fn device_view(&self, id: DeviceId) -> DeviceView {
        let device = self.device(id);
        let usage = &device.usage;
        let residents = device.residents.iter();
        DeviceView {
            id,
            name: device.facts.name.clone(),
            chip: device.facts.chip.clone(),
            kind: device.facts.kind,
            state: state(device),
            heat: device.heat,
            busy: usage.busy(),
            beside: device.beside.len(),
            watts: usage.watts(),
            watts_source: usage.watts_source(),
            joules_busy: usage.joules_busy,
            joules_idle: usage.joules_idle,
            prefill_tokens: usage.prefill_tokens,
            decode_tokens: usage.decode_tokens,
            models: residents
                .map(|(&model, resident)| self.resident_view(id, model, resident))
                .collect(),
        }
    }

    fn resident_view(&self, id: DeviceId, model: ModelId, resident: &Resident) -> ResidentView {
        let name = self
            .models
            .get(&model)
            .map(|model| model.facts.name.clone());
        // A job on its way elsewhere still has its pages here, and is counted where it goes.
        let jobs = resident.jobs.iter().filter(|job| {
            let job = self.jobs.get(job);
            job.and_then(|job| job.place.device()) == Some(id)
        });
        ResidentView {
            model,
            name: name.unwrap_or_default(),
            state: match resident.stage {
                Stage::Loading { .. } => "loading",
                Stage::Ready => "ready",
                Stage::Leaving | Stage::Unloading => "leaving",
            },
            bytes: resident.bytes,
            bytes_predicted: resident.bytes_predicted,
            jobs: jobs.count(),
            pages_used: resident.pages.saturating_sub(resident.free_pages),
            pages: resident.pages,
            correction: resident.correction().factors(),
        }
    }

    fn away_views(&self) -> Vec<AwayView> {
        let remotes = self.remotes.iter();
        let views = remotes.map(|(&device, remote)| AwayView {
            device,
            name: remote.name.clone(),
            jobs: remote.jobs,
            closed: remote.closed(self.now).map(str::to_owned),
        });
        views.collect()
    }

    fn pool_views(&self) -> Vec<PoolView> {
        let view =
            |(id, facts, [others, models, loading]): (_, &crate::PoolFacts, [Bytes; 3])| PoolView {
                id,
                name: facts.name.clone(),
                capacity: facts.capacity,
                reserve: facts.reserve,
                others,
                models,
                loading,
            };
        self.ledger.view().map(view).collect()
    }

    fn queue_views(&self) -> Vec<QueueView> {
        let mut views: Vec<_> = Class::ALL
            .into_iter()
            .map(|class| QueueView {
                class,
                waiting: self.queues.n_waiting(class),
                running: 0,
                oldest_s: 0.0,
            })
            .collect();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "counts and the longest wait are the same in any order"
        )]
        for job in self.jobs.values() {
            let view = views.iter_mut().find(|view| view.class == job.spec.class);
            let Some(view) = view else { continue };
            match job.place {
                Place::Queued => {
                    let waited = (self.now - job.queued).as_secs_f64();
                    view.oldest_s = view.oldest_s.max(waited);
                }
                Place::Away(_) => {}
                _ => view.running += 1,
            }
        }
        views
    }

    fn job_views(&self) -> Vec<JobView> {
        let jobs = self.jobs.iter();
        let mut views: Vec<_> = jobs
            .filter_map(|(&id, job)| self.job_view(id, job))
            .collect();
        views.sort_by_key(|view| (view.device, view.job));
        views
    }

    fn job_view(&self, id: JobId, job: &Job) -> Option<JobView> {
        let device = match job.place {
            Place::Away(device) => device,
            place => place.device()?,
        };
        let phase = job.phase();
        let here = self.devices.get(usize::from(device.0));
        let resident = here.and_then(|device| device.residents.get(&job.spec.model));
        let held = resident
            .and_then(|resident| resident.batcher.progress(crate::live::seq(id, 0)))
            .map_or(0, |(_, held)| held);
        Some(JobView {
            job: id,
            model: job.spec.model,
            class: job.spec.class,
            device,
            phase,
            tokens: match phase {
                Phase::Prefill => [held, job.spec.prompt_tokens],
                Phase::Decode => [job.written(), job.max_tokens()],
            },
            age_s: (self.now - job.arrived).as_secs_f64(),
            why: self.why(job),
        })
    }

    fn why(&self, job: &Job) -> String {
        if job.spec.require_device.is_some() {
            return "it is required".to_owned();
        }
        if !job.failed_on.is_empty() {
            return format!("moved on from a failed device: {}", job.failure);
        }
        if let Some((remote, why)) = job.struck.last() {
            return format!("moved on from {}: {why}", self.name(*remote));
        }
        match job.account.expected {
            Some(expected) => {
                let joules = expected.joules.map(|joules| format!(" and {joules:.0} J"));
                let money = expected
                    .money
                    .map(|money| format!(" and {money:.4} of money"));
                let joules = joules.or(money).unwrap_or_default();
                let (seconds, policy) = (expected.total_s(), self.settings.policy);
                format!("expected {seconds:.1} s{joules} under {policy}")
            }
            None => String::new(),
        }
    }
}

fn state(device: &Device) -> String {
    match &device.health {
        Health::New | Health::Probing { .. } => "probing".to_owned(),
        Health::Ready => "ready".to_owned(),
        Health::Lost { why, .. } => format!("lost: {why}"),
    }
}
