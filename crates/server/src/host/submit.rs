//! A job's way into the queue: what it asks for is settled, its prompt encoded, and the scheduler told of it.
//!
//! A job that stays on this machine and one that may leave it take the same way; the second one has an [`Errand`] with it.

use std::sync::Arc;
use std::time::Instant;

use troika_library::Library;
use troika_scheduler::{Class, DeviceId, Elsewhere, UnknownName};

use super::away::{Errand, Leaves, Outlook, REMOTE};
use super::order::{Ordered, queue, room};
use super::request::{Asked, Client};
use super::{Host, namespace, prompt, style};
use crate::job::{Caller, Job, Overflow, Wishes};
use crate::{Answer, ApiError, ErrorKind};

impl Host {
    /// Starts a job, as [`Backend::submit`](crate::Backend::submit) does, that may leave this machine: the scheduler weighs the offers of its errand
    /// against the devices, and the courier carries it where it says. Without an errand the job stays.
    ///
    /// `seen` is what [`Host::outlook`] made of the same prompt, which need not be read again then.
    ///
    /// # Errors
    /// As [`Backend::submit`](crate::Backend::submit).
    pub async fn submit_with(
        &self,
        job: Job,
        caller: Caller,
        seen: Option<Outlook>,
        errand: Option<Errand>,
    ) -> Result<Answer, ApiError> {
        let arrived = Instant::now();
        let handle = self.open(job.model.clone()).await?;
        if !handle.opened.spec().is_causal {
            let name = &handle.info.name;
            let message =
                format!("model `{name}` is an encoder: it gives vectors, and writes nothing");
            return Err(ApiError::invalid(message).at("model"));
        }
        let leaves = errand.map(|errand| Leaves::new(errand, &self.driver));
        let places = leaves.as_ref().map_or(&[][..], |leaves| &leaves.places);
        let order = self.order(&job.wishes, &caller, Class::Interactive, arrived, places)?;
        let (events, answer) = Answer::channel(handle.info.name.clone(), job.n);
        let driver = Arc::clone(&self.driver);
        let queue = move |_: &Library| {
            let most = handle.n_ctx_on(order.device);
            let n_ctx = job.n_ctx.map_or(most, |n_ctx| n_ctx.min(most));
            let max_tokens = job.max_tokens.or(handle.manifest.parameters.max_tokens);
            let seen = seen.and_then(|seen| seen.seen);
            let whole = match seen.filter(|seen| seen.model == handle.id) {
                Some(seen) => seen.whole,
                None => prompt::encode_whole(&handle, &job.prompt)?,
            };
            let n_prompt = whole.tokens.len();
            // What is too long for every device here may still be done elsewhere.
            let is_too_long = n_prompt >= n_ctx && n_ctx == most;
            let may_go = leaves.is_some() && job.overflow == Overflow::Refuse;
            let (encoded, n_answer) = match is_too_long && may_go {
                true => (
                    whole,
                    u32::try_from(max_tokens.unwrap_or(n_ctx)).unwrap_or(u32::MAX),
                ),
                false => {
                    let (prompt, overflow) = (&job.prompt, job.overflow);
                    let fit = prompt::fit(&handle, prompt, whole, overflow, n_ctx, max_tokens)?;
                    let n_answer = room(max_tokens, n_ctx, fit.tokens.len());
                    (fit, n_answer)
                }
            };
            let style = style::style(&handle, &job, &encoded, max_tokens)?;
            // What is out of range is refused before it is queued.
            style::check_sampling(&style.options.sampling, handle.tokenizer.n_vocab())?;
            let asked = Asked {
                tokens: encoded.tokens,
                answers: Some(u32::try_from(job.n).unwrap_or(u32::MAX)),
                n_ctx,
                namespace: namespace(&caller),
                request_id: job.wishes.request_id,
                arrived,
                keep_alive: job.keep_alive.map(Into::into),
                leaves,
            };
            let client = Client::Stream {
                style: Box::new(style),
                events,
            };
            let work = troika_scheduler::Work::Write {
                n: asked.answers.unwrap_or(1),
                max_tokens: n_answer,
            };
            queue(&driver, (handle, asked, client), &order, work)
        };
        let queued = self.aside(queue).await?;
        let answer = answer.guarded(queued.guard);
        if !queued.is_loaded {
            // Whoever asks for a model that does not load is told so rather than given a stream.
            let _ = queued.settled.await;
        }
        Ok(answer)
    }

