//! The cascade as a client meets it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_engine::chat::ChatMessage;
use troika_job::{
    Answer, ApiError, ChatPrompt, Delta, ErrorKind, Event, EventSender, Failed, FinishReason, Job,
    Part, Prompt, Report, Sent, TokenLogprob, Usage,
};

use super::testing::{Script, Scripted, says, says_each, token};
use super::*;
use crate::config::{Cascade, Judge};

const END: FinishReason = FinishReason::EndOfText;

fn cascade(judge: Judge, threshold: f64) -> Cascade {
    Cascade {
        judge,
        thresholds: BTreeMap::from([("m".to_owned(), threshold)]),
        samples: 2,
    }
}

fn job() -> Job {
    Job {
        model: "m".to_owned(),
        prompt: Prompt::Chat(Box::new(ChatPrompt {
            messages: vec![ChatMessage::new("user", "What is it?")],
            ..ChatPrompt::default()
        })),
        n: 1,
        ..Job::default()
    }
}

/// What the remote does: says this, or fails.
struct Remote {
    result: Result<&'static str, Failed>,
    calls: Mutex<usize>,
}

impl Remote {
    fn new(result: Result<&'static str, Failed>) -> Self {
        Self {
            result,
            calls: Mutex::new(0),
        }
    }

    fn escalate(&self, events: EventSender) -> BoxFuture<'_, Result<Usage, Failed>> {
        *self.calls.lock().expect("sound") += 1;
        async move {
            let text = self.result.clone()?;
            let delta = Delta {
                parts: vec![Part::Content(text.to_owned())],
                ..Delta::default()
            };
            let _ = events.send(Ok(Event::Delta(delta)));
            let _ = events.send(Ok(Event::Finished {
                choice: 0,
                finish: END,
            }));
            let sent = Sent {
                to: "big".to_owned(),
                rule: "r".to_owned(),
                bytes_out: 100,
                bytes_in: 50,
                cost: None,
            };
            let report = Report {
                sent: vec![sent],
                ..Report::default()
            };
            Ok(Usage {
                prompt_tokens: 12,
                completion_tokens: 3,
                report: Some(Box::new(report)),
                ..Usage::default()
            })
        }
        .boxed()
    }
}

/// What came of a job, and what its client heard.
struct Played {
    ran: Result<Ran, ApiError>,
    heard: Vec<Event>,
    escalated: usize,
    jobs: Vec<Job>,
}

impl Played {
    fn text(&self) -> String {
        let deltas = self.heard.iter().filter_map(|event| match event {
            Event::Delta(delta) => Some(&delta.parts),
            _ => None,
        });
        let parts = deltas.flatten().map(|part| match part {
            Part::Content(text) => &**text,
            _ => "",
        });
        parts.collect()
    }

    fn tokens(&self) -> usize {
        let tokens = self.heard.iter().map(|event| match event {
            Event::Delta(delta) => delta.tokens.len(),
            _ => 0,
        });
        tokens.sum()
    }

    fn ran(&self) -> &Ran {
        self.ran.as_ref().expect("is answered")
    }
}

async fn play(
    cascade: &Cascade,
    job: Job,
    scripts: impl IntoIterator<Item = Script>,
    remote: Result<&'static str, Failed>,
) -> Played {
    let (local, remote) = (Scripted::new(scripts), Remote::new(remote));
    let (events, mut answer) = Answer::channel("m", job.n);
    let ran = run(cascade, &local, job, &events, |events| {
        remote.escalate(events)
    })
    .await;
    drop(events);
    let mut heard = Vec::new();
    while let Some(event) = answer.next().await {
        heard.push(event.expect("no error is sent into the stream"));
    }
    let escalated = *remote.calls.lock().expect("sound");
    let jobs = local.jobs.into_inner().expect("sound");
    Played {
        ran,
        heard,
        escalated,
        jobs,
    }
}

fn down(said: bool) -> Failed {
    let error = ApiError::new(ErrorKind::Internal, "the remote is down");
    Failed { said, error }
}

#[tokio::test]
async fn a_sure_answer_stays_and_comes_as_it_would_have() {
    let script = says(&[("It", -0.1), (" is.", -0.1)], END);
    let played = play(&cascade(Judge::Logprob, 0.9), job(), [Ok(script)], Ok("no")).await;
    assert_eq!((played.text().as_str(), played.escalated), ("It is.", 0));
    // Nobody asked for log-probabilities.
    assert_eq!(played.tokens(), 0);
    assert_eq!(played.jobs[0].top_logprobs, Some(0));
    assert!(matches!(played.heard[0], Event::Placed(_)));
    assert!(matches!(played.heard[1], Event::Started(_)));
    let ran = played.ran();
    let Verdict::Local { score, .. } = ran.verdict else {
        panic!("{:?}", ran.verdict);
    };
    assert!((score - (-0.1_f64).exp()).abs() < 1e-6);
    assert_eq!(ran.usage.completion_tokens, 2);
}

