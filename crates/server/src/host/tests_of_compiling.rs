//! The host with a device that runs compiled models alone.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use sha2::{Digest as _, Sha256};
use troika_base::Bytes;
use troika_device::{Cancelled, Error, LoadOptions, LoadProgress, Preparation, Resident};
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;

use super::models::lock;
use super::tests::{Home, STORIES, answer, job};
use super::*;
use crate::ErrorKind;
use crate::backend::Stage;

/// The processor, which must compile first and takes as long as the test wants.
struct Compiler {
    inner: CpuDevice,
    /// What comes of it, once the test says so.
    outcome: Mutex<Option<Result<(), &'static str>>>,
    decided: Condvar,
    has_compiled: AtomicBool,
    was_cancelled: AtomicBool,
}

impl Compiler {
    fn decide(&self, outcome: Result<(), &'static str>) {
        *lock(&self.outcome) = Some(outcome);
        self.decided.notify_all();
    }
}

impl Device for Compiler {
    fn name(&self) -> &str {
        "npu0"
    }

    fn description(&self) -> String {
        "a test's compiler".to_owned()
    }

    fn preparation(&self, file: &ModelFile) -> Result<Preparation, Error> {
        if file.adapter().is_some() {
            return Ok(Preparation::Impossible(
                "adapters are not compiled".to_owned(),
            ));
        }
        Ok(match self.has_compiled.load(Ordering::SeqCst) {
            true => Preparation::Ready,
            false => Preparation::Needed,
        })
    }

    fn prepare(
        &self,
        _file: &ModelFile,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error> {
        let half = LoadProgress {
            done: Bytes(1),
            total: Bytes(2),
        };
        let mut outcome = lock(&self.outcome);
        loop {
            if progress(half).is_break() {
                self.was_cancelled.store(true, Ordering::SeqCst);
                return Err(Error::Cancelled);
            }
            if let Some(outcome) = *outcome {
                self.has_compiled.store(outcome.is_ok(), Ordering::SeqCst);
                return outcome.map_err(|why| Error::Failed {
                    device: "npu0".to_owned(),
                    reason: why.to_owned(),
                });
            }
            let short = std::time::Duration::from_millis(5);
            let waited = self.decided.wait_timeout(outcome, short);
            outcome = waited.expect("no test panics here").0;
        }
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let is_known = file.metadata().opt_str("general.name")?.is_none();
        // The probe's own model is small enough to be had without.
        assert!(self.has_compiled.load(Ordering::SeqCst) || is_known);
        self.inner.load(file, options, progress)
    }
}

fn host(home: &Home) -> (Host, Arc<Compiler>) {
    let cpu = || CpuDevice::batch_invariant(1);
    let compiler = Arc::new(Compiler {
        inner: cpu(),
        outcome: Mutex::default(),
        decided: Condvar::new(),
        has_compiled: AtomicBool::new(false),
        was_cancelled: AtomicBool::new(false),
    });
    let profile = |name: &str, kind| DeviceProfile::unknown(name, kind);
    let devices = vec![
        HostDevice::new(Arc::new(cpu()), profile("cpu", DeviceKind::Cpu), PoolId(0)),
        HostDevice::new(
            Arc::clone(&compiler) as Arc<dyn Device>,
            profile("npu", DeviceKind::Npu),
            PoolId(0),
        ),
    ];
    let library = Library::open(home.0.clone(), &[("stories", STORIES)]);
    let settings = HostSettings {
        kv_tokens: Some(4096),
        ..HostSettings::default()
    };
    let host = Host::over(Arc::new(library), devices, vec![ram(None)], settings);
    (host.expect("threads"), compiler)
}

fn on_npu() -> Job {
    let mut job = job("Once upon a time", 10);
    job.wishes.device = Some("npu0".to_owned());
    job
}

async fn until(host: &Host, is_so: impl Fn(&[crate::backend::Compiling]) -> bool) {
    for _ in 0..1000 {
        let state = host.state().expect("a state");
        if is_so(&state.compiling) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it never came to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_runs_elsewhere_until_it_is_compiled() {
    let home = Home::new("compiles");
    let (host, compiler) = host(&home);
    let first = answer(&host, job("Once upon a time", 10)).await;
    let first = first.expect("the processor answers");
    until(&host, |all| {
        matches!(all, [it] if it.stage == Stage::Compiling && it.done == Bytes(1) && it.device == "npu0")
    })
    .await;
    let refused = answer(&host, on_npu()).await.expect_err("not yet");
    assert_eq!(refused.kind, ErrorKind::RequiredDevice);
    assert!(refused.message.contains("being compiled"), "{refused}");
    compiler.decide(Ok(()));
    until(&host, <[_]>::is_empty).await;
    let there = answer(&host, on_npu()).await.expect("it is there now");
    assert_eq!(there.choices, first.choices);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_compile_runs_elsewhere_and_the_reason_is_told() {
    let home = Home::new("does-not-compile");
    let (host, compiler) = host(&home);
    compiler.decide(Err("the graph has 17 corners"));
    answer(&host, job("Once upon a time", 10))
        .await
        .expect("the processor answers");
    until(&host, |all| matches!(all, [it] if it.stage == Stage::Failed && it.why.as_deref().is_some_and(|why| why.contains("17 corners")))).await;
    let refused = answer(&host, on_npu()).await.expect_err("never");
    assert!(refused.message.contains("17 corners"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_adapters_runs_where_they_are_computed() {
    let home = Home::new("adapter-compiles");
    let (host, compiler) = host(&home);
    compiler.decide(Ok(()));
    let bytes = super::tests_of_adapters::adapter(1, "llama");
    let digest = troika_library::Digest::of(&Sha256::digest(&bytes));
    let library = host.library().expect("it has one");
    let mut upload = library.upload(digest.clone(), 1 << 30).expect("a file");
    upload.write(&bytes).expect("is written");
    upload.finish().expect("is whole");
    let manifest = Manifest {
        from: "stories".to_owned(),
        adapters: vec![troika_library::Lora {
            from: digest.to_string(),
            scale: 1.0,
        }],
        ..Manifest::default()
    };
    host.create("adapted".to_owned(), manifest)
        .await
        .expect("fits");
    let mut elsewhere = job("Once upon a time", 10);
    elsewhere.model = "adapted".to_owned();
    let done = answer(&host, elsewhere)
        .await
        .expect("the processor answers");
    let report = done.usage.report.expect("it was done here");
    assert!(!report.devices.contains(&"npu0".to_owned()), "{report:?}");
    let mut there = on_npu();
    there.model = "adapted".to_owned();
    let refused = answer(&host, there).await.expect_err("never");
    assert_eq!(refused.kind, ErrorKind::RequiredDevice);
    assert!(
        refused.message.contains("adapters are not compiled"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_compiled_for_nobody() {
    let home = Home::new("compiles-for-nobody");
    let (host, compiler) = host(&home);
    answer(&host, job("Once upon a time", 10))
        .await
        .expect("the processor answers");
    until(&host, |all| !all.is_empty()).await;
    drop(host);
    for _ in 0..1000 {
        if compiler.was_cancelled.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it compiles on");
}
