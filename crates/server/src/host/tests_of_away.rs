//! Jobs that may leave the host: carried by a courier of the test's own, which holds no network.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_scheduler::Cause;

use super::models::lock;
use super::tests::{Home, job, text};
use super::*;
use crate::ErrorKind;
use crate::EventSender;
use crate::job::{Delta, Event, FinishReason, Part, Placed, Report, Sent, Started, Usage};

/// What becomes of what is carried.
#[derive(Clone, Copy)]
enum Fate {
    Arrives,
    Fails { said: bool },
    Hangs,
    Panics,
}

/// Carries nothing anywhere, and says what it was asked.
struct Fake {
    fate: Fate,
    asked: Mutex<Vec<usize>>,
    /// Errands that were dropped before their end.
    called_back: Arc<AtomicUsize>,
}

struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Courier for Fake {
    fn carry(&self, to: usize, events: EventSender) -> BoxFuture<'_, Carried> {
        lock(&self.asked).push(to);
        let tell = move |event: Event| drop(events.send(Ok(event)));
        async move {
            let open = Counts(Arc::clone(&self.called_back));
            let far = || "remote:far".to_owned();
            tell(Event::Placed(Placed {
                prefill: far(),
                decode: far(),
            }));
            let words = |text: &str| {
                Event::Delta(Delta {
                    choice: 0,
                    parts: vec![Part::Content(text.to_owned())],
                    tokens: Vec::new(),
                })
            };
            match self.fate {
                Fate::Hangs => std::future::pending::<()>().await,
                Fate::Panics => panic!("the courier fell"),
                Fate::Fails { said } => {
                    if said {
                        tell(words("Once"));
                    }
                    std::mem::forget(open);
                    let retry_after = Duration::from_secs(1);
                    let kind = ErrorKind::Unavailable { retry_after };
                    let error = ApiError::new(kind, "far: 503, it is busy");
                    return Carried::Failed { error, said };
                }
                Fate::Arrives => {}
            }
            tell(Event::Started(Started::default()));
            tell(words("Once upon a time, far away."));
            tell(Event::Finished {
                choice: 0,
                finish: FinishReason::Length,
            });
            std::mem::forget(open);
            Carried::Done(usage())
        }
        .boxed()
    }
}

fn usage() -> Usage {
    let sent = Sent {
        to: "far".to_owned(),
        rule: "anything".to_owned(),
        bytes_out: 321,
        bytes_in: 123,
        cost: None,
    };
    Usage {
        prompt_tokens: 6,
        completion_tokens: 7,
        prefill: Duration::from_millis(2),
        report: Some(Box::new(Report {
            sent: vec![sent],
            ..Report::default()
        })),
        ..Usage::default()
    }
}

fn fake(fate: Fate) -> Arc<Fake> {
    Arc::new(Fake {
        fate,
        asked: Mutex::default(),
        called_back: Arc::default(),
    })
}

/// It costs nothing and is as fast as light: whoever may go there does.
fn far() -> Offer {
    Offer {
        name: "far".to_owned(),
        ttft_s: 1e-6,
        tps: 1e6,
        spread: 1.0,
        money: Some(0.0),
        concurrent: None,
        why_not: None,
    }
}

/// It is never worth it.
fn dear() -> Offer {
    Offer {
        name: "dear".to_owned(),
        ttft_s: 1e3,
        money: Some(1e6),
        ..far()
    }
}

fn errand(courier: &Arc<Fake>) -> Option<Errand> {
    Some(Errand {
        offers: vec![dear(), far()],
        courier: Arc::clone(courier) as Arc<dyn Courier>,
    })
}

