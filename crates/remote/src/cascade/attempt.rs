//! One try of the local model: its answer, held back, and how sure it is.

use std::borrow::Cow;

use futures_util::future;
use serde_json::Value;
use troika_job::{
    Answer, ApiError, Choice, Completed, Delta, ErrorKind, Event, EventSender, FinishReason, Job,
    Part, Report, TokenLogprob, Usage,
};
use troika_scheduler::Account;

use super::likeness::{likeness, same_json};
use super::tally::Tally;
use super::{Local, Sureness, verify};
use crate::config::{Cascade, Judge};

/// The temperature of samples, unless the job's own is higher: at 0 they would all be the same, however unsure the model.
const SAMPLE_TEMPERATURE: f32 = 0.7;

/// An answer of the local model, of which nobody has heard yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// What the client would be told, in order: from [`Event::Started`] on, without [`Event::Done`]. Tokens are reported only
    /// if the job asked for them.
    pub events: Vec<Event>,
    /// The answers, with their tokens.
    pub choices: Vec<Choice>,
    /// The numbers of these answers. The report is of everything that was done, samples and verifier included.
    pub usage: Usage,
    /// How sure they are.
    pub sureness: Sureness,
    /// It was broken off, for it could not become sure any more. The answers are not complete.
    pub is_cut: bool,
}

/// Has the local model answer, and judges how sure it is.
///
/// With a `threshold`, an answer that cannot reach it any more is broken off: what tokens cost so far is certain, and the
/// rest of an answer of at most [`Job::max_tokens`] cannot make up for it. This needs that limit, and [`Judge::Logprob`].
/// `placed` is told where the job runs, and nothing else.
///
/// # Errors
/// The job's. What keeps the judge from judging is no error, but [`Sureness::Unknown`].
pub async fn attempt(
    cascade: &Cascade,
    local: &dyn Local,
    job: &Job,
    threshold: Option<f64>,
    placed: Option<&EventSender>,
) -> Result<Attempt, ApiError> {
    let mut asked = job.clone();
    if cascade.judge == Judge::Logprob {
        asked.top_logprobs = Some(job.top_logprobs.unwrap_or(0));
    }
    let limits = Limits {
        threshold: threshold.filter(|_| cascade.judge == Judge::Logprob),
        max_tokens: job.max_tokens,
        shows_tokens: job.top_logprobs.is_some(),
    };
    let answer = async { listen(local.submit(asked).await?, limits, placed).await };
    let samples = async {
        match cascade.judge {
            Judge::Samples => Some(sample(cascade, local, job).await),
            Judge::Logprob | Judge::Verifier => None,
        }
    };
    // Side by side: they read the same prompt, and are written in the same batches.
    let (mut attempt, samples) = {
        let (answer, samples) = future::join(answer, samples).await;
        (answer?, samples)
    };
    if attempt.is_cut {
        return Ok(attempt);
    }
    match (cascade.judge, samples) {
        (Judge::Samples, Some(Ok(samples))) => {
            attempt.agree(&samples.choices);
            attempt.work(samples.usage.report);
        }
        (Judge::Samples, Some(Err(error))) => {
            let why = format!("its answers could not be compared: {error}");
            attempt.sureness = Sureness::Unknown(why);
        }
        (Judge::Verifier, _) => {
            let asked = attempt.choices.iter();
            let asked = asked.map(|choice| verify::verify(local, job, choice));
            let verdicts = future::join_all(asked).await;
            attempt.sureness = least(verdicts.iter().map(|(sureness, _)| sureness.clone()));
            for (_, report) in verdicts {
                attempt.work(report);
            }
        }
        (Judge::Logprob | Judge::Samples, _) => {}
    }
    if job.max_tokens.is_none() {
        attempt.doubt_unfinished();
    }
    Ok(attempt)
}

impl Attempt {
    /// How much other answers are like these.
    fn agree(&mut self, samples: &[Choice]) {
        let agreement = |choice: &Choice| {
            let alike = samples.iter().map(|sample| alike(choice, sample));
            match samples.len() {
                0 => Sureness::Unknown("there are no other answers to compare it with".to_owned()),
                n => Sureness::Score(alike.sum::<f64>() / n as f64),
            }
        };
        self.sureness = least(self.choices.iter().map(agreement));
    }

    /// Counts more work for the same answers.
    fn work(&mut self, report: Option<Box<Report>>) {
        let Some(report) = report else { return };
        match &mut self.usage.report {
            Some(own) => own.add(&report),
            none => *none = Some(report),
        }
    }

    /// An answer that the end of the context cut off is none, however likely its words.
    fn doubt_unfinished(&mut self) {
        let is_cut_off = |choice: &Choice| choice.finish == FinishReason::Length;
        if self.choices.iter().any(is_cut_off) {
            let why = "the end of the context cut the answer off".to_owned();
            self.sureness = Sureness::Unknown(why);
        }
    }
}

/// The least sure of several answers.
fn least(all: impl Iterator<Item = Sureness>) -> Sureness {
    let least = all.reduce(Sureness::least);
    least.unwrap_or_else(|| Sureness::Unknown("there is no answer".to_owned()))
}

/// How much two answers are alike. Calls are the same or not, as is JSON.
fn alike(one: &Choice, other: &Choice) -> f64 {
    if one.tool_calls.is_empty() && other.tool_calls.is_empty() {
        return likeness(&one.content, &other.content);
    }
    let same = one.tool_calls.len() == other.tool_calls.len()
        && one.tool_calls.iter().zip(&other.tool_calls).all(|(a, b)| {
            let (a, b) = (&a.function, &b.function);
            a.name == b.name && same_json(&parsed(&a.arguments), &parsed(&b.arguments))
        });
    f64::from(u8::from(same))
}

