//! A job in progress, as a stream of what happens.

use std::collections::VecDeque;
use std::fmt;

use tokio::sync::mpsc;

use crate::{ApiError, Choice, Completed, Delta, ErrorKind, Event, FinishReason, Part};

/// A job in progress. Dropping it cancels the job.
pub struct Answer {
    /// The model's name, as installed.
    pub model: String,
    /// How many answers will come.
    pub n: usize,
    events: mpsc::UnboundedReceiver<Result<Event, ApiError>>,
    /// What was waited for and not yet handed on.
    first: VecDeque<Result<Event, ApiError>>,
    observer: Option<Observer>,
    guard: Option<Box<dyn Send>>,
}

type Observer = Box<dyn FnMut(&mut Result<Event, ApiError>) + Send>;

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("model", &self.model)
            .field("n", &self.n)
            .finish_non_exhaustive()
    }
}

/// The other end of an [`Answer`].
pub type EventSender = mpsc::UnboundedSender<Result<Event, ApiError>>;

impl Answer {
    /// A job's two ends. The channel has no limit of its own: an answer is never longer than the context.
    pub fn channel(model: impl Into<String>, n: usize) -> (EventSender, Self) {
        let (sender, events) = mpsc::unbounded_channel();
        let model = model.into();
        let answer = Self {
            model,
            n,
            events,
            first: VecDeque::new(),
            observer: None,
            guard: None,
        };
        (sender, answer)
    }

    /// Keeps what has to be dropped when nobody waits any more.
    #[must_use]
    pub fn guarded(mut self, guard: impl Send + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// Shows everything that happens to `observer`, who may add to it, before it is handed on.
    #[must_use]
    pub fn observed(
        mut self,
        observer: impl FnMut(&mut Result<Event, ApiError>) + Send + 'static,
    ) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Waits until more happens than that it is known where the job runs. [`next`](Self::next) still hands all of it on: so
    /// an error that comes before the answer can be told as one.
    ///
    /// # Errors
    /// The job's, if it fails before anything else happens.
    pub async fn begun(&mut self) -> Result<(), ApiError> {
        while self
            .first
            .iter()
            .all(|event| matches!(event, Ok(Event::Placed(_))))
        {
            match self.events.recv().await {
                Some(event) => self.first.push_back(event),
                None => break,
            }
        }
        match self.first.back() {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// What happens next; `None` after [`Event::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        let mut event = match self.first.pop_front() {
            Some(event) => event,
            None => self.events.recv().await?,
        };
        if let Some(observer) = &mut self.observer {
            observer(&mut event);
        }
        Some(event)
    }

    /// Waits for the whole of it.
    ///
    /// # Errors
    /// The job's, if it failed.
    pub async fn collect(mut self) -> Result<Completed, ApiError> {
        let mut choices = vec![None; self.n];
        let blank = || Choice {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            finish: FinishReason::Length,
        };
        while let Some(event) = self.next().await {
            match event? {
                Event::Placed(_) | Event::Started(_) => {}
                Event::Delta(delta) => {
                    if let Some(slot) = choices.get_mut(delta.choice) {
                        add(slot.get_or_insert_with(blank), delta);
                    }
                }
                Event::Finished { choice, finish } => {
                    if let Some(slot) = choices.get_mut(choice) {
                        slot.get_or_insert_with(blank).finish = finish;
                    }
                }
                Event::Done(usage) => {
                    let choices = choices.into_iter().map(|c| c.unwrap_or_else(blank));
                    return Ok(Completed {
                        choices: choices.collect(),
                        usage,
                    });
                }
            }
        }
        Err(ApiError::new(
            ErrorKind::Internal,
            "the job ended without an answer; the server's log says why",
        ))
    }
}

fn add(choice: &mut Choice, delta: Delta) {
    for part in delta.parts {
        match part {
            Part::Content(text) => choice.content.push_str(&text),
            Part::Reasoning(text) => choice.reasoning.push_str(&text),
            Part::ToolCall(call) => choice.tool_calls.push(call),
        }
    }
    choice.tokens.extend(delta.tokens);
}
