//! A local model that plays scripts, for tests of the cascade.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_job::{
    Answer, ApiError, Delta, Event, FinishReason, Job, Part, Placed, Report, Started, TokenLogprob,
    Usage,
};
use troika_scheduler::Account;

use super::Local;

/// What a job is answered: events, or a refusal.
pub(super) type Script = Result<Vec<Event>, ApiError>;

/// Plays one script for each job, and keeps what it was asked.
#[derive(Default)]
pub(super) struct Scripted {
    scripts: Mutex<VecDeque<Script>>,
    pub(super) jobs: Mutex<Vec<Job>>,
}

impl Scripted {
    pub(super) fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self {
            scripts: Mutex::new(scripts.into_iter().collect()),
            jobs: Mutex::default(),
        }
    }
}

impl Local for Scripted {
    fn submit(&self, job: Job) -> BoxFuture<'_, Result<Answer, ApiError>> {
        let script = self.scripts.lock().expect("sound").pop_front();
        let (sender, answer) = Answer::channel(job.model.clone(), job.n);
        self.jobs.lock().expect("sound").push(job);
        async move {
            for event in script.expect("a script for each job")? {
                sender.send(Ok(event)).expect("the answer is there");
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// A token of a text.
pub(super) fn token(text: &str, logprob: f32) -> TokenLogprob {
    TokenLogprob {
        id: 0,
        bytes: text.as_bytes().to_vec(),
        logprob,
        top: Vec::new(),
    }
}

/// A whole answer: a delta for each word, with its log-probability.
pub(super) fn says(words: &[(&str, f32)], finish: FinishReason) -> Vec<Event> {
    says_each(&[words], finish)
}

/// Several answers to one job.
pub(super) fn says_each(answers: &[&[(&str, f32)]], finish: FinishReason) -> Vec<Event> {
    let placed = Placed {
        prefill: "cpu0".to_owned(),
        decode: "cpu0".to_owned(),
    };
    let started = Started {
        prompt_tokens: 10,
        cached_tokens: 4,
    };
    let mut events = vec![Event::Placed(placed), Event::Started(started)];
    for (choice, words) in answers.iter().enumerate() {
        events.extend(words.iter().map(|(word, logprob)| {
            Event::Delta(Delta {
                choice,
                parts: vec![Part::Content((*word).to_owned())],
                tokens: vec![token(word, *logprob)],
            })
        }));
        let finish = finish.clone();
        events.push(Event::Finished { choice, finish });
    }
    let written = answers.iter().map(|words| words.len()).sum();
    events.push(Event::Done(usage(10, written)));
    events
}

/// The numbers of a job of this machine.
pub(super) fn usage(prompt_tokens: usize, completion_tokens: usize) -> Usage {
    let account = Account {
        prefill_tokens: prompt_tokens as u64,
        decode_tokens: completion_tokens as u64,
        joules: Some(2.0),
        ttft_s: Some(0.1),
        ..Account::default()
    };
    Usage {
        prompt_tokens,
        completion_tokens,
        report: Some(Box::new(Report {
            account,
            ..Report::default()
        })),
        ..Usage::default()
    }
}
