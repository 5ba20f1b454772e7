//! The library on a real directory.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use troika_base::DType;
use troika_gguf::{Metadata, Writer};

use super::*;
use crate::{Parameters, Turn};

static BUILT_IN: BuiltIn = &[("inside", b"not even a model")];

fn empty() -> (TempDir, Library) {
    let directory = tempfile::tempdir().unwrap();
    let library = Library::open(directory.path().join("models"), BUILT_IN);
    (directory, library)
}

/// A library with the file `tiny.gguf`.
fn with_tiny() -> (TempDir, Library) {
    let (directory, library) = empty();
    fs::create_dir_all(library.directory()).unwrap();
    fs::write(library.directory().join("tiny.gguf"), gguf()).unwrap();
    (directory, library)
}

fn gguf() -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.context_length", 512u32);
    metadata.insert("llama.embedding_length", 4u32);
    metadata.insert("tokenizer.chat_template", "{{ messages }}");
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes("output.weight", DType::F32, &[4, 2], &[0; 32]);
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    bytes
}

fn over(from: &str) -> Manifest {
    Manifest {
        from: from.to_owned(),
        ..Manifest::default()
    }
}

fn names(library: &Library) -> Vec<String> {
    let entries = library.list().unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

fn files_below(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).map_or_else(|_| Vec::new(), Iterator::collect);
    let name = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name();
    let mut names: Vec<_> = files.into_iter().map(name).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| name.into_string().unwrap())
        .collect()
}

#[test]
fn no_directory_is_the_built_in_model_alone() {
    let (_directory, library) = empty();
    assert_eq!(names(&library), ["inside"]);
    let entry = library.find("inside:latest").unwrap();
    assert_eq!(entry.source, Source::BuiltIn(BUILT_IN[0].1));
    let error = library.find("other").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"there is no model "other"; there is inside"#
    );
    assert!(!library.directory().exists(), "asking made it");
}

#[test]
fn files_are_found_by_their_names() {
    let (_directory, library) = with_tiny();
    for name in ["tiny", "tiny.gguf", "tiny:latest", "TINY", "Tiny.GGUF"] {
        assert_eq!(library.find(name).unwrap().name, "tiny", "{name}");
    }
    for name in [
        "",
        ".",
        "..",
        "../models/tiny",
        "./tiny",
        "tiny:other",
        "manifests",
        "é:latest",
    ] {
        assert!(
            matches!(library.find(name), Err(Error::NotFound { .. })),
            "{name}"
        );
    }
    let entry = library.find("tiny").unwrap();
    let summary = entry.summary().unwrap();
    assert_eq!(
        *summary,
        crate::Summary {
            architecture: "llama".to_owned(),
            n_parameter: 8,
            quantization: "F32".to_owned(),
            n_ctx_train: 512,
            n_embd: 4,
            template: Some("{{ messages }}".to_owned()),
        }
    );
    assert!(Arc::ptr_eq(
        &summary,
        &library.find("tiny").unwrap().summary().unwrap()
    ));
    assert!(!entry.is_created);
}

#[test]
fn files_of_one_model_are_one() {
    let (_directory, library) = empty();
    fs::create_dir_all(library.directory()).unwrap();
    let put = |name: &str| fs::write(library.directory().join(name), gguf()).unwrap();
    // A later part without its first one is none.
    put("stray-00002-of-00002.gguf");
    for number in 1..=3 {
        put(&format!("big-{number:05}-of-00003.gguf"));
    }
    // As many others, and one that stands alone.
    put("big-00001-of-00002.gguf");
    put("big-1-of-2.gguf");
    assert_eq!(
        names(&library),
        ["big", "big-00001-of-00003.gguf", "big-1-of-2", "inside"]
    );
    let one = gguf().len() as u64;
    assert_eq!(library.find("big").unwrap().file_bytes, one);
    let whole = library.find("big-00001-of-00003.gguf").unwrap();
    assert_eq!(whole.file_bytes, 3 * one);
    library.delete("big-00001-of-00003.gguf").unwrap();
    let left = [
        "big-00001-of-00002.gguf",
        "big-1-of-2.gguf",
        "stray-00002-of-00002.gguf",
    ];
    assert_eq!(files_below(library.directory()), left);
}

#[test]
fn a_file_that_changes_is_another_state() {
    let (_directory, library) = with_tiny();
    let before = library.find("tiny").unwrap();
    before.summary().unwrap();
    fs::write(library.directory().join("tiny.gguf"), b"broken").unwrap();
    let after = library.find("tiny").unwrap();
    assert_ne!(before.digest(), after.digest());
    assert_eq!(before.digest().len(), 64);
    let error = after.summary().unwrap_err();
    assert!(matches!(error, Error::Model { .. }), "{error}");
    assert_eq!(
        names(&library),
        ["tiny", "inside"],
        "it is listed all the same"
    );
}

