//! Models on disk: what is opened, what happens when the file changes, and how files come to be.

mod common;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{scratch_dir, scratch_file};
use troika_base::DType;
use troika_gguf::{Array, Error, Metadata, ModelFile, Value, Writer};

/// A model of two tensors: `a`, 1000 times 1, and `b`, 64 KiB times 2.
fn two_tensors() -> Vec<u8> {
    let (a, b) = ([1; 1000], vec![2; 64 << 10]);
    let mut writer = Writer::new(Metadata::default());
    writer
        .tensor_bytes("a", DType::I8, &[100, 10], &a)
        .tensor_bytes("b", DType::I8, &[256, 256], &b);
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("the model is right");
    bytes
}

#[test]
fn a_file_reads_like_memory() {
    let bytes = two_tensors();
    let path = scratch_file("reads", &bytes);
    let model = ModelFile::open(&path).unwrap();
    assert_eq!(model.name(), path.display().to_string());
    assert_eq!(model.bytes(), bytes.len() as u64);
    let in_memory = ModelFile::from_bytes("memory", bytes).unwrap();
    assert_eq!(model.tensors(), in_memory.tensors());
    for tensor in model.tensors() {
        assert_eq!(
            model.read_all(tensor).unwrap(),
            in_memory.read_all(tensor).unwrap()
        );
    }
    let a = model.tensor("a").unwrap();
    assert_eq!((a.n_elements(), a.row_len(), a.n_rows()), (1000, 100, 10));
    assert!(model.tensor("c").is_none());
}

#[test]
fn reads_stay_inside_their_tensor() {
    let model = ModelFile::from_bytes("memory", two_tensors()).unwrap();
    let a = model.tensor("a").unwrap();
    let read = |offset, len| model.read(a, offset, &mut vec![0; len]);
    assert!(read(0, 1000).is_ok() && read(999, 1).is_ok() && read(1000, 0).is_ok());
    for (offset, len) in [(0, 1001), (999, 2), (1000, 1), (u64::MAX, 1), (u64::MAX, 0)] {
        match read(offset, len) {
            Err(Error::OutsideTensor {
                tensor,
                bytes: 1000,
                ..
            }) => assert_eq!(tensor, "a"),
            other => panic!("{offset} {len}: {other:?}"),
        }
    }
    // A description that did not come from this file.
    let mut elsewhere = a.clone();
    elsewhere.offset = u64::MAX - 10;
    assert!(matches!(
        model.read_all(&elsewhere),
        Err(Error::ShortRead { .. })
    ));
    elsewhere.bytes = u64::MAX;
    assert!(model.read_all(&elsewhere).is_err());
}

#[test]
fn threads_read_at_the_same_time() {
    let model = ModelFile::open(&scratch_file("threads", &two_tensors())).unwrap();
    std::thread::scope(|scope| {
        for (name, byte) in [("a", 1), ("b", 2), ("a", 1), ("b", 2)] {
            let model = &model;
            scope.spawn(move || {
                let tensor = model.tensor(name).unwrap();
                for _ in 0..200 {
                    assert!(model.read_all(tensor).unwrap().iter().all(|&b| b == byte));
                }
            });
        }
    });
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let path = scratch_file("shrinks", &two_tensors());
    let model = ModelFile::open(&path).unwrap();
    let (a, b) = (model.tensor("a").unwrap(), model.tensor("b").unwrap());
    let shrink_to = |bytes| {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(bytes)
            .unwrap()
    };

    shrink_to(b.offset + b.bytes - 1);
    assert!(model.read_all(a).is_ok(), "what is still there can be read");
    assert!(model.read(b, 0, &mut [0; 100]).is_ok());
    let error = model.read_all(b).unwrap_err();
    assert!(matches!(&error, Error::ShortRead { tensor, want: 65536, .. } if tensor == "b"));
    let message = error.to_string();
    for part in [
        "tensor `b`",
        &format!("byte {}", b.offset),
        "expected 65536 bytes",
        "changed since",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    shrink_to(0);
    assert!(matches!(model.read_all(a), Err(Error::ShortRead { .. })));
}

#[test]
fn only_regular_files_are_opened() {
    let dir = scratch_dir("kinds");
    let refused = |path: &Path| ModelFile::open(path).unwrap_err();
    assert!(matches!(
        refused(&dir),
        Error::NotRegular {
            found: "a directory",
            ..
        }
    ));
    assert!(matches!(
        refused(&dir.join("absent")),
        Error::Io {
            action: "open the model",
            ..
        }
    ));
    #[cfg(unix)]
    {
        for device in ["/dev/zero", "/dev/null", "/dev/random"] {
            assert!(
                matches!(refused(Path::new(device)), Error::NotRegular { .. }),
                "{device}"
            );
        }
        let pipe = dir.join("pipe");
        if std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .is_ok_and(|status| status.success())
        {
            // Opening it would wait for a writer that never comes.
            assert!(matches!(refused(&pipe), Error::NotRegular { .. }));
        }
        let link = dir.join("link");
        std::os::unix::fs::symlink(scratch_file("linked", &two_tensors()), &link).unwrap();
        assert!(ModelFile::open(&link).is_ok(), "a link to a file is a file");
    }
}

#[test]
fn a_written_file_appears_whole() {
    let dir = scratch_dir("written");
    let path = dir.join("model.gguf");
    let write = |fill: u8| {
        let mut writer = Writer::new(Metadata::default());
        writer.tensor("w", DType::I8, &[5000], move |out| {
            Ok(out.write_all(&[fill; 5000])?)
        });
        writer.write_file(&path)
    };
    let stored = || {
        let model = ModelFile::open(&path).unwrap();
        model.read_all(&model.tensors()[0]).unwrap()[4999]
    };
    write(1).unwrap();
    assert_eq!(stored(), 1);
    write(2).unwrap();
    assert_eq!(stored(), 2, "the old file is replaced");

    let mut failing = Writer::new(Metadata::default());
    failing.tensor("w", DType::I8, &[5000], |out| {
        out.write_all(&[3; 4000])?;
        Err("no more".into())
    });
    assert!(matches!(failing.write_file(&path), Err(Error::Data { .. })));
    assert_eq!(stored(), 2, "a failure leaves the old file");

    let names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["model.gguf"], "nothing is left beside it");
    let mut nowhere = Writer::new(Metadata::default());
    nowhere.tensor_bytes("w", DType::I8, &[1], &[1]);
    assert!(matches!(
        nowhere.write_file(&dir.join("absent/model.gguf")),
        Err(Error::Io { .. })
    ));
}

