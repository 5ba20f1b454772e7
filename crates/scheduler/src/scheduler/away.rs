//! Jobs leave for endpoints beyond this machine, and come back.
//!
//! Only a job that brings along where it may go has anything to do with this file: [`Job::elsewhere`] is empty for all
//! others. What is held back for want of power or energy costs neither at an endpoint: it goes when it has waited as long as
//! its class has patience for, and as long as the price of going is worth. So it never costs more than twice what would have
//! been best had anybody known when the power comes back.

use super::Scheduler;
use super::offers::{Hurdle, Passes, Survey};
use crate::account::{JoulesSource, Phase, Span};
use crate::away::{Elsewhere, Remote, RemoteFacts, Returned};
use crate::decision::{Cause, Decision, JobForecast, Lost};
use crate::event::Action;
use crate::facts::Heat;
use crate::job::{DeviceId, JobId};
use crate::live::{Job, Place};
use crate::place::{self, Offer, Ready, Wish};

impl Scheduler {
    /// Adds the endpoints that a job may go to: none for one that stays.
    pub(super) fn add_away(&self, job: &Job, survey: &mut Survey) {
        for place in job.elsewhere() {
            match self.away_offer(place, job) {
                Ok(offer) => survey.offers.push(offer),
                Err(hurdle) => survey.hurdles.push((place.device, hurdle)),
            }
        }
    }

    /// An endpoint as a place for a job.
    fn away_offer(&self, place: &Elsewhere, job: &Job) -> Result<Offer, Hurdle> {
        let remote = self.check_away(place.device, job)?;
        let left = self.expected_left(job);
        let mut forecast = JobForecast {
            prefill_s: place.ttft_s.max(0.0),
            decode_s: left / place.tps.max(1e-3),
            money: place.money,
            spread: place.spread.max(1.0),
            ..JobForecast::default()
        };
        let mut state = Ready::Now;
        if remote.is_full() {
            // Its jobs end one after the other, half of what each takes is over on the average.
            let each_s = forecast.prefill_s + forecast.decode_s;
            forecast.wait_s = each_s / (2 * remote.jobs.max(1)) as f64;
            state = Ready::Later;
        }
        Ok(Offer {
            prefill: place.device,
            decode: place.device,
            kind: None,
            heat: Heat::Normal,
            above: 0.0,
            crowd: 0.0,
            crowd_watts: 0.0,
            watts: 0.0,
            backlog_s: 0.0,
            tps: place.tps.max(0.0),
            forecast,
            state,
        })
    }

    /// What speaks against an endpoint before anything is reckoned.
    fn check_away(&self, id: DeviceId, job: &Job) -> Result<&Remote, Hurdle> {
        let not_offered = |because: String, passes| {
            let lost = Lost::NotOffered { because };
            Err(Hurdle { lost, passes })
        };
        if job.spec.require_device.is_some_and(|device| device != id) {
            let (lost, passes) = (Lost::NotRequired, Passes::Never);
            return Err(Hurdle { lost, passes });
        }
        if let Some((_, why)) = job.struck.iter().find(|(struck, _)| *struck == id) {
            return not_offered(format!("the job failed there: {why}"), Passes::Never);
        }
        let Some(remote) = self.remotes.get(&id) else {
            return not_offered("nobody knows it".to_owned(), Passes::Never);
        };
        match remote.closed(self.now) {
            // Whoever has nowhere else to go waits for it as long as its class has patience for.
            Some(why) => {
                let is_impatient = self.spares(job).is_none();
                let passes = match is_impatient {
                    true => Passes::Never,
                    false => Passes::Soon,
                };
                not_offered(why.to_owned(), passes)
            }
            None => Ok(remote),
        }
    }

    /// The endpoints that a job may go to, when its class is held back on this machine.
    pub(super) fn survey_away(&self, job: &Job) -> Survey {
        let mut survey = Survey {
            offers: Vec::new(),
            hurdles: Vec::new(),
        };
        self.add_away(job, &mut survey);
        survey
    }