#[test]
fn settings_are_handed_down() {
    let (_directory, library) = with_tiny();
    let first = Manifest {
        system: Some("Be brief.".to_owned()),
        messages: vec![Turn {
            role: "user".to_owned(),
            content: "Hi".to_owned(),
        }],
        parameters: Parameters {
            temperature: Some(0.7),
            stop: vec!["END".to_owned()],
            ..Parameters::default()
        },
        ..over("tiny")
    };
    library.create("acme/brief:1", first.clone()).unwrap();
    let second = Manifest {
        system: Some("Be long.".to_owned()),
        ..over("ACME/brief:1")
    };
    let entry = library.create("long", second).unwrap();
    let want = Manifest {
        from: "tiny.gguf".to_owned(),
        system: Some("Be long.".to_owned()),
        ..first
    };
    assert_eq!(entry.manifest, want);
    assert_eq!(
        library.find("long:latest").unwrap().manifest,
        want,
        "as it was written"
    );
    assert_eq!(entry.summary().unwrap().architecture, "llama");
    assert_eq!(names(&library), ["acme/brief:1", "long", "tiny", "inside"]);
    assert_ne!(entry.digest(), library.find("tiny").unwrap().digest());
    library.delete("acme/brief:1").unwrap();
    library.find("long").unwrap().open().unwrap();
}

#[test]
fn a_created_model_can_be_created_anew_in_other_letters() {
    let (_directory, library) = with_tiny();
    library.create("Pirate", over("tiny")).unwrap();
    let manifest = Manifest {
        system: Some("Arr".to_owned()),
        ..over("pirate")
    };
    library.create("pirate", manifest).unwrap();
    assert_eq!(names(&library), ["Pirate", "tiny", "inside"]);
    assert_eq!(
        library.find("PIRATE").unwrap().manifest.system.as_deref(),
        Some("Arr")
    );
}

