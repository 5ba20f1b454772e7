//! From jobs to a stream of chunks: several jobs' events as one story, and each event as the interface writes it.

use axum::response::sse::Event as SseEvent;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use serde_json::Value;

use crate::dialect::Dialect;
use crate::job::{Event, Usage};
use crate::narrator::{Narrator, Source};
use crate::{Answer, ApiError, wire};

/// Writes the events of a request as the interface's chunks.
pub(super) trait Chunks: Send + 'static {
    fn write(&mut self, event: Event) -> Vec<Value>;
}

/// Tells events as chunks. `[DONE]` stands only after answers that are complete; after an error clients do not look for
/// it.
pub(super) struct Data<C>(pub(super) C);

impl<C: Chunks> Narrator for Data<C> {
    fn tell(&mut self, event: Event) -> Vec<SseEvent> {
        let done = matches!(event, Event::Done(_));
        let chunks = self.0.write(event);
        let mut lines: Vec<_> = chunks.iter().map(|it| wire::sse_event(None, it)).collect();
        lines.extend(done.then(|| SseEvent::default().data("[DONE]")));
        lines
    }

    fn fail(&mut self, error: &ApiError) -> Vec<SseEvent> {
        vec![wire::sse_event(None, &Dialect::OpenAi.body(error))]
    }
}

/// Several jobs as one: the choices are counted through, and there is one [`Event::Done`]. Dropping it cancels all.
pub(super) struct Merged {
    streams: SelectAll<BoxStream<'static, Result<Event, ApiError>>>,
    /// Jobs that are not done.
    open: usize,
    total: Usage,
}

impl Merged {
    pub(super) fn new(answers: Vec<Answer>) -> Self {
        let open = answers.len();
        let mut first_choice = 0;
        let streams = answers.into_iter().map(|answer| {
            let skip = first_choice;
            first_choice += answer.n;
            let events = stream::unfold(answer, async |mut answer| {
                let event = answer.next().await?;
                Some((event, answer))
            });
            events
                .map(move |event| event.map(|event| shifted(event, skip)))
                .boxed()
        });
        Self {
            streams: stream::select_all(streams),
            open,
            total: Usage::default(),
        }
    }
}

impl Source for Merged {
    async fn next_event(&mut self) -> Result<Event, ApiError> {
        while let Some(event) = self.streams.next().await {
            let usage = match event {
                Ok(Event::Done(usage)) => usage,
                event => return event,
            };
            crate::job::add(&mut self.total, &usage);
            self.open -= 1;
            if self.open == 0 {
                return Ok(Event::Done(self.total.clone()));
            }
        }
        // A job is gone without a word.
        Err(ApiError::internal())
    }
}

fn shifted(mut event: Event, skip: usize) -> Event {
    match &mut event {
        Event::Delta(delta) => delta.choice += skip,
        Event::Finished { choice, .. } => *choice += skip,
        Event::Placed(_) | Event::Started(_) | Event::Done(_) => {}
    }
    event
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{Delta, FinishReason};

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
        let mut merged = Merged::new(vec![first_answer, second_answer]);
        let mut deltas = Vec::new();
        let total = loop {
            match merged.next_event().await.unwrap() {
                Event::Done(total) => break total,
                event => deltas.push(event),
            }
        };
        assert!(deltas.contains(&delta(1)) && deltas.contains(&delta(3)));
        assert_eq!((deltas.len(), total.prompt_tokens), (2, 10));
        assert_eq!(total.decode, Duration::from_secs(1));
    }

    #[tokio::test]
    async fn an_error_of_one_job_is_the_error_of_all() {
        let (first, first_answer) = Answer::channel("tiny", 1);
        let (second, second_answer) = Answer::channel("tiny", 1);
        first.send(Err(ApiError::not_found("gone"))).unwrap();
        let mut merged = Merged::new(vec![first_answer, second_answer]);
        assert_eq!(merged.next_event().await, Err(ApiError::not_found("gone")));
        drop(merged);
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
        let mut merged = Merged::new(vec![answer]);
        merged.next_event().await.unwrap();
        assert_eq!(merged.next_event().await, Err(ApiError::internal()));
    }
}