#[tokio::test]
async fn log_probabilities_that_were_asked_for_are_told() {
    let mut asked = job();
    asked.top_logprobs = Some(0);
    let script = says(&[("It", -0.1)], END);
    let played = play(&cascade(Judge::Logprob, 0.9), asked, [Ok(script)], Ok("no")).await;
    assert_eq!(played.tokens(), 1);
}

#[tokio::test]
async fn nothing_is_heard_of_an_unsure_answer() {
    let script = says(&[("It", -0.1), (" may", -2.0)], END);
    let played = play(
        &cascade(Judge::Logprob, 0.9),
        job(),
        [Ok(script)],
        Ok("It is."),
    )
    .await;
    assert_eq!((played.text().as_str(), played.escalated), ("It is.", 1));
    let ran = played.ran();
    assert!(matches!(&ran.verdict, Verdict::Remote { score: Some(score), .. } if *score < 0.9));
    // The answer's tokens are the remote's; the work is everybody's.
    assert_eq!(
        (ran.usage.prompt_tokens, ran.usage.completion_tokens),
        (12, 3)
    );
    let report = ran.usage.report.as_ref().expect("is told");
    assert_eq!(report.account.decode_tokens, 2);
    assert_eq!(report.account.joules, Some(2.0));
    assert_eq!(report.sent.len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_not_waited_for() {
    let mut limited = job();
    limited.max_tokens = Some(3);
    let words = [("a", -3.0), ("b", 0.0), ("c", 0.0)];
    let scripts = || [Ok(says(&words, END)), Ok(says(&words, END))];
    let judge = cascade(Judge::Logprob, 0.5);
    let played = play(&judge, limited.clone(), scripts(), Ok("It is.")).await;
    let report = played.ran().usage.report.as_ref().expect("is told");
    assert_eq!(
        report.account.decode_tokens, 1,
        "it ends after the first token"
    );
    assert_eq!(
        report.account.prefill_tokens, 6,
        "ten, of which four were cached"
    );
    assert_eq!(report.sent.len(), 1);
    // Where the remote has none either, it is written after all, by another job.
    let played = play(&judge, limited, scripts(), Err(down(false))).await;
    assert_eq!(played.text(), "abc");
    assert_eq!(played.jobs.len(), 2);
    assert_eq!(played.jobs[1].top_logprobs, None);
}

#[tokio::test]
async fn a_model_without_a_threshold_is_not_sure() {
    let mut unknown = job();
    unknown.model = "other".to_owned();
    let judge = cascade(Judge::Logprob, 0.0);
    let played = play(&judge, unknown.clone(), [], Ok("It is.")).await;
    assert_eq!((played.text().as_str(), played.jobs.len()), ("It is.", 0));
    let script = says(&[("It", -9.0)], END);
    let played = play(&judge, unknown, [Ok(script)], Err(down(false))).await;
    assert_eq!((played.text().as_str(), played.escalated), ("It", 1));
    assert!(matches!(played.ran().verdict, Verdict::LocalUnsure { .. }));
    let mut tagged = job();
    tagged.model = "m:latest".to_owned();
    let script = says(&[("It", 0.0)], END);
    let played = play(&judge, tagged, [Ok(script)], Ok("no")).await;
    assert_eq!(played.escalated, 0);
}

#[tokio::test]
async fn a_remote_that_fails_leaves_the_local_answer_unless_it_spoke() {
    let judge = cascade(Judge::Logprob, 0.9);
    let script = || Ok(says(&[("It", -2.0)], END));
    let played = play(&judge, job(), [script()], Err(down(false))).await;
    assert_eq!(played.text(), "It");
    let Verdict::LocalUnsure { remote, .. } = &played.ran().verdict else {
        panic!("{:?}", played.ran);
    };
    assert_eq!(remote, "the remote is down");
    let played = play(&judge, job(), [script()], Err(down(true))).await;
    assert_eq!(
        played.ran.map_err(|error| error.message),
        Err("the remote is down".to_owned())
    );
}

#[tokio::test]
async fn errors_go_where_somebody_can_do_something_about_them() {
    let judge = cascade(Judge::Logprob, 0.9);
    let refused = || Err(ApiError::new(ErrorKind::ContextOverflow, "too long"));
    let played = play(&judge, job(), [refused()], Ok("It is.")).await;
    assert_eq!(played.text(), "It is.");
    let played = play(&judge, job(), [refused()], Err(down(false))).await;
    assert_eq!(played.ran.expect_err("both fail").message, "too long");
    let nonsense = Err(ApiError::invalid("no sense"));
    let played = play(&judge, job(), [nonsense], Ok("It is.")).await;
    assert_eq!((played.escalated, played.text().as_str()), (0, ""));
    let device = Err(ApiError::new(ErrorKind::RequiredDevice, "npu0 is away"));
    let played = play(&judge, job(), [device], Ok("It is.")).await;
    assert_eq!(played.escalated, 0);
}

#[tokio::test]
async fn the_end_of_the_context_makes_an_answer_unsure() {
    let judge = cascade(Judge::Logprob, 0.0);
    let script = || Ok(says(&[("It", 0.0)], FinishReason::Length));
    let played = play(&judge, job(), [script()], Ok("It is.")).await;
    assert_eq!(played.escalated, 1);
    // The client's own limit would cut the remote's answer as well.
    let mut limited = job();
    limited.max_tokens = Some(1);
    let played = play(&judge, limited, [script()], Ok("no")).await;
    assert_eq!(played.escalated, 0);
}

#[tokio::test]
async fn the_least_sure_of_several_answers_counts() {
    let mut several = job();
    several.n = 2;
    let script = || Ok(says_each(&[&[("a", 0.0)], &[("b", -1.0)]], END));
    let high = play(
        &cascade(Judge::Logprob, 0.5),
        several.clone(),
        [script()],
        Ok("x"),
    )
    .await;
    let low = play(&cascade(Judge::Logprob, 0.3), several, [script()], Ok("x")).await;
    assert_eq!((high.escalated, low.escalated), (1, 0));
}

#[tokio::test]
async fn samples_that_disagree_make_an_answer_unsure() {
    let answer = || Ok(says(&[("Paris", -5.0)], END));
    let mut asked = job();
    asked.sampling.temperature = Some(0.0);
    asked.sampling.seed = Some(7);
    for (other, want) in [("Rome", 1), ("paris.", 0)] {
        let samples = says_each(&[&[("Paris", 0.0)], &[(other, 0.0)]], END);
        let judge = cascade(Judge::Samples, 0.75);
        let played = play(&judge, asked.clone(), [answer(), Ok(samples)], Ok("Lyon")).await;
        assert_eq!(played.escalated, want, "{other}");
        let sampled = &played.jobs[1];
        assert_eq!((sampled.n, sampled.sampling.temperature), (2, Some(0.7)));
        assert_eq!(sampled.sampling.seed, Some(8), "not the answer's own");
        assert_eq!(
            played.jobs[0].sampling, asked.sampling,
            "the answer is the client's"
        );
        let report = played.ran().usage.report.as_ref().expect("is told");
        assert_eq!(report.account.decode_tokens, 3);
    }
    let full = Err(ApiError::new(ErrorKind::Internal, "no"));
    let judge = cascade(Judge::Samples, 0.0);
    let played = play(&judge, asked, [answer(), full], Ok("Lyon")).await;
    assert_eq!(played.escalated, 1, "what cannot be told is not sure");
}

#[tokio::test]
async fn a_model_that_doubts_its_answer_is_not_sure() {
    let verdict = |yes: f32| {
        let mut first = token("Yes", yes.ln());
        let other = TokenLogprob {
            id: 1,
            ..token("No", (1.0 - yes).ln())
        };
        first.top = vec![first.clone(), other];
        let mut events = says(&[], END);
        let delta = Delta {
            tokens: vec![first],
            ..Delta::default()
        };
        events.insert(2, Event::Delta(delta));
        Ok(events)
    };
    for (yes, want) in [(0.9, 0), (0.4, 1)] {
        let answer = Ok(says(&[("Paris", -5.0)], END));
        let judge = cascade(Judge::Verifier, 0.8);
        let played = play(&judge, job(), [answer, verdict(yes)], Ok("Lyon")).await;
        assert_eq!(played.escalated, want, "{yes}");
        assert_eq!(played.jobs[0].top_logprobs, None);
        let Prompt::Chat(asked) = &played.jobs[1].prompt else {
            panic!("it is asked in the conversation");
        };
        assert_eq!(asked.messages.len(), 3);
        assert_eq!(asked.messages[1], ChatMessage::new("assistant", "Paris"));
    }
}

#[test]
fn the_cascade_runs_on_any_thread() {
    fn sent<T: Send>(_: T) {}
    let (cascade, local) = (Cascade::default(), Scripted::default());
    let remote = Remote::new(Ok("x"));
    let (events, _answer) = Answer::channel("m", 1);
    let escalate = |events| remote.escalate(events);
    sent(run(&cascade, &local, job(), &events, escalate));
}
