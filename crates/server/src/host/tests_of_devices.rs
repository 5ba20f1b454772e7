//! The host over several devices, some of which fail.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use troika_device::conformance::Stepped;
use troika_device::{
    Batch, Cancelled, Error, LoadOptions, LoadProgress, Output, Outputs, Resident,
};
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_scheduler::{Action, Cause, Event, JoulesSource, Schedule, Snapshot, Time};

use super::models::lock;
use super::tests::{Home, STORIES, answer, job, text};
use super::*;
use crate::ErrorKind;
use crate::job::Event as Told;

/// What goes wrong in the step that it falls to.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Error,
    Panic,
    /// It does not end, unless it is broken off.
    Hang,
    /// It fails, and the device does nothing more.
    Gone,
}

/// What all devices of a test share.
#[derive(Debug)]
struct Play {
    /// Steps until one goes wrong; below 0, none does.
    left: AtomicI64,
    trouble: Trouble,
    /// How long a step takes at least.
    delay: Duration,
    /// Of every step, by sequence: tokens that are held after it, and what was asked for.
    log: Mutex<Vec<Vec<(usize, Output)>>>,
    /// The device that hangs.
    hung: Mutex<Option<&'static str>>,
    /// The device that is gone.
    gone: Mutex<Option<&'static str>>,
}