/// Arguments of a call as the object that they are, if they are not text that no JSON can be made of.
fn parsed(arguments: &Value) -> Cow<'_, Value> {
    let text = arguments.as_str();
    let value = text.and_then(|text| serde_json::from_str(text).ok());
    value.map_or(Cow::Borrowed(arguments), Cow::Owned)
}

/// Further answers to the same job.
async fn sample(cascade: &Cascade, local: &dyn Local, job: &Job) -> Result<Completed, ApiError> {
    let mut samples = job.clone();
    samples.n = cascade.samples.max(1);
    samples.top_logprobs = None;
    let own = samples.sampling.temperature.unwrap_or(SAMPLE_TEMPERATURE);
    samples.sampling.temperature = Some(own.max(SAMPLE_TEMPERATURE));
    // Answers take the seeds from the job's on.
    let taken = job.n.max(1) as u64;
    let seed = samples.sampling.seed;
    samples.sampling.seed = seed.map(|seed| seed.wrapping_add(taken));
    local.submit(samples).await?.collect().await
}

/// What to break off, and what to leave out.
#[derive(Clone, Copy)]
struct Limits {
    threshold: Option<f64>,
    max_tokens: Option<usize>,
    shows_tokens: bool,
}

/// Listens to an answer to its end, or until it is lost.
async fn listen(
    mut answer: Answer,
    limits: Limits,
    placed: Option<&EventSender>,
) -> Result<Attempt, ApiError> {
    let n = answer.n;
    let mut heard = Heard::new(n);
    while let Some(event) = answer.next().await {
        match event? {
            Event::Placed(place) => {
                if let Some(client) = placed {
                    // A client that is gone is noticed by whoever reads the other end.
                    let _ = client.send(Ok(Event::Placed(place)));
                }
            }
            Event::Done(usage) => return Ok(heard.done(usage)),
            event => heard.event(event, limits),
        }
        if let (Some(threshold), Some(max_tokens)) = (limits.threshold, limits.max_tokens)
            && heard
                .tallies
                .iter()
                .any(|t| t.is_lost(threshold, max_tokens))
        {
            return Ok(heard.cut());
        }
    }
    Err(ApiError::new(
        ErrorKind::Internal,
        "the job ended without an answer; the server's log says why",
    ))
}

/// What was heard of an answer so far.
struct Heard {
    events: Vec<Event>,
    choices: Vec<Choice>,
    tallies: Vec<Tally>,
    usage: Usage,
}

impl Heard {
    fn new(n: usize) -> Self {
        let blank = Choice {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            finish: FinishReason::Length,
        };
        Self {
            events: Vec::new(),
            choices: vec![blank; n],
            tallies: vec![Tally::default(); n],
            usage: Usage::default(),
        }
    }

    fn event(&mut self, event: Event, limits: Limits) {
        match event {
            Event::Delta(mut delta) => {
                self.delta(&delta);
                if !limits.shows_tokens {
                    delta.tokens = Vec::new();
                }
                if !delta.parts.is_empty() || !delta.tokens.is_empty() {
                    self.events.push(Event::Delta(delta));
                }
                return;
            }
            Event::Finished { choice, ref finish } => {
                if let Some(slot) = self.choices.get_mut(choice) {
                    slot.finish = finish.clone();
                }
            }
            Event::Started(ref started) => {
                self.usage.prompt_tokens = started.prompt_tokens;
                self.usage.cached_tokens = started.cached_tokens;
            }
            Event::Placed(_) | Event::Done(_) => {}
        }
        self.events.push(event);
    }

    fn delta(&mut self, delta: &Delta) {
        let (Some(choice), Some(tally)) = (
            self.choices.get_mut(delta.choice),
            self.tallies.get_mut(delta.choice),
        ) else {
            return;
        };
        tally.add(delta);
        for part in &delta.parts {
            match part {
                Part::Content(text) => choice.content.push_str(text),
                Part::Reasoning(text) => choice.reasoning.push_str(text),
                Part::ToolCall(call) => choice.tool_calls.push(call.clone()),
            }
        }
        choice.tokens.extend(delta.tokens.iter().map(bare));
        self.usage.completion_tokens += delta.tokens.len();
    }

    /// The answers are complete.
    fn done(self, usage: Usage) -> Attempt {
        Attempt {
            sureness: self.sureness(),
            events: self.events,
            choices: self.choices,
            usage,
            is_cut: false,
        }
    }

    /// The answers are broken off. Nobody adds up what that took, so its report has what was counted here.
    fn cut(mut self) -> Attempt {
        let read = self
            .usage
            .prompt_tokens
            .saturating_sub(self.usage.cached_tokens);
        let account = Account {
            prefill_tokens: read as u64,
            decode_tokens: self.usage.completion_tokens as u64,
            ..Account::default()
        };
        self.usage.report = Some(Box::new(Report {
            account,
            ..Report::default()
        }));
        Attempt {
            sureness: self.sureness(),
            events: Vec::new(),
            choices: self.choices,
            usage: self.usage,
            is_cut: true,
        }
    }

    fn sureness(&self) -> Sureness {
        let scores = self.tallies.iter().map(|tally| match tally.mean() {
            Some(mean) => Sureness::Score(mean),
            None => Sureness::Unknown("there are no tokens to judge by".to_owned()),
        });
        least(scores)
    }
}

/// A token without its rivals, which nobody here looks at.
fn bare(token: &TokenLogprob) -> TokenLogprob {
    TokenLogprob {
        top: Vec::new(),
        ..token.clone()
    }
}