#[test]
fn what_cannot_be_created_leaves_nothing() {
    let (_directory, library) = with_tiny();
    let bad_number = Manifest {
        parameters: Parameters {
            top_p: Some(f32::NAN),
            ..Parameters::default()
        },
        ..over("tiny")
    };
    let huge = Manifest {
        system: Some("x".repeat(5 << 20)),
        ..over("tiny")
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    for (name, manifest) in [
        ("../x", over("tiny")),
        ("x", over("nothing")),
        ("x", over("../tiny")),
        ("x", over(&digest)),
        ("x", bad_number),
        ("x", huge),
        ("tiny", over("tiny")),
        ("TINY", over("tiny")),
        ("inside", over("tiny")),
    ] {
        library.create(name, manifest).expect_err(name);
    }
    assert_eq!(files_below(library.directory()), ["tiny.gguf"]);
}

#[test]
fn files_are_deleted_when_nobody_needs_them() {
    let (_directory, library) = with_tiny();
    library.copy("tiny", "second").unwrap();
    let error = library.delete("tiny").unwrap_err().to_string();
    assert!(error.contains(r#""second" is made of it"#), "{error}");
    library.delete("second").unwrap();
    assert_eq!(names(&library), ["tiny", "inside"]);
    assert_eq!(library.delete("tiny:latest").unwrap(), "tiny");
    assert_eq!(names(&library), ["inside"]);
    assert!(matches!(library.delete("inside"), Err(Error::Conflict(_))));
    assert!(matches!(
        library.delete("tiny"),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn a_damaged_manifest_hides_nothing_else() {
    let (_directory, library) = with_tiny();
    library.create("sound", over("tiny")).unwrap();
    library.create("lost", over("inside")).unwrap();
    let manifests = library.directory().join("manifests");
    for (file, text) in [
        ("torn.json", r#"{"from": "tiny.gg"#),
        ("lost.json", r#"{"from": "gone.gguf"}"#),
        ("out.json", r#"{"from": "../../etc/passwd"}"#),
        ("chain.json", r#"{"from": "sound"}"#),
        ("deep.json", &"[".repeat(100_000)),
        (
            "zero.json",
            r#"{"from": "tiny.gguf", "parameters": {"n_ctx": 0}}"#,
        ),
        ("..+x.json", r#"{"from": "tiny.gguf"}"#),
        ("notes.txt", "no manifest"),
    ] {
        fs::write(manifests.join(file), text).unwrap();
    }
    fs::create_dir(manifests.join("directory.json")).unwrap();
    let survey = library.survey().unwrap();
    let damaged: Vec<_> = survey.damaged.iter().map(|it| &*it.name).collect();
    assert_eq!(damaged, ["chain", "deep", "lost", "out", "torn", "zero"]);
    assert_eq!(names(&library), ["sound", "tiny", "inside"]);
    assert!(matches!(library.find("torn"), Err(Error::Damaged { .. })));
    library.delete("torn").unwrap();
    library.create("lost", over("tiny")).unwrap();
    library.find("lost").unwrap();
}

#[test]
fn a_manifest_goes_before_a_file_of_its_name() {
    let (_directory, library) = with_tiny();
    library.create("other", over("tiny")).unwrap();
    fs::write(library.directory().join("other.gguf"), gguf()).unwrap();
    assert_eq!(names(&library), ["other", "other.gguf", "tiny", "inside"]);
    assert!(library.find("other").unwrap().is_created);
    assert!(!library.find("other.gguf").unwrap().is_created);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_models() {
    use std::os::unix::fs::symlink;
    let (directory, library) = with_tiny();
    let models = library.directory();
    fs::create_dir(models.join("folder.gguf")).unwrap();
    symlink("/dev/zero", models.join("endless.gguf")).unwrap();
    symlink("nowhere", models.join("dangling.gguf")).unwrap();
    fs::write(models.join(".hidden.gguf"), gguf()).unwrap();
    fs::rename(models.join("tiny.gguf"), directory.path().join("elsewhere")).unwrap();
    symlink(
        directory.path().join("elsewhere"),
        models.join("linked.gguf"),
    )
    .unwrap();
    assert_eq!(names(&library), ["linked", "inside"]);
    library.delete("linked").unwrap();
    assert!(
        directory.path().join("elsewhere").is_file(),
        "the link was deleted, not the file"
    );
}

#[test]
fn uploads_become_models_and_go_with_the_last_of_them() {
    let (_directory, library) = empty();
    let bytes = gguf();
    let digest = Digest::of(&Sha256::digest(&bytes));
    assert!(!library.has_blob(&digest));
    let mut upload = library.upload(digest.clone(), 1 << 20).unwrap();
    for chunk in bytes.chunks(100) {
        upload.write(chunk).unwrap();
    }
    upload.finish().unwrap();
    assert!(library.has_blob(&digest));
    assert_eq!(names(&library), ["inside"], "it has no name yet");

    library.create("up", over(&digest.to_string())).unwrap();
    library.create("up2", over("up")).unwrap();
    assert_eq!(
        library.find("up").unwrap().summary().unwrap().n_parameter,
        8
    );
    library.delete("up").unwrap();
    library.find("up2").unwrap().open().unwrap();
    library.delete("up2").unwrap();
    assert!(!library.has_blob(&digest));
}

#[test]
fn a_bad_upload_leaves_nothing() {
    let (_directory, library) = empty();
    let blobs = library.directory().join("blobs");
    let digest = Digest::of(&Sha256::digest(b"this"));
    let mut upload = library.upload(digest.clone(), 10).unwrap();
    upload.write(b"that").unwrap();
    assert!(matches!(upload.finish(), Err(Error::WrongDigest { .. })));
    let mut upload = library.upload(digest.clone(), 10).unwrap();
    upload.write(b"0123456789").unwrap();
    assert!(matches!(
        upload.write(b"0"),
        Err(Error::TooLarge { bytes_max: 10 })
    ));
    drop(upload);
    assert_eq!(files_below(&blobs), [""; 0]);
    // What is no model makes none.
    let mut upload = library.upload(digest.clone(), 10).unwrap();
    upload.write(b"this").unwrap();
    upload.finish().unwrap();
    let error = library.create("x", over(&digest.to_string())).unwrap_err();
    assert!(matches!(error, Error::Model { .. }), "{error}");
}

#[test]
fn what_was_forgotten_is_removed() {
    let (_directory, library) = empty();
    let blobs = library.directory().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let bytes = gguf();
    let needed = Digest::of(&Sha256::digest(&bytes));
    let forgotten = Digest::of(&Sha256::digest(b"forgotten"));
    fs::write(blobs.join(needed.blob_file()), &bytes).unwrap();
    library.create("user", over(&needed.to_string())).unwrap();
    for file in [&*forgotten.blob_file(), ".tmpAb1"] {
        fs::write(blobs.join(file), b"forgotten").unwrap();
    }
    let fresh = Digest::of(&Sha256::digest(b"fresh"));
    fs::write(blobs.join(fresh.blob_file()), b"fresh").unwrap();
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    for file in [&*forgotten.blob_file(), ".tmpAb1", &needed.blob_file()] {
        let file = fs::File::options()
            .write(true)
            .open(blobs.join(file))
            .unwrap();
        file.set_modified(long_ago).unwrap();
    }
    drop(library.upload(fresh.clone(), 1).unwrap());
    let mut want = [needed.blob_file(), fresh.blob_file()];
    want.sort();
    assert_eq!(files_below(&blobs), want);
}

#[test]
fn files_that_were_checked_elsewhere_take_their_place() {
    let (_directory, library) = empty();
    fs::create_dir_all(library.directory().join(".pulls")).unwrap();
    let file = library.directory().join(".pulls/data");
    fs::write(&file, gguf()).unwrap();
    assert!(library.list().unwrap().iter().all(|it| it.name == "inside"));
    let name: ModelName = "tiny".parse().unwrap();
    library.admit_file(&file, &name).unwrap();
    assert!(library.find("tiny").unwrap().open().is_ok());
    // Nothing is overwritten, whatever the letters.
    for taken in ["tiny", "TINY"] {
        let refused = library.admit_file(&file, &taken.parse().unwrap());
        assert!(matches!(refused, Err(Error::Conflict(_))), "{taken}");
    }
    for part in ["a/b", "a:b"] {
        let refused = library.admit_file(&file, &part.parse().unwrap());
        assert!(matches!(refused, Err(Error::BadName { .. })), "{part}");
    }
    let digest = Digest::of(&Sha256::digest(gguf()));
    library.admit_blob(&file, &digest).unwrap();
    library.admit_blob(&file, &digest).unwrap();
    let manifest = Manifest {
        from: digest.to_string(),
        ..Manifest::default()
    };
    library.create("acme/tiny:1b", manifest).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(library.find("acme/tiny:1b").unwrap().open().is_ok());
}

/// Uploads bytes, and returns their digest.
fn uploaded(library: &Library, bytes: &[u8]) -> Digest {
    let digest = Digest::of(&Sha256::digest(bytes));
    let mut upload = library.upload(digest.clone(), 1 << 20).unwrap();
    upload.write(bytes).unwrap();
    upload.finish().unwrap();
    digest
}

fn adapted(from: &str, adapters: &[(&Digest, f32)]) -> Manifest {
    let adapters = adapters.iter().map(|&(digest, scale)| Lora {
        from: digest.to_string(),
        scale,
    });
    Manifest {
        adapters: adapters.collect(),
        ..over(from)
    }
}

#[test]
fn adapters_stay_as_long_as_a_model_has_them() {
    let (_directory, library) = with_tiny();
    let [first, second] = [&b"one"[..], b"two"].map(|bytes| uploaded(&library, bytes));
    library
        .create("one", adapted("tiny", &[(&first, 1.0)]))
        .unwrap();
    let both = library
        .create("both", adapted("one", &[(&second, -0.5)]))
        .unwrap();
    // Those of what it is made of come first.
    let names = both
        .adapters
        .iter()
        .map(|it| (it.digest.clone(), it.scale, it.bytes));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [(first.to_string(), 1.0, 3), (second.to_string(), -0.5, 3)]
    );
    assert!(matches!(
        both.adapters[0].open(),
        Err(Error::Adapter { .. })
    ));
    let copy = library.copy("both", "copy").unwrap();
    assert_eq!(copy.adapters, both.adapters);
    assert_ne!(library.find("one").unwrap().digest(), both.digest());
    for (name, left) in [
        ("both", [true, true]),
        ("copy", [true, false]),
        ("one", [false, false]),
    ] {
        library.delete(name).unwrap();
        assert_eq!(
            [&first, &second].map(|digest| library.has_blob(digest)),
            left,
            "{name}"
        );
    }
}

#[test]
fn adapters_that_are_not_there_or_do_not_fit_make_no_model() {
    let (_directory, library) = with_tiny();
    let absent = Digest::of(&Sha256::digest(b"absent"));
    let there = uploaded(&library, b"there");
    let refused = |manifest: Manifest| {
        let check = |_: &Entry| {
            Err(Error::BadSetting {
                field: "adapters",
                reason: "it does not fit".to_owned(),
            })
        };
        library
            .create_checked("x", manifest, check)
            .unwrap_err()
            .to_string()
    };
    for (manifest, says) in [
        (adapted("tiny", &[(&absent, 1.0)]), "upload it first"),
        (adapted("tiny", &[(&there, f32::NAN)]), "finite"),
        (adapted("tiny", &[(&there, 1.0); 33]), "32 at most"),
        (adapted("tiny", &[(&there, 1.0)]), "does not fit"),
    ] {
        let error = refused(manifest);
        assert!(error.contains(says), "{error}");
    }
    assert!(matches!(library.find("x"), Err(Error::NotFound { .. })));
    // Without an adapter there is nothing to check.
    library
        .create_checked("x", over("tiny"), |_| unreachable!())
        .unwrap();
}
