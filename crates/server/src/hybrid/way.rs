//! The ways of a job that may leave: to an endpoint first, to this machine first, or wherever the scheduler says.
//!
//! All of them begin with a [`Public`] job, which only the judge makes.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use troika_remote::cascade::{self, Local};
use troika_remote::config::Action;
use troika_remote::{Leave, Public, RemoteIndex, SendError, Tag};

use super::courier::offers;
use super::current::Current;
use crate::host::{Errand, Outlook};
use crate::job::Failed;
use crate::job::{Caller, Event, Job, Usage};
use crate::{Answer, ApiError, Backend, EventSender, Host};

/// A job that may leave, and what it takes to send it or to do it here.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) host: Arc<Host>,
    pub(super) now: Arc<Current>,
    pub(super) job: Arc<Public<Job>>,
    pub(super) leave: Leave,
    pub(super) caller: Caller,
    pub(super) prompt_tokens: Option<usize>,
}

impl Way {
    /// Goes the way that the rule says.
    ///
    /// # Errors
    /// As [`Backend::submit`].
    pub(super) async fn go(self, outlook: Outlook) -> Result<Answer, ApiError> {
        match self.leave.action {
            Action::Compete if outlook.prompt_tokens.is_some() => self.compete(outlook).await,
            action => self.in_turn(action, outlook).await,
        }
    }

    /// The scheduler chooses among devices and endpoints.
    async fn compete(self, outlook: Outlook) -> Result<Answer, ApiError> {
        let errand = Errand {
            offers: offers(&self),
            courier: Arc::new(self.clone()),
        };
        let (job, caller) = (self.job.stay(), self.caller);
        let host = self.host;
        host.submit_with(job, caller, Some(outlook), Some(errand))
            .await
    }

    /// One place after the other, until one does it. What nobody here can do competes with nobody.
    async fn in_turn(self, action: Action, outlook: Outlook) -> Result<Answer, ApiError> {
        let job = self.job.stay();
        let (events, answer) = Answer::channel(job.model, job.n);
        let task = tokio::spawn(async move {
            let done = match action {
                Action::Fallback => self.here_first(outlook, &events).await,
                Action::Cascade => self.cascade(&events).await,
                Action::Remote | Action::Compete | Action::LocalOnly => {
                    self.there_first(outlook, &events).await
                }
            };
            // A client that has left does not listen.
            let _ = events.send(done.map(Event::Done).map_err(|failed| failed.error));
        });
        let mut answer = answer.guarded(Abort(task));
        answer.begun().await?;
        Ok(answer)
    }

    async fn there_first(&self, outlook: Outlook, events: &EventSender) -> Result<Usage, Failed> {
        match self.send(events).await {
            Err(failed) if !failed.said => {
                let (rule, why) = (&self.leave.rule, &failed.error);
                tracing::info!(rule, %why, "no remote endpoint took a job; it is done here");
                let here = self.here(outlook, events).await;
                here.map_err(|here| failed.and_then("and this machine did not do it either", here))
            }
            done => done,
        }
    }

    async fn here_first(&self, outlook: Outlook, events: &EventSender) -> Result<Usage, Failed> {
        match self.here(outlook, events).await {
            Err(failed) if !failed.said && failed.error.kind.may_do_better_elsewhere() => {
                let (rule, why) = (&self.leave.rule, &failed.error);
                tracing::info!(rule, %why, "a job is not done here; remote endpoints are asked");
                let there = self.send(events).await;
                there.map_err(|there| failed.and_then("and no remote endpoint did it", there))
            }
            done => done,
        }
    }

    async fn cascade(&self, events: &EventSender) -> Result<Usage, Failed> {
        let settings = &self.now.loaded.config.cascade;
        let here = Here {
            host: &self.host,
            caller: &self.caller,
        };
        let escalate = |events: EventSender| async move { self.send(&events).await }.boxed();
        let ran = cascade::run(settings, &here, self.job.stay(), events, escalate).await;
        match ran {
            Ok(ran) => {
                tracing::debug!(rule = self.leave.rule, verdict = ?ran.verdict, "a cascade's answer");
                Ok(ran.usage)
            }
            // What it is told of, it has told nobody else.
            Err(error) => Err(Failed { error, said: true }),
        }
    }

    /// To the first endpoint that takes it.
    async fn send(&self, events: &EventSender) -> Result<Usage, Failed> {
        let mut last = None::<Failed>;
        for &to in &self.leave.to {
            match self.send_to(to, events).await {
                Err(failed) if !failed.said => {
                    last = Some(match last {
                        Some(last) => last.and_then("then", failed),
                        None => failed,
                    });
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Failed::unsaid(ApiError::internal())))
    }

    /// To one endpoint.
    pub(super) async fn send_to(
        &self,
        to: RemoteIndex,
        events: &EventSender,
    ) -> Result<Usage, Failed> {
        let sent = match self.leave.redact.is_empty() {
            true => {
                let tag = self.tag();
                self.now.remotes.send(to, &self.job, &tag, events).await
            }
            false => self.send_redacted(to, events).await?,
        };
        sent.map_err(Failed::from)
    }

    /// The same, with what the rule names taken out on the way there and put back on the way home.
    async fn send_redacted(
        &self,
        to: RemoteIndex,
        events: &EventSender,
    ) -> Result<Result<Usage, SendError>, Failed> {
        let redacted = self.now.redactor.apply(&self.job, &self.leave.redact);
        let redacted =
            redacted.map_err(|why| Failed::unsaid(ApiError::unsupported(why.to_string())))?;
        let tag = Tag {
            redacted: redacted.map.counts().clone(),
            ..self.tag()
        };
        let (raw, mut answered) = mpsc::unbounded_channel();
        let mut restorer = redacted.map.restore();
        let send = async {
            let sent = self.now.remotes.send(to, &redacted.job, &tag, &raw).await;
            drop(raw);
            sent
        };
        let restore = async {
            while let Some(Ok(event)) = answered.recv().await {
                for event in restorer.event(event) {
                    let _ = events.send(Ok(event));
                }
            }
            for event in restorer.end() {
                let _ = events.send(Ok(event));
            }
        };
        Ok(tokio::join!(send, restore).0)
    }

    fn tag(&self) -> Tag {
        Tag {
            request_id: self.job.get().wishes.request_id.clone(),
            rule: self.leave.rule.clone(),
            prompt_tokens: self.prompt_tokens,
            ..Tag::default()
        }
    }

    /// On this machine; `outlook` has the prompt as its model reads it.
    async fn here(&self, outlook: Outlook, events: &EventSender) -> Result<Usage, Failed> {
        let (job, caller) = (self.job.stay(), self.caller.clone());
        let submitted = self.host.submit_with(job, caller, Some(outlook), None);
        let mut answer = submitted.await.map_err(Failed::unsaid)?;
        let mut said = false;
        while let Some(event) = answer.next().await {
            match event {
                Ok(Event::Done(usage)) => return Ok(usage),
                Ok(event) => {
                    said |= !matches!(event, Event::Placed(_));
                    let _ = events.send(Ok(event));
                }
                Err(error) => return Err(Failed { error, said }),
            }
        }
        Err(Failed {
            error: ApiError::internal(),
            said,
        })
    }
}

/// The models on this machine, for a cascade.
struct Here<'w> {
    host: &'w Host,
    caller: &'w Caller,
}

impl Local for Here<'_> {
    fn submit(&self, job: Job) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.host.submit(job, self.caller.clone())
    }
}

/// Ends a task when nobody waits for it any more.
struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}
