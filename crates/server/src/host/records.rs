//! How the jobs of the last requests were placed, for those who ask afterwards.

use std::collections::{BTreeMap, VecDeque};

use troika_scheduler::{Account, Decision, JobId};

use super::request::Request;
use crate::backend::Placement;

/// Requests that are remembered.
const REQUESTS: usize = 1000;
/// Jobs of one request that are: a request for embeddings may have thousands, all alike.
const JOBS: usize = 16;
/// Placements of one job that are.
const DECISIONS: usize = 32;

/// How the jobs of the last requests were placed.
#[derive(Default)]
pub(super) struct Records {
    by_request: BTreeMap<String, BTreeMap<JobId, Record>>,
    /// In the order in which they came.
    requests: VecDeque<String>,
}

struct Record {
    model: String,
    decisions: Vec<Decision>,
    account: Option<Account>,
}

impl Records {
    /// A job was placed.
    pub(super) fn placed(&mut self, request: &Request, decision: Decision) {
        let id = &request.request_id;
        if id.is_empty() {
            return;
        }
        if !self.by_request.contains_key(id) {
            if self.requests.len() == REQUESTS
                && let Some(oldest) = self.requests.pop_front()
            {
                self.by_request.remove(&oldest);
            }
            self.requests.push_back(id.clone());
        }
        let jobs = self.by_request.entry(id.clone()).or_default();
        if jobs.len() == JOBS && !jobs.contains_key(&request.id) {
            return;
        }
        let record = jobs.entry(request.id).or_insert_with(|| Record {
            model: request.handle.info.name.clone(),
            decisions: Vec::new(),
            account: None,
        });
        if record.decisions.len() < DECISIONS {
            record.decisions.push(decision);
        }
    }

    /// A job is done.
    pub(super) fn finished(&mut self, request: &Request, account: &Account) {
        let jobs = self.by_request.get_mut(&request.request_id);
        if let Some(record) = jobs.and_then(|jobs| jobs.get_mut(&request.id)) {
            record.account = Some(account.clone());
        }
    }

    /// How a request's jobs were placed, the first one first.
    pub(super) fn of_request(&self, id: &str, devices: &[String]) -> Option<Vec<Placement>> {
        let jobs = self.by_request.get(id)?.values();
        let placements = jobs.map(|record| Placement {
            model: record.model.clone(),
            devices: devices.to_vec(),
            decisions: record.decisions.clone(),
            account: record.account.clone(),
        });
        Some(placements.collect())
    }
}
