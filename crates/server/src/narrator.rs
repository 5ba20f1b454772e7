//! From a job's events to a stream of an interface's events.
//!
//! The interface says how each event is told ([`Narrator`]); what is common is here: the first event is awaited before
//! the status is chosen, so that a job that fails at once is answered with the right one, and a stream ends with its job.

use std::collections::VecDeque;

use axum::response::sse::Event as SseEvent;
use futures_util::Stream;

use crate::job::Event;
use crate::{Answer, ApiError};

/// Tells a job's events in an interface's own words.
pub(crate) trait Narrator: Send + 'static {
    /// What is said about an event of the job.
    fn tell(&mut self, event: Event) -> Vec<SseEvent>;

    /// What is said when the job fails; nothing comes after it.
    fn fail(&mut self, error: &ApiError) -> Vec<SseEvent>;
}

/// What happens first: from here on the status is 200.
///
/// # Errors
/// The job's, if it fails before anything else.
pub(crate) async fn first_event(answer: &mut Answer) -> Result<Event, ApiError> {
    answer
        .next()
        .await
        .unwrap_or_else(|| Err(ApiError::internal()))
}

/// The whole story, beginning with an event that was awaited before. Dropping it cancels the job.
pub(crate) fn narrate(
    answer: Answer,
    first: Event,
    mut narrator: impl Narrator,
) -> impl Stream<Item = SseEvent> + Send + 'static {
    let state = Story {
        done: matches!(first, Event::Done(_)),
        said: narrator.tell(first).into(),
        answer,
        narrator,
    };
    futures_util::stream::unfold(state, |mut story| async move {
        loop {
            if let Some(event) = story.said.pop_front() {
                return Some((event, story));
            }
            if story.done {
                return None;
            }
            story.go_on().await;
        }
    })
}

struct Story<N> {
    answer: Answer,
    narrator: N,
    /// Not yet read by the client.
    said: VecDeque<SseEvent>,
    done: bool,
}

impl<N: Narrator> Story<N> {
    async fn go_on(&mut self) {
        let event = first_event(&mut self.answer).await;
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
        let (sender, mut answer) = Answer::channel("tiny", 1);
        for event in events {
            sender.send(event).unwrap();
        }
        drop(sender);
        let first = first_event(&mut answer).await.unwrap();
        narrate(answer, first, Count(0)).count().await
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
}
