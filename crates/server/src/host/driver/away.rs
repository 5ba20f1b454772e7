//! Jobs leave this machine and come back, as far as the driver's books go.

use std::sync::Arc;
use std::time::Instant;

use troika_scheduler::{DeviceId, Elsewhere, Event, JobId, JobSpec, Outlook, Power, Returned};

use super::{Books, Driver};
use crate::host::away::{Carried, Offer};
use crate::host::models::lock;
use crate::host::request::Request;

impl Driver {
    /// Where a job may go, by the scheduler's numbers. The scheduler hears of endpoints that are new, and of what has changed
    /// about the others.
    pub(in crate::host) fn places(&self, offers: &[Offer]) -> Vec<Elsewhere> {
        let mut books = lock(&self.books);
        let mut news = Vec::new();
        let mut places = Vec::with_capacity(offers.len());
        for offer in offers {
            let name = offer.device_name();
            let found = books.remotes.iter().position(|known| known.name == name);
            let at = found.unwrap_or(books.remotes.len());
            let Ok(number) = u16::try_from(self.devices.len() + at) else {
                continue;
            };
            let facts = offer.facts(DeviceId(number));
            places.push(offer.place(facts.device));
            // What is closed is believed for a while, and has to be told again.
            if facts.closed.is_some() || books.remotes.get(at) != Some(&facts) {
                news.push(Event::RemoteIs(facts.clone()));
            }
            match books.remotes.get_mut(at) {
                Some(known) => *known = facts,
                None => books.remotes.push(facts),
            }
        }
        if !news.is_empty() {
            self.step(&mut books, news);
        }
        places
    }

    /// What would become of a job on this machine if it came now.
    pub(in crate::host) fn outlook(&self, spec: &JobSpec) -> Outlook {
        lock(&self.books).schedule.outlook(spec)
    }

    /// Where the machine's power comes from.
    pub(in crate::host) fn power(&self) -> Power {
        lock(&self.books).schedule.power()
    }

    /// An endpoint's name.
    pub(in crate::host) fn remote_name(&self, device: DeviceId) -> String {
        self.name_of(&lock(&self.books), device)
    }

    /// Jobs that wait.
    pub(in crate::host) fn n_waiting(&self) -> usize {
        let queues = lock(&self.books).schedule.snapshot().queues;
        queues.iter().map(|queue| queue.waiting).sum()
    }

    /// Sends a job away.
    pub(super) fn send(&self, books: &mut Books, job: JobId, to: DeviceId) {
        let Some(request) = books.jobs.get(&job).cloned() else {
            return;
        };
        if request.send(to, Instant::now()) {
            books.counts(&request, -1);
            return;
        }
        books.news.push(Event::Back {
            job,
            from: to,
            outcome: Returned::Failed {
                why: "a part of the answer was told already".to_owned(),
                said: false,
                is_down: false,
            },
        });
    }

    /// A job that was sent away is back.
    pub(in crate::host) fn carried(
        &self,
        job: JobId,
        from: DeviceId,
        sent: Instant,
        carried: Carried,
    ) {
        let mut books = lock(&self.books);
        let Some(request) = books.jobs.get(&job).cloned() else {
            // Its client has left.
            return;
        };
        let outcome = carried.told(sent);
        match carried {
            Carried::Done(usage) => request.was_done_away(usage),
            Carried::Failed { error, said: true } => {
                self.take(&mut books, job, self.clock.now());
                request.fail(error);
            }
            Carried::Failed { error, said: false } => {
                let remote = self.name_of(&books, from);
                tracing::warn!(remote, %error, "a job came back undone; it is done elsewhere");
                request.came_back();
                books.counts(&request, 1);
            }
        }
        self.step(&mut books, vec![Event::Back { job, from, outcome }]);
    }
}

impl Books {
    /// Counts a job that is under way among those of its model on this machine, or no more.
    fn counts(&mut self, request: &Arc<Request>, change: isize) {
        if let Some(standing) = self.models.get_mut(&request.handle.id) {
            let count = match request.has_begun() {
                true => &mut standing.running,
                false => &mut standing.waiting,
            };
            *count = count.saturating_add_signed(change);
            standing.report();
        }
    }
}