/// The directory of models for tests, beside the workspace or where the environment says.
fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    shared.join("data").is_dir().then_some(shared)
}

#[test]
fn real_files_open() {
    let Some(shared) = shared() else {
        println!("skipped: no ../shared/data");
        return;
    };
    let mut n_files = 0;
    for folder in ["vocab", "llm"] {
        for entry in fs::read_dir(shared.join("data").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "gguf") {
                continue;
            }
            let start = Instant::now();
            let model = ModelFile::open(&path).unwrap();
            println!(
                "{:?} to open {}",
                start.elapsed(),
                path.file_name().unwrap().display()
            );
            n_files += 1;
            assert_eq!(model.tensors().is_empty(), folder == "vocab");
            model.metadata().str("general.architecture").unwrap();
            assert!(
                model
                    .metadata()
                    .strings("tokenizer.ggml.tokens")
                    .unwrap()
                    .len()
                    > 500
            );
            assert!(
                !model
                    .metadata()
                    .i32s("tokenizer.ggml.token_type")
                    .unwrap()
                    .is_empty()
            );
            if folder == "llm" {
                assert_eq!(model.metadata().u32("llama.block_count").unwrap(), 5);
                for tensor in model.tensors() {
                    model.read_all(tensor).unwrap();
                }
                assert!(common::exercise::exercise(&fs::read(&path).unwrap()));
            }
        }
    }
    assert!(n_files >= 9, "{n_files} files");
}

/// The size of a large vocabulary: 128 thousand tokens, 280 thousand merges.
#[test]
fn a_large_vocabulary_opens_at_once() {
    let words = |n: usize| (0..n).map(|i| format!("word{i}")).collect::<Vec<String>>();
    let mut metadata = Metadata::default();
    metadata.insert("tokens", words(128_000));
    metadata.insert("merges", words(280_000));
    metadata.insert("types", vec![1i32; 128_000]);
    metadata.insert("scores", Value::Array(Array::F32(vec![0.5; 128_000])));
    let path = scratch_dir("vocabulary").join("model.gguf");
    Writer::new(metadata).write_file(&path).unwrap();
    let start = Instant::now();
    let model = ModelFile::open(&path).unwrap();
    let took = start.elapsed();
    println!("{took:?} to open 408 thousand strings");
    assert_eq!(
        model.metadata().strings("merges").unwrap()[279_999],
        "word279999"
    );
    // Some 20 ms when optimised, 60 ms when not; the rest is room for busy machines.
    assert!(took.as_secs() < 2);
}

/// One of three parts, with a tensor of its own, `t0` to `t2`; `no` is what its metadata says.
fn part(dir: &Path, index: usize, no: u16, tensor: &str) -> PathBuf {
    let mut metadata = Metadata::default();
    metadata.insert("split.no", no);
    metadata.insert("split.count", 3u16);
    let bytes = [index as u8 + 1; 100];
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes(tensor, DType::I8, &[100], &bytes);
    let path = dir.join(format!("m-{:05}-of-00003.gguf", index + 1));
    writer.write_file(&path).expect("the model is right");
    path
}

#[test]
fn the_first_part_opens_all() {
    let dir = scratch_dir("parts");
    let paths = [(0, "t2"), (1, "t0"), (2, "t1")].map(|(i, name)| part(&dir, i, i as u16, name));
    let model = ModelFile::open(&paths[0]).unwrap();
    let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["t2", "t0", "t1"]);
    for (index, name) in names.into_iter().enumerate() {
        let tensor = model.tensor(name).expect("is listed");
        assert_eq!(model.read_all(tensor).unwrap(), [index as u8 + 1; 100]);
        assert!(model.read(tensor, 1, &mut [0; 100]).is_err());
    }
    let sizes = paths
        .each_ref()
        .map(|path| fs::metadata(path).unwrap().len());
    assert_eq!(model.bytes(), sizes.iter().sum::<u64>());
    assert_eq!(ModelFile::open(&paths[1]).unwrap().tensors().len(), 1);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let dir = scratch_dir("parts-that-do-not-fit");
    let first = part(&dir, 0, 0, "a");
    let open = || ModelFile::open(&first).unwrap_err().to_string();
    assert!(open().contains("m-00002-of-00003.gguf"), "{}", open());
    part(&dir, 1, 1, "b");
    part(&dir, 2, 1, "c");
    assert!(open().starts_with("expected part 3"), "{}", open());
    part(&dir, 2, 2, "a");
    assert!(
        open().contains("tensor `a`") && open().contains("stands twice"),
        "{}",
        open()
    );
}
