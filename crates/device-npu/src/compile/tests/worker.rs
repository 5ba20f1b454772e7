//! What comes of a compilation, whatever the compiler does.

use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use troika_device::Cancelled;

use super::fake::{Fake, Temper, model, options, worker};
use crate::compile::{Done, Request, Worker, serve};
use crate::{Absent, Backend as _, CompileProgress, Error, Phase};

fn request(directory: &Path, temper: Temper) -> Request {
    let backend = Fake(temper);
    fs::create_dir(directory.join("out")).expect("is made");
    Request {
        model: model(directory, "model")
            .path()
            .expect("is a file")
            .to_owned(),
        backend: backend.name(),
        version: backend.version(),
        options: options(),
        directory: directory.join("out"),
        compares: true,
    }
}

fn run(worker: &Worker, temper: Temper) -> Result<Done, Error> {
    let directory = TempDir::new().expect("a directory");
    let request = request(directory.path(), temper);
    worker.run(&request, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_good_compiler_compiles_and_tells_how_far_it_is() {
    let directory = TempDir::new().expect("a directory");
    let request = request(directory.path(), Temper::Good);
    let mut heard: Vec<CompileProgress> = Vec::new();
    let done = worker().run(&request, &mut |progress| {
        heard.push(progress);
        ControlFlow::Continue(())
    });
    let loss = done.expect("compiles").loss.expect("was compared");
    assert_eq!(loss.tokens, 100);
    assert!(
        heard
            .iter()
            .any(|heard| heard.phase == Phase::Lower && heard.done == 4)
    );
    assert!(request.directory.join("weights/0.bin").is_file());
}

#[test]
fn noise_on_standard_output_does_no_harm() {
    assert!(run(&worker(), Temper::Noisy).is_ok());
}

#[test]
fn a_crash_after_the_result_does_no_harm() {
    let mut worker = worker();
    worker.env.push(("TROIKA_TEST_BAD_END".into(), "1".into()));
    assert!(run(&worker, Temper::BadEnd).is_ok());
}

#[test]
fn a_dead_compiler_is_an_error_with_its_last_words() {
    for (temper, want_how, want_last) in [
        (Temper::Crash, "signal", "terminate called"),
        (Temper::Panic, "exited with status 101", "a paper jam"),
        (Temper::Exit, "exited with status 3", ""),
    ] {
        match run(&worker(), temper) {
            Err(Error::CompilerDied { how, last }) => {
                assert!(how.contains(want_how), "{temper:?}: {how}");
                assert!(last.contains(want_last), "{temper:?}: {last}");
            }
            other => panic!("{temper:?}: {other:?}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn a_killed_compiler_is_an_error() {
    let script = "read request; echo 'half a word' >&2; kill -9 $$";
    let worker = Worker {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..Worker::default()
    };
    match run(&worker, Temper::Good) {
        Err(Error::CompilerDied { how, last }) => {
            assert_eq!(how, "was killed by signal 9");
            assert_eq!(last, "half a word");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_backend_says_arrives_as_it_was_said() {
    match run(&worker(), Temper::Refuse) {
        Err(Error::Unsupported { reason, .. }) => assert_eq!(reason, "its attention has a window"),
        other => panic!("{other:?}"),
    }
    match run(&worker(), Temper::Nonsense) {
        Err(Error::Library { message, .. }) => assert_eq!(message, "its logits are no numbers"),
        other => panic!("{other:?}"),
    }
}

/// Processes whose command line has a word.
#[cfg(target_os = "linux")]
fn running(word: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("is mounted").flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_cancelled_compiler_is_gone_with_all_that_it_started() {
    let mut worker = worker();
    // Makes the command lines of this child, and of what it starts, its own.
    worker.program = "sh".into();
    let own = std::env::current_exe().expect("is known");
    let script = format!(
        "sleep 61803 & exec '{}' --exact compile::tests::fake::child --nocapture",
        own.display()
    );
    worker.args = vec!["-c".into(), script.into()];
    let directory = TempDir::new().expect("a directory");
    let request = request(directory.path(), Temper::Hang);
    let started = Instant::now();
    let ended = worker.run(
        &request,
        &mut |_| match started.elapsed() < Duration::from_millis(800) {
            true => ControlFlow::Continue(()),
            false => {
                assert_eq!(running("sleep\x0061803"), 1);
                ControlFlow::Break(Cancelled)
            }
        },
    );
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let until = Instant::now() + Duration::from_secs(5);
    while running("sleep\x0061803") > 0 {
        assert!(Instant::now() < until, "what the compiler started goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_compiler_that_takes_too_long_is_ended() {
    let mut worker = worker();
    worker.timeout = Some(Duration::from_millis(700));
    match run(&worker, Temper::Hang) {
        Err(Error::CompilerDied { how, .. }) => assert!(how.contains("0.7 s"), "{how}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let worker = Worker {
        program: "no/such/program".into(),
        ..Worker::default()
    };
    match run(&worker, Temper::Good) {
        Err(Error::Io { path, .. }) => assert_eq!(path, Path::new("no/such/program")),
        other => panic!("{other:?}"),
    }
}

/// Two children that do not know the backend as the parent does.
#[test]
fn a_library_that_changed_meanwhile_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let mut request = request(directory.path(), Temper::Good);
    for (backend, version) in [
        ("fake-good", "driver 0"),
        ("fake-other", "driver 1, compiler 2"),
    ] {
        request.backend = backend.to_owned();
        request.version = version.to_owned();
        let ended = worker().run(&request, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(ended, Err(Error::Invalid { .. })), "{ended:?}");
    }
}

#[test]
fn a_request_that_is_none_is_refused() {
    struct Nobody;
    impl crate::compile::Compare for Nobody {
        fn compare(
            &self,
            _: &troika_gguf::ModelFile,
            _: &dyn troika_device::Device,
            _: &crate::CompileOptions,
            _: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
        ) -> Result<crate::compile::Loss, Error> {
            Err(Absent::NoDevice {
                maker: "paper".to_owned(),
            }
            .into())
        }
    }
    for text in ["", "\n", "{}\n", "{\"model\": 3}\n"] {
        let mut out = Vec::new();
        let ended = serve(Cursor::new(text.to_owned()), &mut out, &[], &Nobody, || {});
        assert!(
            matches!(ended, Err(Error::Invalid { .. })),
            "{text:?}: {ended:?}"
        );
        assert!(out.is_empty());
    }
}