    /// Whether a job that is held back has waited long enough for an endpoint to be worth its price.
    pub(super) fn is_worth_leaving(&self, job: &Job, wish: &Wish, offer: &Offer) -> bool {
        let waited_s = (self.now - job.queued).as_secs_f64();
        let price_s = wish.worth.seconds(offer.forecast.money.unwrap_or(0.0));
        wish.patience_s <= 0.0 && waited_s >= price_s
    }

    /// A job goes to an endpoint. It waits nowhere any more.
    pub(super) fn send(&mut self, id: JobId, offer: &Offer, decision: Decision) {
        let (now, to) = (self.now, offer.prefill);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.place = Place::Away(to);
        job.placed = now;
        job.decode_on = None;
        job.expect(offer.forecast);
        if let Some(remote) = self.remotes.get_mut(&to) {
            remote.jobs += 1;
        }
        self.actions.push(Action::Place(Box::new(decision)));
        self.actions.push(Action::Send { job: id, to });
    }

    /// Sends a new job at once for which the queue has no room, if there is an endpoint for it. `false` if there is none.
    pub(super) fn send_past_queue(&mut self, id: JobId, job: &Job) -> bool {
        let wish = self.wish(job);
        let Survey {
            mut offers,
            hurdles,
        } = self.survey_away(job);
        offers.retain(|offer| offer.state == Ready::Now);
        let (best, lost) = place::choose(&wish, &mut offers);
        let Some(best) = best else {
            return false;
        };
        self.jobs.insert(id, job.clone());
        let offer = offers[best].clone();
        let decision = self.decision(id, Cause::Spill, &offer, &offers, lost, hurdles);
        self.send(id, &offer, decision);
        true
    }

    /// An endpoint is known, or has changed.
    pub(super) fn remote_is(&mut self, facts: RemoteFacts) {
        // A number that a device has is not an endpoint's.
        if usize::from(facts.device.0) >= self.devices.len() {
            let now = self.now;
            let remote = self.remotes.entry(facts.device).or_default();
            remote.told(facts, now);
        }
    }

    /// A job does not have a place at an endpoint any more.
    pub(super) fn leave_remote(&mut self, place: Place) {
        if let Place::Away(device) = place
            && let Some(remote) = self.remotes.get_mut(&device)
        {
            remote.jobs = remote.jobs.saturating_sub(1);
        }
    }

    /// A job is back.
    pub(super) fn back(&mut self, id: JobId, from: DeviceId, outcome: Returned) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        // It was called back, or was never there.
        if job.place != Place::Away(from) {
            return;
        }
        match outcome {
            Returned::Done {
                read,
                written,
                ttft,
                took,
            } => {
                let sent = job.placed;
                job.first_step = Some(sent);
                job.first_token = ttft.map(|ttft| sent + ttft);
                job.last_token = Some(sent + took);
                let reading = ttft.unwrap_or(took);
                let span = |phase, tokens, time: std::time::Duration| Span {
                    device: from,
                    phase,
                    tokens,
                    device_s: time.as_secs_f64(),
                    // What it drew there nobody tells.
                    joules: None,
                };
                let spans = [
                    span(Phase::Prefill, read, reading),
                    span(Phase::Decode, written, took.saturating_sub(reading)),
                ];
                for span in spans {
                    job.charge(span, JoulesSource::Unknown);
                }
                job.account.decode_tokens += written;
                if let Some(remote) = self.remotes.get_mut(&from) {
                    remote.has_done();
                }
                self.finish(id);
            }
            Returned::Failed { why, said, is_down } => {
                job.struck.push((from, why.clone()));
                if let Some(remote) = self.remotes.get_mut(&from).filter(|_| is_down) {
                    remote.has_failed(&why, now);
                }
                match said {
                    // Somebody has read the beginning: nobody else can go on from there.
                    true => self.finish(id),
                    false => {
                        self.leave_remote(Place::Away(from));
                        self.requeue(id);
                    }
                }
            }
        }
    }
}
