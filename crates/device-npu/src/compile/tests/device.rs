//! The device: compiled once, kept, refused, evicted; by one process and by several.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use troika_base::Bytes;
use troika_device::{Cancelled, Device as _, LoadOptions, PAGE_TOKENS, Preparation};
use troika_gguf::ModelFile;

use super::fake::{Fake, LOG, Temper, model, worker};
use crate::compile::Store;
use crate::{Error, NpuDevice, NpuOptions, Phase};

fn device(root: &Path, temper: Temper, options: NpuOptions) -> NpuDevice {
    let mut worker = worker();
    worker.env.push((LOG.into(), root.join("log").into()));
    let store = Store::new(root.join("compiled"), Bytes(1 << 30));
    NpuDevice::new("npu0", Arc::new(Fake(temper)), store, worker, options)
}

fn compile(device: &NpuDevice, file: &ModelFile) -> Result<(), Error> {
    let entry = device.compile(file, 300, &mut |_| ControlFlow::Continue(()));
    entry.map(drop)
}

fn compilations(root: &Path) -> usize {
    fs::read_to_string(root.join("log")).map_or(0, |log| log.lines().count())
}

/// What is in the cache but its lock.
fn left(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("compiled")).expect("is there");
    let names = entries.map(|entry| entry.expect("is read").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "lock").collect()
}

#[test]
fn a_model_is_compiled_once_and_loaded_with_progress() {
    let root = TempDir::new().expect("a directory");
    let device = device(root.path(), Temper::Good, NpuOptions::default());
    let file = model(root.path(), "model");
    assert!(!device.is_compiled(&file, 300).expect("is read"));
    for _ in 0..2 {
        let mut heard = Vec::new();
        let loaded = device.load(&file, LoadOptions::new(300), &mut |progress| {
            heard.push(progress.done);
            ControlFlow::Continue(())
        });
        let resident = loaded.expect("loads");
        // The next power of two, which is the model's own length.
        assert_eq!(resident.n_page(), 512 / PAGE_TOKENS);
        assert!(heard.is_sorted() && heard.first() == Some(&Bytes(0)));
        assert_eq!(heard.last(), Some(&Bytes(16)));
    }
    assert_eq!(compilations(root.path()), 1);
    assert!(device.is_compiled(&file, 300).expect("is read"));
    assert!(
        !device
            .is_compiled(&model(root.path(), "other"), 300)
            .expect("is read")
    );
    // A model in use stays.
    let loaded = device.load(&file, LoadOptions::new(300), &mut |_| {
        ControlFlow::Continue(())
    });
    let store = Store::new(root.path().join("compiled"), Bytes(0));
    assert_eq!(store.clear().expect("is cleared").in_use, 1);
    drop(loaded);
    assert_eq!(store.clear().expect("is cleared").removed, 1);
}

#[test]
fn a_model_is_prepared_without_being_opened() {
    let root = TempDir::new().expect("a directory");
    let device = device(root.path(), Temper::Good, NpuOptions::default());
    let file = model(root.path(), "model");
    let mut heard = Vec::new();
    let prepared = device.prepare(&file, &mut |progress| {
        heard.push(progress.done);
        ControlFlow::Continue(())
    });
    prepared.expect("compiles");
    assert!(heard.is_sorted() && heard.last() == Some(&Bytes(16)));
    assert_eq!(
        device.preparation(&file).expect("is read"),
        Preparation::Ready
    );
    // A load asks for fewer tokens and takes what there is; for more, and it is another form.
    assert!(device.is_compiled(&file, 300).expect("is read"));
    assert!(!device.is_compiled(&file, 600).expect("is read"));
}

#[test]
fn a_damaged_model_is_compiled_anew() {
    let root = TempDir::new().expect("a directory");
    let device = device(root.path(), Temper::Good, NpuOptions::default());
    let file = model(root.path(), "model");
    let entry = device.compile(&file, 300, &mut |_| ControlFlow::Continue(()));
    let blob = entry.expect("compiles").directory().join("weights/0.bin");
    fs::write(blob, [8; 3000]).expect("is written");
    compile(&device, &file).expect("compiles again");
    assert_eq!(compilations(root.path()), 2);
}

#[test]
fn what_loses_too_much_is_refused_and_not_compiled_again() {
    let root = TempDir::new().expect("a directory");
    let strict = device(root.path(), Temper::Lossy, NpuOptions::default());
    let file = model(root.path(), "model");
    assert_eq!(
        strict.preparation(&file).expect("is read"),
        Preparation::Needed
    );
    for _ in 0..2 {
        match compile(&strict, &file) {
            Err(Error::Loss { kl, format, .. }) => {
                assert_eq!((kl, &*format), (3.5, "f16"));
            }
            other => panic!("{other:?}"),
        }
    }
    match strict.preparation(&file).expect("is read") {
        Preparation::Impossible(why) => assert!(why.contains("3.5"), "{why}"),
        other => panic!("{other:?}"),
    }
    let lenient = NpuOptions {
        loss_max: Some(4.0),
        ..NpuOptions::default()
    };
    compile(&device(root.path(), Temper::Lossy, lenient), &file).expect("is allowed");
    assert_eq!(compilations(root.path()), 1);
}

