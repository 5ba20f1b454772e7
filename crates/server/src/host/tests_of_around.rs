//! The host and what is around it: eviction, power, heat, other programs, days, and devices that are not there.

use std::time::{Duration, Instant};

use jiff::civil::date;
use troika_base::{Bytes, Joules};
use troika_engine::CpuDevice;
use troika_machine::meter::EnergyDay;
use troika_machine::watch::{self, Change, PoolUse, PowerState};
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{Heat, JoulesSource, Power, Snapshot};
use troika_simulator::VirtualMachine;

use super::tests::{Home, STORIES, answer, job};
use super::*;
use crate::ErrorKind;

fn host(home: &Home, settings: HostSettings) -> Host {
    let library = Library::open(home.0.clone(), &[("stories", STORIES)]);
    let device = CpuDevice::batch_invariant(2);
    Host::new(Arc::new(library), Arc::new(device), settings).expect("threads")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_still_known_after_its_model_was_away() {
    let home = Home::new("spilled");
    let mut settings = HostSettings::default();
    settings.around.prefixes = Bytes(256 << 20);
    let host = host(&home, settings);
    let long = "Lily had a red ball and a blue box. ".repeat(20);
    let first = answer(&host, job(&long, 5)).await.expect("an answer");
    assert_eq!(first.usage.cached_tokens, 0);
    host.unload("stories".to_owned()).await.expect("goes");
    let began = Instant::now();
    while host.driver.around().spills.bytes() == Bytes(0) {
        assert!(began.elapsed() < Duration::from_secs(30), "it stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It may be on its way out still.
    let again = answer(&host, job(&long, 5)).await.expect("an answer");
    assert!(
        again.usage.cached_tokens > again.usage.prompt_tokens / 2,
        "{:?}",
        again.usage
    );
    assert_eq!(again.choices, first.choices);
    assert_eq!(host.driver.around().spills.bytes(), Bytes(0));
    let stranger = Caller {
        key: Some("other".to_owned()),
        ..Caller::default()
    };
    let strange = host.submit(job(&long, 5), stranger).await.expect("queued");
    let strange = strange.collect().await.expect("an answer");
    assert_eq!(strange.usage.cached_tokens, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_around_is_told() {
    let home = Home::new("changes");
    let mut settings = HostSettings::default();
    settings.scheduler.budget_wh = Some(100.0);
    let state = tempfile::tempdir().expect("a place for files");
    let (mut day, _) = EnergyDay::open(state.path(), EnergyDay::today());
    day.spend(Joules(7200.0), EnergyDay::today());
    drop(day);
    settings.around.home = Some(state.path().to_owned());
    settings.around.spare = Bytes(1 << 30);
    let host = host(&home, settings);
    let now = || -> Snapshot { host.state().expect("is scheduled").snapshot };
    let spent = || now().budget.expect("is set").spent;
    assert!((spent() - 2.0).abs() < 0.01, "{}", spent());
    let why = String::new;
    let battery = |percent| Change::Power {
        power: Some(PowerState::Battery { percent }),
        why: why(),
    };
    host.driver.changed(battery(Some(15.0)));
    let power = Power::Battery {
        percent: Some(15.0),
    };
    assert_eq!(now().power, power);
    host.driver.changed(battery(None));
    assert_eq!(now().power, Power::Battery { percent: None });
    host.driver.changed(Change::Power {
        power: Some(PowerState::Mains),
        why: why(),
    });
    assert_eq!(now().power, Power::Mains);
    for (told, heat) in [(Some(watch::Heat::Hot), Heat::Hot), (None, Heat::Normal)] {
        host.driver.changed(Change::Heat {
            device: "cpu0".to_owned(),
            heat: told,
            why: why(),
        });
        assert_eq!(now().devices[0].heat, heat);
    }
    let memory = |ours: Option<u64>| Change::Memory {
        pool: "ram".to_owned(),
        memory: Some(PoolUse {
            total: Bytes(64 << 30),
            used: Bytes(5 << 30),
            ours: ours.map(Bytes),
        }),
        why: why(),
    };
    // A gibibyte of it is beyond what the pool has.
    host.driver.changed(memory(Some(1 << 30)));
    assert_eq!(now().pools[0].others, Bytes(3 << 30));
    host.driver.changed(memory(None));
    assert_eq!(now().pools[0].others, Bytes(4 << 30));
    host.driver.changed(Change::NewDay(date(2030, 1, 1)));
    assert!(spent() < 0.01);
}

/// A laptop with a card, of which models get so much of the machine's memory and of the card's.
fn posing(home: &Home, free: Option<[u64; 2]>) -> Host {
    let machine = VirtualMachine::named("ryzen-ai-370+4090", Catalogue::builtin());
    let machine = machine.expect("is known");
    let cpu: Arc<dyn Device> = Arc::new(CpuDevice::batch_invariant(2));
    let devices = machine.devices.into_iter().zip(machine.hardware);
    let devices = devices
        .map(|(facts, hardware)| HostDevice::posing(Arc::clone(&cpu), hardware.profiles, facts));
    let mut pools = machine.pools;
    for (pool, free) in pools.iter_mut().zip(free.into_iter().flatten()) {
        (pool.capacity, pool.reserve) = (Bytes(free), Bytes(0));
    }
    let settings = HostSettings {
        kv_tokens: Some(1024),
        around: Around {
            posing: Some("ryzen-ai-370+4090".to_owned()),
            ..Around::default()
        },
        ..HostSettings::default()
    };
    let library = Library::open(home.0.clone(), &[("stories", STORIES)]);
    Host::over(Arc::new(library), devices.collect(), pools, settings).expect("threads")
}

fn on(device: &str) -> Job {
    let mut job = job("Once upon a time", 5);
    job.wishes.device = Some(device.to_owned());
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_are_not_there_hold_no_more_than_they_would() {
    let home = Home::new("posing");
    let host = posing(&home, None);
    assert_eq!(
        host.state().and_then(|state| state.posing).as_deref(),
        Some("ryzen-ai-370+4090")
    );
    // The processor has graphics of its own, so the card is the second one.
    let done = answer(&host, on("gpu1")).await.expect("an answer");
    let report = done.usage.report.expect("a report");
    assert_eq!(report.account.joules_source, JoulesSource::Estimated);
    assert!(report.account.joules > Some(0.0));
    // Both together are for what neither holds alone.
    let error = answer(&host, on("gpu1+cpu0")).await.expect_err("no need");
    assert_eq!(error.kind, ErrorKind::RequiredDevice);
    assert!(error.message.contains("alone"), "{error}");
    let handle = host.models.named("stories").expect("was asked for");
    let needs = |name: &str| {
        let device = host.driver.device(name).expect("is there");
        let form = &handle.facts.forms[&device];
        form.bytes[0].0 + u64::from(form.kv_tokens) * handle.facts.kv_bytes_per_token
    };
    let (cpu, card) = (needs("cpu0"), needs("gpu1"));

    let small = posing(&home, Some([2 * cpu, card / 2]));
    let error = answer(&small, on("gpu1")).await.expect_err("too small");
    assert_eq!(error.kind, ErrorKind::RequiredDevice, "{error}");
    answer(&small, on("cpu0")).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn always_on_runs_are_in_the_devices_account() {
    let home = Home::new("beside");
    let host = host(&home, HostSettings::default());
    let device = || {
        host.state()
            .expect("is scheduled")
            .snapshot
            .devices
            .swap_remove(0)
    };
    assert!(host.beside("npu7", Class::Interactive, false).is_none());
    let run = host.beside("cpu0", Class::Interactive, true);
    let run = run.expect("is there");
    assert_eq!(device().beside, 1);
    let before = device().joules_busy;
    tokio::time::sleep(Duration::from_millis(50)).await;
    run.ended(Some(Joules(2.5)));
    let after = device();
    assert_eq!(after.beside, 0);
    assert!((after.joules_busy - before - 2.5).abs() < 1e-6, "{after:?}");
    assert!(after.busy > 0.0);
    // One that nobody ends is ended when it is let go of.
    drop(host.beside("cpu0", Class::Batch, false));
    assert_eq!(device().beside, 0);
}
