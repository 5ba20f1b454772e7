//! A job on its way into the queue, and what becomes of it when its client leaves.

use std::sync::Arc;

use tokio::sync::oneshot;
use troika_scheduler::{Class, DeviceId, JobId, JobSpec, KeepAlive as Keep, OwnerId, Time, Work};

use super::driver::Driver;
use super::models::Handle;
use super::request::{Asked, Client, Request};
use crate::ApiError;
use crate::job::KeepAlive;

impl From<KeepAlive> for Keep {
    fn from(keep_alive: KeepAlive) -> Self {
        match keep_alive {
            KeepAlive::For(time) => Self::For(time),
            KeepAlive::Forever => Self::Forever,
        }
    }
}

/// What the scheduler is told of a job beside its size.
#[derive(Clone, Copy)]
pub(super) struct Ordered {
    pub(super) class: Class,
    pub(super) device: Option<DeviceId>,
    pub(super) deadline: Option<Time>,
    pub(super) owner: OwnerId,
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
    let spec = JobSpec {
        model: handle.id,
        owner: order.owner,
        class: order.class,
        prompt_tokens: u32::try_from(asked.tokens.len()).unwrap_or(u32::MAX),
        work,
        deadline: order.deadline,
        require_device: order.device,
        keep_alive: asked.keep_alive,
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