    /// What would become of a job on this machine if it came now: what rules ask before it is queued. A model that is not
    /// here, or cannot read the prompt, says nothing of it.
    pub async fn outlook(&self, job: &Job, caller: &Caller) -> Outlook {
        let unknown = |host: &Self| Outlook {
            queue: host.driver.n_waiting(),
            ..Outlook::default()
        };
        let Ok(handle) = self.open(job.model.clone()).await else {
            return unknown(self);
        };
        let arrived = Instant::now();
        let order = self.order(&job.wishes, caller, Class::Interactive, arrived, &[]);
        let device = order.as_ref().ok().and_then(|order| order.device);
        let n_ctx = handle.n_ctx_on(device);
        let n_ctx = job.n_ctx.map_or(n_ctx, |asked| asked.min(n_ctx));
        let max_tokens = job.max_tokens.or(handle.manifest.parameters.max_tokens);
        let (prompt, model) = (job.prompt.clone(), handle.id);
        let encode = move |_: &Library| prompt::encode_whole(&handle, &prompt);
        let Ok(whole) = self.aside(encode).await else {
            return unknown(self);
        };
        let n_prompt = whole.tokens.len();
        let foretold = order.ok().filter(|_| n_prompt < n_ctx).map(|order| {
            let work = troika_scheduler::Work::Write {
                n: u32::try_from(job.n).unwrap_or(u32::MAX),
                max_tokens: room(max_tokens, n_ctx, n_prompt),
            };
            self.driver.outlook(&order.spec(model, n_prompt, work))
        });
        Outlook {
            prompt_tokens: Some(n_prompt),
            ttft_s: foretold.and_then(|foretold| foretold.ttft_s),
            total_s: foretold.and_then(|foretold| foretold.total_s),
            queue: foretold.map_or_else(|| self.driver.n_waiting(), |foretold| foretold.waiting),
            seen: Some(prompt::Seen { model, whole }),
        }
    }

    /// What a job's wishes and its caller come to; `places` are the endpoints that it may go to.
    pub(super) fn order(
        &self,
        wishes: &Wishes,
        caller: &Caller,
        usual: Class,
        arrived: Instant,
        places: &[Elsewhere],
    ) -> Result<Ordered, ApiError> {
        let device = wishes.device.as_deref();
        let device = device.map(|name| self.required(name, places));
        Ok(Ordered {
            class: wishes.class.or(caller.class).unwrap_or(usual),
            device: device.transpose()?,
            deadline: wishes
                .deadline
                .map(|after| self.driver.time(arrived) + after),
            owner: self.driver.owner(&namespace(caller)),
        })
    }

    /// The device or endpoint that a job requires.
    fn required(&self, name: &str, places: &[Elsewhere]) -> Result<DeviceId, ApiError> {
        if let Some(device) = self.driver.device(name) {
            return Ok(device);
        }
        let offered = places.iter().map(|place| place.device);
        let mut offered = offered.map(|device| (self.driver.remote_name(device), device));
        if let Some((_, device)) = offered.find(|(offered, _)| offered == name) {
            return Ok(device);
        }
        if name.starts_with(REMOTE) {
            let message = match places.is_empty() {
                true => format!("{name} is required, and this job may not leave this machine"),
                false => format!("{name} is required, and this job may not go there"),
            };
            return Err(ApiError::new(ErrorKind::RequiredDevice, message));
        }
        let known = self.driver.devices().iter();
        let known: Vec<_> = known.map(|device| &*device.facts.name).collect();
        let unknown = UnknownName::new("device", name, known.join(", "));
        Err(ApiError::invalid(unknown.to_string()))
    }
}
