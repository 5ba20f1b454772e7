//! From jobs to a stream of chunks: several jobs' events as one stream, its first event awaited, each written down.

use std::future::ready;
use std::time::Duration;

use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use serde_json::Value;

use super::usage;
use crate::dialect::Dialect;
use crate::job::{Event, Usage};
use crate::{Answer, ApiError, ErrorKind, wire};

/// The events of a request. The last is [`Event::Done`] or an error.
pub(super) type Events = BoxStream<'static, Result<Event, ApiError>>;

/// How long an error may still change the status. After that the stream begins, so that the connection does not look
/// dead while a long prompt is read, and an error is an event of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the events of a request as the interface's chunks.
pub(super) trait Chunks: Send + 'static {
    fn write(&mut self, event: Event) -> Vec<Value>;
}

/// Streams the answers of a request's jobs.
///
/// # Errors
/// If a job fails before anything is sent.
pub(super) async fn respond(
    answers: Vec<Answer>,
    chunks: impl Chunks,
) -> Result<Response, ApiError> {
    let events = begun(merged(answers), PATIENCE).await?;
    let lines = events.scan(chunks, |chunks, event| ready(Some(lines(chunks, event))));
    Ok(wire::sse(lines.flat_map(stream::iter)))
}

/// `[DONE]` stands only after answers that are complete; after an error clients do not look for it.
fn lines(chunks: &mut impl Chunks, event: Result<Event, ApiError>) -> Vec<SseEvent> {
    match event {
        Ok(event) => {
            let done = matches!(event, Event::Done(_));
            let chunks = chunks.write(event);
            let mut lines: Vec<_> = chunks.iter().map(|it| wire::sse_event(None, it)).collect();
            lines.extend(done.then(|| SseEvent::default().data("[DONE]")));
            lines
        }
        Err(error) => vec![wire::sse_event(None, &Dialect::OpenAi.body(&error))],
    }
}

/// Waits for the first event, for as long as `patience` lasts.
async fn begun(mut events: Events, patience: Duration) -> Result<Events, ApiError> {
    match tokio::time::timeout(patience, events.next()).await {
        Ok(Some(Err(error))) => Err(error),
        Ok(Some(first)) => Ok(stream::once(ready(first)).chain(events).boxed()),
        Ok(None) | Err(_) => Ok(events),
    }
}

/// Several jobs' events as one stream: the choices are counted through, and there is one [`Event::Done`]. The first error
/// ends it, which drops and so cancels the other jobs.
fn merged(answers: Vec<Answer>) -> Events {
    let merged = Merged {
        open: answers.len(),
        streams: numbered(answers),
        total: Usage::default(),
    };
    stream::unfold(Some(merged), async |merged| {
        let mut merged = merged?;
        let event = merged.next().await;
        let goes_on = matches!(&event, Ok(event) if !matches!(event, Event::Done(_)));
        Some((event, goes_on.then_some(merged)))
    })
    .boxed()
}

fn numbered(answers: Vec<Answer>) -> SelectAll<Events> {
    let mut first_choice = 0;
    stream::select_all(answers.into_iter().map(|answer| {
        let skip = first_choice;
        first_choice += answer.n;
        let events = stream::unfold(answer, async |mut answer| {
            let event = answer.next().await?;
            Some((event, answer))
        });
        events
            .map(move |event| event.map(|event| shifted(event, skip)))
            .boxed()
    }))
}

fn shifted(mut event: Event, skip: usize) -> Event {
    match &mut event {
        Event::Delta(delta) => delta.choice += skip,
        Event::Finished { choice, .. } => *choice += skip,
        Event::Started(_) | Event::Done(_) => {}
    }
    event
}

struct Merged {
    streams: SelectAll<Events>,
    /// Jobs that are not done.
    open: usize,
    total: Usage,
}

impl Merged {
    async fn next(&mut self) -> Result<Event, ApiError> {
        while let Some(event) = self.streams.next().await {
            let Event::Done(usage) = event? else {
                return event;
            };
            usage::add(&mut self.total, &usage);
            self.open -= 1;
            if self.open == 0 {
                return Ok(Event::Done(self.total.clone()));
            }
        }
        Err(ApiError::new(
            ErrorKind::Internal,
            "the job ended without an answer; the server's log says why",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Delta, FinishReason, Started};

    fn delta(choice: usize) -> Event {
        Event::Delta(Delta {
            choice,
            ..Delta::default()
        })
    }

    #[tokio::test]
    async fn choices_are_counted_through_and_tokens_added_up() {
        let (first, first_answer) = Answer::channel("tiny", 2);
        let (second, second_answer) = Answer::channel("tiny", 2);
        let usage = Usage {
            prompt_tokens: 5,
            decode: Duration::from_secs(1),
            ..Usage::default()
        };
        for sender in [first, second] {
            sender.send(Ok(delta(1))).unwrap();
            sender.send(Ok(Event::Done(usage.clone()))).unwrap();
        }
        let events: Vec<_> = merged(vec![first_answer, second_answer]).collect().await;
        assert!(events.contains(&Ok(delta(1))) && events.contains(&Ok(delta(3))));
        let Some(Ok(Event::Done(total))) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!((events.len(), total.prompt_tokens), (3, 10));
        assert_eq!(total.decode, Duration::from_secs(1));
    }

    #[tokio::test]
    async fn an_error_cancels_the_other_jobs() {
        let (first, first_answer) = Answer::channel("tiny", 1);
        let (second, second_answer) = Answer::channel("tiny", 1);
        first.send(Err(ApiError::internal())).unwrap();
        let events: Vec<_> = merged(vec![first_answer, second_answer]).collect().await;
        assert_eq!(events, [Err(ApiError::internal())]);
        assert!(second.is_closed(), "nobody listens to the second job");
    }

    #[tokio::test]
    async fn a_job_that_breaks_off_is_an_error() {
        let (sender, answer) = Answer::channel("tiny", 1);
        let finish = FinishReason::Length;
        sender
            .send(Ok(Event::Finished { choice: 0, finish }))
            .unwrap();
        drop(sender);
        let events: Vec<_> = merged(vec![answer]).collect().await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].as_ref().unwrap_err().kind, ErrorKind::Internal);
    }

    #[tokio::test]
    async fn a_stream_begins_when_patience_ends() {
        let (sender, answer) = Answer::channel("tiny", 1);
        let events = begun(merged(vec![answer]), Duration::ZERO).await;
        let mut events = events.expect("no error yet");
        let started = Event::Started(Started::default());
        sender.send(Ok(started.clone())).unwrap();
        assert_eq!(events.next().await, Some(Ok(started)));
        sender.send(Err(ApiError::internal())).unwrap();
        assert_eq!(events.next().await, Some(Err(ApiError::internal())));
        assert_eq!(events.next().await, None);
    }
}