#[test]
fn failures_leave_nothing_in_the_cache() {
    for temper in [
        Temper::Crash,
        Temper::Full,
        Temper::Refuse,
        Temper::Nonsense,
        Temper::Exit,
    ] {
        let root = TempDir::new().expect("a directory");
        let device = device(root.path(), temper, NpuOptions::default());
        let file = model(root.path(), "model");
        let failed = compile(&device, &file);
        match (temper, &failed) {
            (Temper::Full, Err(Error::Io { source, .. })) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{source}");
            }
            (Temper::Crash | Temper::Exit, Err(Error::CompilerDied { .. }))
            | (Temper::Refuse, Err(Error::Unsupported { .. }))
            | (Temper::Nonsense, Err(Error::Library { .. })) => {}
            _ => panic!("{temper:?}: {failed:?}"),
        }
        assert!(
            left(root.path()).is_empty(),
            "{temper:?}: {:?}",
            left(root.path())
        );
        // The device's own word for it.
        let loaded = device.load(&file, LoadOptions::new(300), &mut |_| {
            ControlFlow::Continue(())
        });
        match loaded.map(drop) {
            Err(troika_device::Error::Unsupported { .. }) if temper == Temper::Refuse => {}
            Err(troika_device::Error::Failed { device, .. }) => assert_eq!(device, "npu0"),
            other => panic!("{temper:?}: {other:?}"),
        }
    }
}

#[test]
fn loads_can_be_broken_off_at_any_time() {
    for at in [0, 1, 3] {
        let root = TempDir::new().expect("a directory");
        let device = device(root.path(), Temper::Hang, NpuOptions::default());
        let file = model(root.path(), "model");
        let mut calls = 0;
        let loaded = device.load(&file, LoadOptions::new(300), &mut |_| {
            calls += 1;
            match calls > at {
                true => ControlFlow::Break(Cancelled),
                false => ControlFlow::Continue(()),
            }
        });
        assert!(matches!(
            loaded.map(drop),
            Err(troika_device::Error::Cancelled)
        ));
        if at > 0 {
            assert!(left(root.path()).is_empty(), "{:?}", left(root.path()));
        }
    }
}

#[test]
fn a_model_in_memory_is_compiled_from_a_copy() {
    let root = TempDir::new().expect("a directory");
    let device = device(root.path(), Temper::Good, NpuOptions::default());
    let file = model(root.path(), "model");
    let bytes = fs::read(file.path().expect("is a file")).expect("is read");
    let in_memory = ModelFile::from_bytes("in memory", bytes).expect("opens");
    let mut phases = Vec::new();
    let entry = device.compile(&in_memory, 300, &mut |progress| {
        phases.push(progress.phase);
        ControlFlow::Continue(())
    });
    assert_eq!(entry.expect("compiles").manifest().model, "in memory");
    assert!(phases.contains(&Phase::Lower));
    // It is the same model.
    assert!(device.is_compiled(&file, 300).expect("is read"));
}

const ROOT: &str = "TROIKA_TEST_ROOT";

fn this_test_elsewhere(name: &str, before: &[&str], root: &Path) -> std::io::Result<Output> {
    let own = std::env::current_exe().expect("is known");
    let mut words: Vec<_> = before.iter().map(Into::into).collect();
    words.extend([
        own.into_os_string(),
        "--exact".into(),
        format!("compile::tests::device::{name}").into(),
        "--nocapture".into(),
    ]);
    Command::new(&words[0])
        .args(&words[1..])
        .env(ROOT, root)
        .stdin(Stdio::null())
        .output()
}

/// In a process of its own: compiles in the directory that the variable names.
#[test]
fn elsewhere_compiles() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let file = ModelFile::open(&root.join("model.gguf")).expect("opens");
    let device = device(root, Temper::Good, NpuOptions::default());
    compile(&device, &file).expect("compiles");
}

#[test]
fn of_two_processes_at_once_one_compiles() {
    let root = TempDir::new().expect("a directory");
    drop(model(root.path(), "model"));
    let ended: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| this_test_elsewhere("elsewhere_compiles", &[], root.path())))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|ended| ended.expect("does not panic")).collect()
    });
    for output in ended {
        let output = output.expect("is started");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(compilations(root.path()), 1);
}

/// In a process of its own, with a small disk at the directory that the variable names.
#[test]
fn elsewhere_fills_the_disk() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let file = model(root, "model");
    let device = device(root, Temper::Full, NpuOptions::default());
    match compile(&device, &file) {
        Err(Error::Io { path, source }) => {
            assert!(path.ends_with("weights.bin"), "{}", path.display());
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert!(left(root).is_empty(), "{:?}", left(root));
    // The room is there again.
    fs::write(root.join("later"), vec![1; 300 << 10]).expect("there is room");
}

#[test]
fn a_real_full_disk_leaves_nothing_behind() {
    let root = TempDir::new().expect("a directory");
    let mount = "mount -t tmpfs -o size=512k none \"$TROIKA_TEST_ROOT\" && exec \"$@\"";
    let apart = ["unshare", "-rm", "sh", "-c", mount, "sh"];
    // `true` in place of the test tells whether this system lets us.
    let allowed = Command::new(apart[0])
        .args(&apart[1..])
        .arg("true")
        .env(ROOT, root.path())
        .output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: this system gives no small disk to a user");
        return;
    }
    let output = this_test_elsewhere("elsewhere_fills_the_disk", &apart, root.path());
    let output = output.expect("is started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
