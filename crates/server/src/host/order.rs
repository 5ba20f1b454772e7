//! A job on its way into the queue, and what becomes of it when its client leaves.

use std::sync::Arc;

use tokio::sync::oneshot;
use troika_scheduler::{Class, DeviceId, JobId, JobSpec, ModelId, OwnerId, Time, Work};

use super::driver::Driver;
use super::models::Handle;
use super::request::{Asked, Client, Request};
use crate::ApiError;

/// What the scheduler is told of a job beside its size.
#[derive(Clone, Copy)]
pub(super) struct Ordered {
    pub(super) class: Class,
    pub(super) device: Option<DeviceId>,
    pub(super) deadline: Option<Time>,
    pub(super) owner: OwnerId,
}

impl Ordered {
    /// What the scheduler is told of a job that stays on this machine.
    pub(super) fn spec(&self, model: ModelId, n_prompt: usize, work: Work) -> JobSpec {
        JobSpec {
            model,
            owner: self.owner,
            class: self.class,
            prompt_tokens: u32::try_from(n_prompt).unwrap_or(u32::MAX),
            work,
            deadline: self.deadline,
            require_device: self.device,
            elsewhere: Vec::new(),
            keep_alive: None,
        }
    }
}

/// A job in the queue.
pub(super) struct Queued {
    /// Whether its model is loaded.
    pub(super) is_loaded: bool,
    /// Hears when it has begun, or never will.
    pub(super) settled: oneshot::Receiver<()>,
    pub(super) guard: CancelGuard,
}

/// Cancels a job when it is dropped before the job is done.
pub(super) struct CancelGuard {
    driver: Arc<Driver>,
    job: JobId,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.driver.cancel(self.job);
    }
}

/// Queues a job.
///
/// # Errors
/// If the scheduler refuses it at once.
pub(super) fn queue(
    driver: &Arc<Driver>,
    (handle, asked, client): (Arc<Handle>, Asked, Client),
    order: &Ordered,
    work: Work,
) -> Result<Queued, ApiError> {
    let job = driver.new_job();
    let leaves = asked.leaves.as_ref();
    let spec = JobSpec {
        elsewhere: leaves.map_or_else(Vec::new, |leaves| leaves.places.clone()),
        keep_alive: asked.keep_alive,
        ..order.spec(handle.id, asked.tokens.len(), work)
    };
    let (request, settled) = Request::new(job, handle, asked, client);
    let is_loaded = driver.submit(&Arc::new(request), spec)?;
    let driver = Arc::clone(driver);
    Ok(Queued {
        is_loaded,
        settled,
        guard: CancelGuard { driver, job },
    })
}

/// Tokens of an answer at most.
pub(super) fn room(max_tokens: Option<usize>, n_ctx: usize, n_prompt: usize) -> u32 {
    let room = n_ctx.saturating_sub(n_prompt).max(1);
    u32::try_from(max_tokens.map_or(room, |max| max.min(room))).unwrap_or(u32::MAX)
}