impl Play {
    fn new(trouble: Trouble, delay: Duration) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(-1),
            trouble,
            delay,
            log: Mutex::default(),
            hung: Mutex::default(),
            gone: Mutex::default(),
        })
    }

    fn steps(&self) -> usize {
        lock(&self.log).len()
    }

    /// A step of a device of this name.
    fn step(
        &self,
        name: &'static str,
        inner: &mut dyn Resident,
        batch: &Batch<'_>,
    ) -> Result<Outputs, Error> {
        if inner.spec().n_vocab < N_VOCAB_MIN {
            return inner.step(batch);
        }
        let ends = batch.sequences.iter();
        let ends = ends
            .map(|s| (s.position + s.tokens.len(), s.output))
            .collect();
        lock(&self.log).push(ends);
        std::thread::sleep(self.delay);
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            match self.trouble {
                Trouble::Error => {
                    let reason = "the cable was pulled".to_owned();
                    return Err(Error::Batch { reason });
                }
                Trouble::Panic => panic!("a bug of a driver"),
                Trouble::Gone => *lock(&self.gone) = Some(name),
                Trouble::Hang => {
                    *lock(&self.hung) = Some(name);
                    let interrupt = inner.interrupt().expect("a processor hears");
                    loop {
                        interrupt.check()?;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
        self.check(name)?;
        inner.step(batch)
    }

    /// What a device says that is gone.
    fn check(&self, name: &'static str) -> Result<(), Error> {
        match *lock(&self.gone) {
            Some(gone) if gone == name => Err(Error::Failed {
                device: name.to_owned(),
                reason: "the device was lost".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// The processor under another name.
struct Actor {
    name: &'static str,
    inner: CpuDevice,
    play: Arc<Play>,
}

impl Device for Actor {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> String {
        format!("{} as {}", self.inner.description(), self.name)
    }

    fn keeps(&self, kv_type: KvType) -> bool {
        kv_type == KvType::F16 || self.name == "cpu0"
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        self.play.check(self.name)?;
        let inner = self.inner.load(file, options, progress)?;
        let play = Arc::clone(&self.play);
        let name = self.name;
        Ok(Box::new(Stepped::new(inner, move |inner, batch| {
            play.step(name, inner, batch)
        })))
    }
}

/// The known question's model has fewer tokens than any other.
const N_VOCAB_MIN: usize = 200;

/// A host over two devices of this play: `cpu0`, and `gpu0`, which is one by its facts alone.
fn two(home: &Home, play: &Arc<Play>) -> Host {
    let (library, devices, pools, settings) = parts(home, play);
    Host::over(library, devices, pools, settings).expect("threads")
}

type Parts = (Arc<Library>, Vec<HostDevice>, Vec<PoolFacts>, HostSettings);

fn parts(home: &Home, play: &Arc<Play>) -> Parts {
    let devices = [("cpu0", DeviceKind::Cpu), ("gpu0", DeviceKind::Gpu)];
    let devices = devices.map(|(name, kind)| {
        let actor = Actor {
            name,
            inner: CpuDevice::batch_invariant(1),
            play: Arc::clone(play),
        };
        let profile = DeviceProfile::unknown(format!("the chip of {name}"), kind);
        HostDevice::new(Arc::new(actor), profile, PoolId(0))
    });
    let library = Library::open(home.0.clone(), &[("stories", STORIES)]);
    let settings = HostSettings {
        kv_tokens: Some(4096),
        ..HostSettings::default()
    };
    (
        Arc::new(library),
        devices.to_vec(),
        vec![ram(None)],
        settings,
    )
}

fn driven_by(schedule: Box<dyn Schedule + Send>, parts: Parts) -> Host {
    let (library, devices, pools, settings) = parts;
    let machine = Machine {
        devices,
        pools,
        schedule,
        keep_alive: settings.scheduler.keep_alive,
        around: Surroundings::default(),
    };
    Host::driving(machine, library, &settings).expect("threads")
}

/// A scheduler that gives a device up as soon as it is told to.
struct Impatient {
    inner: Scheduler,
    with: Arc<Mutex<Option<DeviceId>>>,
}

impl Schedule for Impatient {
    fn step(&mut self, now: Time, mut events: Vec<Event>) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(device) = lock(&self.with).take() {
            actions.push(Action::Abandon(device));
            let why = "it hangs".to_owned();
            events.push(Event::Lost { device, why });
        }
        actions.extend(self.inner.step(now, events));
        actions
    }

    fn wake_at(&self) -> Option<Time> {
        self.inner.wake_at()
    }

    fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_in_fewer_bits_is_for_devices_that_keep_it() {
    let home = Home::new("kv-type");
    let play = Play::new(Trouble::Error, Duration::ZERO);
    let (library, devices, pools, mut settings) = parts(&home, &play);
    settings.kv_type = KvType::Q8_0;
    let host = Host::over(library, devices, pools, settings).expect("threads");
    let question = job("Once upon a time there was a little", 20);
    let done = answer(&host, question.clone()).await.expect("an answer");
    assert_eq!(done.usage.completion_tokens, 20);
    let handle = host.models.named("stories").expect("was asked for");
    let whole = handle.opened.spec().kv_bytes_per_token(KvType::F16);
    assert_eq!(handle.facts.kv_bytes_per_token * 32, whole * 17);

    let error = answer(&host, on("gpu0", question))
        .await
        .expect_err("it keeps f16");
    assert_eq!(error.kind, ErrorKind::RequiredDevice);
    assert!(error.message.contains("f16, not in q8_0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_hangs_is_broken_off_and_comes_back() {
    let home = Home::new("hangs");
    let play = Play::new(Trouble::Hang, Duration::ZERO);
    let (library, devices, pools, mut settings) = parts(&home, &play);
    settings.scheduler.limits.page_tokens = PAGE_TOKENS as u32;
    let with = Arc::default();
    let facts = devices.iter().map(|device| device.facts.clone()).collect();
    let impatient = Impatient {
        inner: Scheduler::new(settings.scheduler.clone(), facts, pools.clone()),
        with: Arc::clone(&with),
    };
    let host = driven_by(Box::new(impatient), (library, devices, pools, settings));
    let question = job("Once upon a time there was a little", 40);
    let whole = answer(&host, question.clone()).await.expect("an answer");
    play.left.store(10, Ordering::SeqCst);
    let waits = tokio::spawn({
        let (host, question) = (host.clone(), question.clone());
        async move { answer(&host, question).await }
    });
    let name = loop {
        if let Some(name) = *lock(&play.hung) {
            break name;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    *lock(&with) = host.driver.device(name);
    host.tell(Vec::new());
    let again = waits
        .await
        .expect("no panic")
        .expect("another device does it");
    assert_eq!(again.choices, whole.choices);
    assert_eq!(again.usage.report.expect("a report").account.replays, 1);
    all_ready(&host).await;
    // Its thread is back: it probed, and computes again.
    let back = answer(&host, on(name, question)).await.expect("an answer");
    assert_eq!(back.choices, whole.choices);
}

/// A scheduler that gives a device up just before it hears of one of its steps.
struct Deaf {
    inner: Scheduler,
    /// Steps until that one; below 0, there is none.
    left: Arc<AtomicI64>,
}

impl Schedule for Deaf {
    fn step(&mut self, now: Time, events: Vec<Event>) -> Vec<Action> {
        let mut actions = Vec::new();
        let events = events.into_iter().map(|event| match event {
            Event::StepDone { device, .. } if self.left.fetch_sub(1, Ordering::SeqCst) == 0 => {
                actions.push(Action::Abandon(device));
                let why = "a test".to_owned();
                Event::Lost { device, why }
            }
            event => event,
        });
        let events = events.collect();
        actions.extend(self.inner.step(now, events));
        actions
    }

    fn wake_at(&self) -> Option<Time> {
        self.inner.wake_at()
    }

    fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }
}

fn on(device: &str, mut job: Job) -> Job {
    job.wishes.device = Some(device.to_owned());
    job.wishes.request_id = format!("request on {device}");
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_where_it_has_to_and_says_where_that_was() {
    let home = Home::new("where");
    let host = two(&home, &Play::new(Trouble::Error, Duration::ZERO));
    let mut texts = Vec::new();
    for device in ["cpu0", "gpu0"] {
        let job = on(device, job("Once upon a time", 20));
        let request_id = job.wishes.request_id.clone();
        let mut events = host.submit(job, Caller::default()).await.expect("queued");
        let Some(Ok(Told::Placed(placed))) = events.next().await else {
            panic!("the first event says where")
        };
        assert_eq!((&*placed.prefill, &*placed.decode), (device, device));
        let done = events.collect().await.expect("an answer");
        let report = done.usage.report.expect("a report");
        assert!(
            report.devices.iter().all(|name| name == device),
            "{report:?}"
        );
        assert_eq!(report.account.decode_tokens, 20);
        // There are neither meters nor watts.
        assert_eq!(
            (report.account.joules, report.account.joules_source),
            (None, JoulesSource::Unknown)
        );
        assert!(
            report
                .account
                .spans
                .iter()
                .all(|span| span.joules.is_none())
        );
        let [placement] = &*host.placements(&request_id).expect("is remembered") else {
            panic!("one job")
        };
        assert_eq!(placement.model, "stories");
        assert_eq!(placement.decisions[0].candidates.len(), 2);
        assert_eq!(placement.account.as_ref(), Some(&report.account));
        texts.push(done.choices[0].content.clone());
    }
    assert_eq!(texts[0], texts[1]);
    let error = answer(&host, on("npu0", job("Once", 1)))
        .await
        .expect_err("there is none");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("cpu0, gpu0"), "{error}");
}

/// A device that failed is asked again after some seconds.
async fn all_ready(host: &Host) {
    let started = Instant::now();
    let is_ready = |state: State| state.snapshot.devices.iter().all(|d| d.state == "ready");
    while !host.state().is_some_and(is_ready) {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_device_fails(trouble: Trouble, n: usize) {
    let home = Home::new(&format!("fails-{trouble:?}-{n}"));
    let play = Play::new(trouble, Duration::ZERO);
    let host = two(&home, &play);
    let mut job = job("Once upon a time there was a little", 60);
    job.ignore_end = true;
    job.n = n;
    let whole = answer(&host, job.clone()).await.expect("an answer");
    for step in [0, 1, 30] {
        play.left.store(step, Ordering::SeqCst);
        let again = answer(&host, job.clone())
            .await
            .expect("another device does it");
        assert_eq!(again.choices, whole.choices, "after {step} steps");
        assert_eq!(again.usage.completion_tokens, 60 * n);
        let report = again.usage.report.expect("a report");
        assert_eq!(report.account.replays, 1, "{report:?}");
        all_ready(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_failed_at_is_done_by_another_with_the_same_words() {
    a_device_fails(Trouble::Error, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_gone_is_asked_for_nothing_more() {
    let home = Home::new("gone");
    let play = Play::new(Trouble::Gone, Duration::ZERO);
    let host = two(&home, &play);
    let question = job("Once upon a time there was a little", 40);
    let whole = answer(&host, question.clone()).await.expect("an answer");
    play.left.store(10, Ordering::SeqCst);
    for replays in [1, 0, 0] {
        let again = answer(&host, question.clone()).await;
        let again = again.expect("the other device does it");
        assert_eq!(again.choices, whole.choices);
        let report = again.usage.report.expect("a report");
        assert_eq!(report.account.replays, replays, "{report:?}");
        let gone = lock(&play.gone).expect("it failed");
        assert!(report.devices.last().is_some_and(|name| name != gone));
        // Long enough that it was asked the known question again.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let state = host.state().expect("a state");
        let mut devices = state.snapshot.devices.iter();
        let device = devices.find(|device| device.name == gone);
        assert_ne!(device.expect("is still listed").state, "ready");
    }
    // Its cable is plugged in again.
    *lock(&play.gone) = None;
    all_ready(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_panics_costs_no_answer() {
    a_device_fails(Trouble::Panic, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scheduler_did_not_hear_of_is_not_said_twice() {
    let home = Home::new("deaf");
    let play = Play::new(Trouble::Error, Duration::ZERO);
    let (library, devices, pools, mut settings) = parts(&home, &play);
    settings.scheduler.limits.page_tokens = PAGE_TOKENS as u32;
    let left = Arc::new(AtomicI64::new(-1));
    let facts = devices.iter().map(|device| device.facts.clone()).collect();
    let deaf = Deaf {
        inner: Scheduler::new(settings.scheduler.clone(), facts, pools.clone()),
        left: Arc::clone(&left),
    };
    let host = driven_by(Box::new(deaf), (library, devices, pools, settings));
    for n in [1, 3] {
        let mut job = job("Once upon a time there was a little", 40);
        job.ignore_end = true;
        job.n = n;
        let whole = answer(&host, job.clone()).await.expect("an answer");
        for step in [0, 1, 20] {
            left.store(step, Ordering::SeqCst);
            let again = answer(&host, job.clone())
                .await
                .expect("another device does it");
            assert_eq!(
                again.choices, whole.choices,
                "unheard of is step {step}, n = {n}"
            );
            assert_eq!(again.usage.completion_tokens, 40 * n);
            assert_eq!(again.usage.report.expect("a report").account.replays, 1);
            all_ready(&host).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_moves_has_the_same_words() {
    let home = Home::new("moves");
    let play = Play::new(Trouble::Error, Duration::from_millis(20));
    let host = two(&home, &play);
    // So the model is on both.
    let mut long = job("Once upon a time there was a little", 300);
    long.ignore_end = true;
    long.n = 2;
    text(&host, on("gpu0", job("The dog", 2))).await;
    host.set_policy("PREFER_CPU".parse().expect("known"));
    text(&host, job("The dog", 2)).await;
    text(&host, on("cpu0", job("The dog", 2))).await;
    long.wishes.request_id = "moves".to_owned();
    let mut events = host
        .submit(long.clone(), Caller::default())
        .await
        .expect("queued");
    let Some(Ok(Told::Placed(placed))) = events.next().await else {
        panic!("the first event says where")
    };
    assert_eq!(placed.decode, "cpu0");
    while !matches!(events.next().await, Some(Ok(Told::Delta(_)))) {}
    host.set_policy("PREFER_GPU".parse().expect("known"));
    let done = events.collect().await.expect("an answer");
    let report = done.usage.report.expect("a report");
    assert_eq!(
        (report.account.moves, report.account.replays),
        (1, 0),
        "{report:?}"
    );
    assert_eq!(report.devices.last().map(|name| &**name), Some("gpu0"));
    let placement = &host.placements("moves").expect("is remembered")[0];
    let causes: Vec<_> = placement
        .decisions
        .iter()
        .map(|decision| decision.cause)
        .collect();
    assert_eq!(causes[0], Cause::Arrival);
    assert_eq!(causes.len(), 2, "{causes:?}");
    // The first deltas were read above; the ends are all there.
    let whole = answer(&host, on("cpu0", long)).await.expect("an answer");
    for (moved, whole) in done.choices.iter().zip(&whole.choices) {
        assert!(whole.content.ends_with(&moved.content) && moved.content.len() > 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_waits_for_one_step_of_others_and_no_more() {
    let home = Home::new("promise");
    let play = Play::new(Trouble::Error, Duration::from_millis(20));
    let host = two(&home, &play);
    let mut background = on("cpu0", job("Once upon a time there was a little", 400));
    background.wishes.class = Some(Class::Background);
    background.ignore_end = true;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = host
            .submit(background.clone(), Caller::default())
            .await
            .expect("queued");
        while !matches!(stream.next().await, Some(Ok(Told::Delta(_)))) {}
        streams.push(stream);
    }
    let mut waited = Vec::new();
    for words in [40, 50, 60, 70, 80] {
        let question = on("cpu0", job(&"a cat and ".repeat(words), 3));
        let n_prompt = host.count_tokens("stories".to_owned(), question.prompt.clone());
        let n_prompt = n_prompt.await.expect("counted");
        let mut stream = host
            .submit(question, Caller::default())
            .await
            .expect("queued");
        let before = play.steps();
        while !matches!(stream.next().await, Some(Ok(Told::Delta(_)))) {}
        let log = lock(&play.log).clone();
        let first = log[..]
            .iter()
            .position(|step| step.contains(&(n_prompt, Output::LastLogits)));
        let first = first.expect("it was read");
        waited.push(first.saturating_sub(before));
    }
    // The step that ran when it came, and its own. Where this test's own thread is held up between the two looks, one more.
    waited.sort_unstable();
    assert!(waited[2] < 2, "steps before the first token: {waited:?}");
}
