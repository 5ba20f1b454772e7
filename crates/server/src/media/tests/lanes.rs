//! Models at work: full queues, clients that leave, deadlines, devices that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fakes::{Behaviour, Fixture, Gate, loud_second, red_half, wav};
use super::{ACTIVITY, VISION, plain};
use crate::job::KeepAlive;

#[tokio::test]
async fn a_device_that_fails_leaves_the_work_to_the_processor() {
    let fixture = Fixture::new(Behaviour {
        npu: Some(Err("it hangs".to_owned())),
        ..Behaviour::default()
    });
    for (path, body) in [(VISION, red_half()), (ACTIVITY, loud_second())] {
        let told = fixture.post(path, &[], body).await;
        let body = told.json();
        assert_eq!(
            (told.status, told.header("x-troika-placement")),
            (200, "run=cpu0"),
            "{body}"
        );
        let lost = &body["troika"]["lost"][0];
        assert_eq!(lost["candidate"], "a fake on npu0");
        assert!(lost["why"].as_str().unwrap().contains("it hangs"), "{lost}");
    }
    let told = fixture
        .post(VISION, &[("x-troika-device", "npu0")], red_half())
        .await;
    assert!(
        told.status == 500 && told.message().contains("it hangs"),
        "{}",
        told.message()
    );
}

#[tokio::test]
async fn runs_are_in_the_accounts_of_the_device_that_does_them() {
    let fixture = plain();
    let urgent = [("x-troika-class", "background")];
    let told = fixture.post(VISION, &urgent, red_half()).await;
    assert_eq!(told.status, 200, "{}", told.message());
    let accounts = |fixture: &Fixture| fixture.backend.beside.lock().unwrap().clone();
    let once = ["cpu0 begins, background, metered: false", "cpu0 ends: None"];
    assert_eq!(accounts(&fixture), once);
    // One that fails is ended too, before another device takes it over.
    let fixture = Fixture::new(Behaviour {
        npu: Some(Err("it hangs".to_owned())),
        ..Behaviour::default()
    });
    assert_eq!(fixture.post(VISION, &[], red_half()).await.status, 200);
    let twice = [
        "npu0 begins, interactive, metered: false",
        "npu0 ends: None",
        "cpu0 begins, interactive, metered: false",
        "cpu0 ends: None",
    ];
    assert_eq!(accounts(&fixture), twice);
}

#[tokio::test]
async fn a_model_stays_open_until_nobody_wants_it_or_its_file_changes() {
    let fixture = plain();
    let path = format!("{VISION}?model=red");
    for _ in 0..3 {
        assert_eq!(fixture.post(&path, &[], red_half()).await.status, 200);
    }
    assert_eq!(fixture.opened(), 1);
    std::fs::write(fixture.home.path().join("red.onnx"), "another").unwrap();
    assert_eq!(fixture.post(&path, &[], red_half()).await.status, 200);
    assert_eq!(fixture.opened(), 2);

    let fixture = Fixture::with(Behaviour::default(), |settings| {
        settings.keep_alive = KeepAlive::For(Duration::ZERO);
    });
    for _ in 0..3 {
        assert_eq!(fixture.post(&path, &[], red_half()).await.status, 200);
        // The thread ends when it finds nothing to do.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fixture.opened(), 3);
}

/// Waits until this many runs have begun.
async fn runs(fixture: &Fixture, count: usize) {
    for _ in 0..500 {
        if fixture.behaviour.runs.load(Ordering::SeqCst) >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no run began");
}

#[tokio::test]
async fn a_full_queue_refuses_and_those_who_leave_make_room() {
    let (tokens, gate) = Gate::new();
    let behaviour = Behaviour {
        gate: Some(gate),
        ..Behaviour::default()
    };
    let fixture = Arc::new(Fixture::with(behaviour, |settings| {
        settings.queue_length = 1
    }));
    let path = format!("{VISION}?model=red");
    let ask = || {
        let (fixture, path) = (Arc::clone(&fixture), path.clone());
        tokio::spawn(async move { fixture.post(&path, &[], red_half()).await })
    };
    let first = ask();
    runs(&fixture, 1).await;
    let second = ask();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let full = fixture.post(&path, &[], red_half()).await;
    assert_eq!(
        (full.status, full.header("retry-after")),
        (429, "1"),
        "{}",
        full.message()
    );

    second.abort();
    assert!(second.await.is_err());
    let third = ask();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..2 {
        tokens.send(()).unwrap();
    }
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(third.await.unwrap().status, 200);
    // Nobody ran what was left.
    assert_eq!(fixture.behaviour.runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_refused() {
    let (tokens, gate) = Gate::new();
    let fixture = Arc::new(Fixture::new(Behaviour {
        gate: Some(gate),
        ..Behaviour::default()
    }));
    let path = format!("{VISION}?model=red");
    let (own, own_path) = (Arc::clone(&fixture), path.clone());
    let first = tokio::spawn(async move { own.post(&own_path, &[], red_half()).await });
    runs(&fixture, 1).await;
    let (own, own_path) = (Arc::clone(&fixture), path);
    let deadline = [("x-troika-deadline-ms", "30")];
    let second = tokio::spawn(async move { own.post(&own_path, &deadline, red_half()).await });
    // The model is still at the first one.
    let second = second.await.unwrap();
    assert_eq!(second.status, 412, "{}", second.message());
    tokens.send(()).unwrap();
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_work() {
    let (tokens, gate) = Gate::new();
    let fixture = Arc::new(Fixture::new(Behaviour {
        gate: Some(gate),
        ..Behaviour::default()
    }));
    let own = Arc::clone(&fixture);
    let path = format!("{ACTIVITY}?model=silero_vad");
    let asked = tokio::spawn(async move { own.post(&path, &[], wav(&[0; 160_000])).await });
    runs(&fixture, 1).await;
    asked.abort();
    assert!(asked.await.is_err());
    // The gate is open from here on.
    drop(tokens);
    let told = fixture.post(ACTIVITY, &[], loud_second()).await;
    assert_eq!(told.status, 200);
    // 313 frames of ten seconds were not heard to their end, 63 of two seconds were.
    let runs = fixture.behaviour.runs.load(Ordering::SeqCst);
    assert!((63..200).contains(&runs), "{runs}");
}
