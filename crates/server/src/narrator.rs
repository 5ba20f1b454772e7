//! From a job's events to a stream of an interface's events.
//!
//! The interface says how each event is told ([`Narrator`]); what is common is here: the first event is awaited before
//! the head is written, so that a job that fails at once is answered with the right status and the head can say where the
//! job runs; and a stream ends with its job.

use std::collections::VecDeque;
use std::time::Duration;

use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures_util::Stream;
use tokio::time::Instant;

use crate::job::Event;
use crate::wire::sse;
use crate::{Answer, ApiError};

/// How long an error may still change the status. After that the stream begins, so that the connection does not look
/// dead while a long prompt is read, and an error is an event of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a job that is not even placed: it waits for others, which may take long, and fails seldom.
const PATIENCE_QUEUED: Duration = Duration::from_secs(2);

/// Tells a job's events in an interface's own words.
pub(crate) trait Narrator: Send + 'static {
    /// What is said about an event of the job.
    fn tell(&mut self, event: Event) -> Vec<SseEvent>;

    /// What is said when the job fails; nothing comes after it.
    fn fail(&mut self, error: &ApiError) -> Vec<SseEvent>;
}

/// Where events come from: a job, or several that are told as one. They end with [`Event::Done`] or an error.
pub(crate) trait Source: Send + 'static {
    /// What happens next. Nothing is lost if the future is dropped.
    fn next_event(&mut self) -> impl Future<Output = Result<Event, ApiError>> + Send;
}

impl Source for Answer {
    async fn next_event(&mut self) -> Result<Event, ApiError> {
        next_event(self).await
    }
}

/// What happens next.
///
/// # Errors
/// The job's, or that it is gone without a word.
pub(crate) async fn next_event(answer: &mut Answer) -> Result<Event, ApiError> {
    let event = answer.next().await;
    event.unwrap_or_else(|| Err(ApiError::internal()))
}

/// The first event but for placements, which are told in the head; `None` if there is none before patience ends.
///
/// # Errors
/// The job's.
pub(crate) async fn first_event(source: &mut impl Source) -> Result<Option<Event>, ApiError> {
    let begun = Instant::now();
    let mut patience = PATIENCE_QUEUED;
    loop {
        match tokio::time::timeout_at(begun + patience, source.next_event()).await {
            Err(_) => return Ok(None),
            Ok(Ok(Event::Placed(_))) => patience = PATIENCE,
            Ok(event) => return event.map(Some),
        }
    }
}

/// The whole story as a stream. Dropping it cancels the job.
///
/// # Errors
/// If the job fails before anything is said.
pub(crate) async fn narrate(
    source: impl Source,
    narrator: impl Narrator,
) -> Result<Response, ApiError> {
    Ok(sse(story(source, narrator).await?))
}

async fn story(
    source: impl Source,
    narrator: impl Narrator,
) -> Result<impl Stream<Item = SseEvent> + Send + 'static, ApiError> {
    let mut story = Story {
        source,
        narrator,
        said: VecDeque::new(),
        done: false,
    };
    if let Some(first) = first_event(&mut story.source).await? {
        story.go_on(Ok(first));
    }
    Ok(futures_util::stream::unfold(
        story,
        |mut story| async move {
            loop {
                if let Some(event) = story.said.pop_front() {
                    return Some((event, story));
                }
                if story.done {
                    return None;
                }
                let event = story.source.next_event().await;
                story.go_on(event);
            }
        },
    ))
}

struct Story<S, N> {
    source: S,
    narrator: N,
    /// Not yet read by the client.
    said: VecDeque<SseEvent>,
    done: bool,
}

impl<S, N: Narrator> Story<S, N> {
    fn go_on(&mut self, event: Result<Event, ApiError>) {
        self.done = matches!(event, Ok(Event::Done(_)) | Err(_));
        self.said = match event {
            Ok(event) => self.narrator.tell(event).into(),
            Err(error) => self.narrator.fail(&error).into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::job::Usage;

    struct Count(usize);

    impl Narrator for Count {
        fn tell(&mut self, _: Event) -> Vec<SseEvent> {
            self.0 += 1;
            vec![SseEvent::default(); self.0 - 1]
        }

        fn fail(&mut self, _: &ApiError) -> Vec<SseEvent> {
            vec![SseEvent::default(); 100]
        }
    }

    async fn length(events: Vec<Result<Event, ApiError>>) -> usize {
        let (sender, answer) = Answer::channel("tiny", 1);
        for event in events {
            sender.send(event).unwrap();
        }
        drop(sender);
        let story = story(answer, Count(0)).await.unwrap();
        story.count().await
    }

    #[tokio::test]
    async fn every_event_is_told_until_the_job_ends() {
        let delta = || Ok(Event::Delta(Default::default()));
        let done = || Ok(Event::Done(Usage::default()));
        assert_eq!(length(vec![delta(), delta(), done(), delta()]).await, 3);
        assert_eq!(length(vec![done(), delta()]).await, 0);
        let error = Err(ApiError::internal());
        assert_eq!(length(vec![delta(), delta(), error, delta()]).await, 101);
        // A job that is gone without a word.
        assert_eq!(length(vec![delta()]).await, 100);
    }

    #[tokio::test]
    async fn an_error_at_once_is_no_stream() {
        let (sender, answer) = Answer::channel("tiny", 1);
        sender.send(Err(ApiError::not_found("gone"))).unwrap();
        let error = narrate(answer, Count(0)).await.unwrap_err();
        assert_eq!(error, ApiError::not_found("gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_begins_when_patience_ends() {
        for (placed, patience) in [(false, PATIENCE_QUEUED), (true, PATIENCE)] {
            let (sender, answer) = Answer::channel("tiny", 1);
            if placed {
                sender.send(Ok(Event::Placed(Default::default()))).unwrap();
            }
            let begun = Instant::now();
            let story = story(answer, Count(0)).await.expect("no error yet");
            assert_eq!(begun.elapsed(), patience);
            sender.send(Err(ApiError::internal())).unwrap();
            assert_eq!(story.count().await, 100);
        }
    }

    #[tokio::test]
    async fn an_error_after_the_placement_is_still_a_status() {
        let (sender, answer) = Answer::channel("tiny", 1);
        sender.send(Ok(Event::Placed(Default::default()))).unwrap();
        sender.send(Err(ApiError::not_found("gone"))).unwrap();
        let error = narrate(answer, Count(0)).await.unwrap_err();
        assert_eq!(error, ApiError::not_found("gone"));
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_cancels_the_job() {
        let (sender, answer) = Answer::channel("tiny", 1);
        sender.send(Ok(Event::Delta(Default::default()))).unwrap();
        let response = narrate(answer, Count(0)).await.unwrap();
        assert!(!sender.is_closed());
        drop(response);
        assert!(sender.is_closed());
    }
}