fn numbered(mut job: Job, id: &str) -> Job {
    job.wishes.request_id = id.to_owned();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_leave_is_answered_from_afar() {
    let home = Home::new("leaves");
    let host = home.host(HostSettings::default());
    let courier = fake(Fate::Arrives);
    let job = numbered(job("Once upon a time", 20), "r1");
    let answer = host.submit_with(job, Caller::default(), None, errand(&courier));
    let mut answer = answer.await.expect("it is queued");
    let first = answer.next().await.expect("an event").expect("no error");
    let Event::Placed(placed) = first else {
        panic!("{first:?} comes first")
    };
    assert_eq!(placed.decode, "remote:far");
    let done = answer.collect().await.expect("an answer");
    assert_eq!(done.choices[0].content, "Once upon a time, far away.");
    assert_eq!(*lock(&courier.asked), [1], "its place among the offers");
    assert_eq!(courier.called_back.load(Ordering::SeqCst), 0);
    let report = done.usage.report.expect("a report");
    assert_eq!(report.devices, ["remote:far", "remote:far"]);
    assert_eq!(report.sent, usage().report.expect("a report").sent);
    assert_eq!(report.account.decode_tokens, 7);
    assert_eq!(
        report.account.joules, None,
        "nobody knows what it drew there"
    );
    let placements = host.placements("r1").expect("it is remembered");
    let [placement] = &*placements else {
        panic!("one job")
    };
    let decision = &placement.decisions[0];
    let name = |device: DeviceId| &*placement.devices[usize::from(device.0)];
    assert_eq!(name(decision.decode), "remote:far");
    let candidates: Vec<_> = decision.candidates.iter().map(|c| name(c.decode)).collect();
    assert!(candidates.contains(&"remote:dear") && candidates.contains(&"cpu0"));
    assert!(placement.account.is_some());
    let state = host.state().expect("it is scheduled");
    let away: Vec<_> = state
        .snapshot
        .away
        .iter()
        .map(|a| (&*a.name, a.jobs))
        .collect();
    assert_eq!(away, [("remote:dear", 0), ("remote:far", 0)]);
    assert!(host.loaded().is_empty(), "nothing was loaded for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_required_by_name_and_only_of_jobs_that_may_go_there() {
    let home = Home::new("required");
    let host = home.host(HostSettings::default());
    let courier = fake(Fate::Arrives);
    let mut asked = job("Once upon a time", 5);
    asked.wishes.device = Some("remote:dear".to_owned());
    let answer = host.submit_with(asked.clone(), Caller::default(), None, errand(&courier));
    answer.await.expect("queued").collect().await.expect("done");
    assert_eq!(*lock(&courier.asked), [0], "though it is dear");
    let private = host.submit(asked.clone(), Caller::default()).await;
    let error = private.expect_err("it stays");
    assert_eq!(error.kind, ErrorKind::RequiredDevice);
    assert_eq!(
        error.message,
        "remote:dear is required, and this job may not leave this machine"
    );
    asked.wishes.device = Some("remote:other".to_owned());
    let answer = host.submit_with(asked.clone(), Caller::default(), None, errand(&courier));
    let error = answer.await.expect_err("it is not offered");
    assert!(error.message.ends_with("may not go there"), "{error}");
    asked.wishes.device = Some("cpu0".to_owned());
    let answer = host.submit_with(asked, Caller::default(), None, errand(&courier));
    answer.await.expect("queued").collect().await.expect("done");
    assert_eq!(lock(&courier.asked).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_undone_is_done_here() {
    let home = Home::new("undone");
    let host = home.host(HostSettings::default());
    let expected = text(&host, job("Tom and Anna", 20)).await;
    let courier = fake(Fate::Fails { said: false });
    let job = numbered(job("Tom and Anna", 20), "r2");
    let answer = host.submit_with(job, Caller::default(), None, errand(&courier));
    let done = answer.await.expect("queued").collect().await;
    assert_eq!(done.expect("an answer").choices[0].content, expected);
    assert_eq!(*lock(&courier.asked), [1], "it is not sent twice");
    let placements = host.placements("r2").expect("it is remembered");
    let causes: Vec<_> = placements[0].decisions.iter().map(|d| d.cause).collect();
    assert_eq!(causes, [Cause::Arrival, Cause::Replay]);
    // Nothing is counted as waiting or running afterwards: the model may go.
    let loaded = host.loaded();
    assert!(loaded[0].expires.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_half_told_ends_with_its_error() {
    for fate in [Fate::Fails { said: true }, Fate::Panics] {
        // One that has seen nothing fail: an endpoint that did is closed for a while.
        let home = Home::new("half");
        let host = home.host(HostSettings::default());
        let courier = fake(fate);
        let job = job("Tom and Anna", 20);
        let answer = host.submit_with(job, Caller::default(), None, errand(&courier));
        let mut answer = answer.await.expect("queued");
        let mut error = None;
        while let Some(event) = answer.next().await {
            assert!(error.is_none(), "nothing follows an error");
            error = event.err();
        }
        error.expect("it ends with an error");
        let state = host.state().expect("it is scheduled");
        assert!(state.snapshot.away.iter().all(|away| away.jobs == 0));
        assert!(state.requests.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_has_its_job_called_back() {
    let home = Home::new("called-back");
    let host = home.host(HostSettings::default());
    let courier = fake(Fate::Hangs);
    let job = job("Tom and Anna", 20);
    let answer = host.submit_with(job, Caller::default(), None, errand(&courier));
    let mut answer = answer.await.expect("queued");
    answer
        .next()
        .await
        .expect("it is placed")
        .expect("no error");
    let away = |host: &Host| {
        let state = host.state().expect("it is scheduled");
        state.snapshot.away.iter().map(|a| a.jobs).sum::<usize>()
    };
    assert_eq!(away(&host), 1);
    drop(answer);
    for _ in 0..500 {
        if courier.called_back.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(courier.called_back.load(Ordering::SeqCst), 1);
    assert_eq!(away(&host), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_every_device_goes() {
    let home = Home::new("too-long");
    let host = home.host(HostSettings::default());
    let long = job(&"Lily had a red ball. ".repeat(2000), 20);
    let error = host.submit(long.clone(), Caller::default()).await;
    assert_eq!(
        error.expect_err("it stays").kind,
        ErrorKind::ContextOverflow
    );
    let courier = fake(Fate::Arrives);
    let answer = host.submit_with(long.clone(), Caller::default(), None, errand(&courier));
    answer.await.expect("queued").collect().await.expect("done");
    let courier = fake(Fate::Fails { said: false });
    let answer = host.submit_with(long, Caller::default(), None, errand(&courier));
    let error = match answer.await {
        Ok(answer) => answer.collect().await.expect_err("nobody takes it"),
        Err(error) => error,
    };
    assert!(
        error.message.contains("tokens are more than its")
            && error.message.contains("far: 503, it is busy"),
        "{error}"
    );
    // Both are tried: the dear one too, when nothing else is left.
    assert_eq!(*lock(&courier.asked), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outlook_is_known_before_and_its_prompt_is_not_read_twice() {
    let home = Home::new("outlook");
    let host = home.host(HostSettings::default());
    let asked = job("Once upon a time there was a", 10);
    let expected = text(&host, asked.clone()).await;
    let outlook = host.outlook(&asked, &Caller::default()).await;
    let counted = host.count_tokens(asked.model.clone(), asked.prompt.clone());
    assert_eq!(outlook.prompt_tokens, counted.await.ok());
    assert!(outlook.ttft_s > Some(0.0) && outlook.total_s >= outlook.ttft_s);
    assert_eq!(outlook.queue, 0);
    // Proof that what was seen is used: another prompt's tokens are answered.
    let other = job("something else entirely", 10);
    let answer = host.submit_with(other, Caller::default(), Some(outlook), None);
    let done = answer.await.expect("queued").collect().await.expect("done");
    assert_eq!(done.choices[0].content, expected);
    let mut unknown = asked;
    unknown.model = "nobody".to_owned();
    let outlook = host.outlook(&unknown, &Caller::default()).await;
    assert_eq!((outlook.prompt_tokens, outlook.ttft_s), (None, None));
}
