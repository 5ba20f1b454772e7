//! Libraries in made-up folders, and NPUs of recorded machines.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use troika_machine::probe::{self, Root};

use super::*;
use crate::Absent;

/// A tree of empty files.
fn tree(files: &[&str]) -> TempDir {
    let root = TempDir::new().expect("a directory");
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().expect("is below the root")).expect("is made");
        fs::write(path, b"").expect("is written");
    }
    root
}

fn with_variable(name: &str, folder: &Path) -> Environment {
    let mut environment = Environment::empty(Platform::Linux);
    environment
        .variables
        .insert(name.to_owned(), folder.to_owned());
    environment
}

#[test]
fn libraries_are_found_by_numbered_names() {
    for (platform, file, stem, want) in [
        (
            Platform::Linux,
            "libopenvino_c.so.2641",
            "openvino_c",
            Some("2641"),
        ),
        (Platform::Linux, "libopenvino_c.so", "openvino_c", Some("")),
        (
            Platform::Linux,
            "libonnxruntime.so.1.31.1",
            "onnxruntime",
            Some("1.31.1"),
        ),
        (
            Platform::Linux,
            "libonnxruntime_providers_shared.so",
            "onnxruntime",
            None,
        ),
        (
            Platform::Linux,
            "libonnxruntime.so.1.31.1-gdb.py",
            "onnxruntime",
            None,
        ),
        (Platform::Linux, "openvino_c.dll", "openvino_c", None),
        (
            Platform::MacOs,
            "libopenvino_c.2641.dylib",
            "openvino_c",
            Some("2641"),
        ),
        (
            Platform::MacOs,
            "libonnxruntime.1.31.1.dylib",
            "onnxruntime",
            Some("1.31.1"),
        ),
        (Platform::Windows, "openvino_c.dll", "openvino_c", Some("")),
        (Platform::Windows, "openvino.dll", "openvino_c", None),
    ] {
        let found = platform.version_in(file, stem);
        assert_eq!(found.as_deref(), want, "{file}");
    }
}

#[test]
fn a_folder_that_a_variable_names_is_searched_and_no_other() {
    let wheel = tree(&[
        "openvino/libs/libopenvino_c.so.2641",
        "openvino/libs/libopenvino.so.2641",
        "openvino-2026.4.1.dist-info/METADATA",
    ]);
    // The packages' folder, the package, and the folder of the library itself.
    for below in ["", "openvino", "openvino/libs"] {
        let environment = with_variable("TROIKA_OPENVINO_DIR", &wheel.path().join(below));
        let found = Libraries::search(&environment).openvino.outcome;
        let found = found.expect("is there");
        assert_eq!(
            found.path,
            wheel.path().join("openvino/libs/libopenvino_c.so.2641")
        );
        assert_eq!(found.version.as_deref(), Some("2026.4.1"));
        assert_eq!(found.origin, Origin::Variable("TROIKA_OPENVINO_DIR"));
    }
    let mut environment = with_variable("TROIKA_OPENVINO_DIR", Path::new("nowhere"));
    environment.own = Some(wheel.path().to_owned());
    match Libraries::search(&environment).openvino.outcome {
        Err(Absent::NoLibrary { searched, .. }) => {
            assert_eq!(searched, [PathBuf::from("nowhere")]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn troikas_own_folder_goes_before_the_systems() {
    let own = tree(&["onnxruntime/capi/libonnxruntime.so.1.31.1"]);
    let system = tree(&["libonnxruntime.so.1.29.0", "libze_loader.so.1"]);
    let mut environment = Environment::empty(Platform::Linux);
    environment.system = vec![system.path().to_owned()];
    let found = |environment: &Environment| {
        let found = Libraries::search(environment).onnxruntime.outcome;
        let found = found.expect("is there");
        (found.version.expect("is in the name"), found.origin)
    };
    assert_eq!(found(&environment), ("1.29.0".to_owned(), Origin::System));
    environment.own = Some(own.path().to_owned());
    assert_eq!(found(&environment), ("1.31.1".to_owned(), Origin::Setup));
    let loader = Libraries::search(&environment).level_zero.outcome;
    assert_eq!(loader.expect("is there").version, None);
}

#[test]
fn the_newest_of_several_is_taken_and_old_ones_are_refused() {
    let several = tree(&[
        "libopenvino_c.so",
        "libopenvino_c.so.2630",
        "libopenvino_c.so.2641",
    ]);
    let environment = with_variable("TROIKA_OPENVINO_DIR", several.path());
    let found = Libraries::search(&environment).openvino.outcome;
    assert_eq!(
        found.expect("is there").version.as_deref(),
        Some("2026.4.1")
    );

    let old = tree(&["libonnxruntime.so.1.9.1"]);
    let environment = with_variable("TROIKA_ORT_DIR", old.path());
    match Libraries::search(&environment).onnxruntime.outcome {
        Err(Absent::TooOld { have, want, .. }) => {
            assert_eq!((&*have, &*want), ("1.9.1", "1.24"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_in_no_name_is_that_of_the_package() {
    let wheel = tree(&[
        "onnxruntime_qnn/libonnxruntime_providers_qnn.so",
        "onnxruntime_qnn-2.7.0.dist-info/METADATA",
        "onnxruntime-1.31.1.dist-info/METADATA",
    ]);
    let environment = with_variable("TROIKA_QNN_DIR", wheel.path());
    let found = Libraries::search(&environment)
        .qnn
        .outcome
        .expect("is there");
    assert_eq!(found.version.as_deref(), Some("2.7.0"));

    let bare = tree(&["libonnxruntime_providers_qnn.so"]);
    let environment = with_variable("TROIKA_QNN_DIR", bare.path());
    let found = Libraries::search(&environment)
        .qnn
        .outcome
        .expect("is there");
    assert_eq!(found.version, None);
}

#[test]
fn what_is_missing_says_how_to_get_it() {
    let libraries = Libraries::search(&Environment::empty(Platform::Linux));
    for finding in libraries.all() {
        assert!(finding.outcome.is_err(), "{}", finding.name);
        assert!(
            finding.remedy().is_some_and(|remedy| !remedy.is_empty()),
            "{}",
            finding.name
        );
    }
    let json = serde_json::to_value(&libraries).expect("is JSON");
    assert_eq!(json["openvino"]["state"], json!("absent"));
    assert_eq!(
        json["openvino"]["why"],
        json!("library not found: OpenVINO")
    );
    let remedy = json["qnn"]["remedy"].as_str().expect("is text");
    assert!(remedy.contains("--accept-qualcomm-licence"), "{remedy}");
}

fn recorded(name: &str) -> Vec<Chip> {
    let path = format!(
        "{}/../machine/fixtures/{name}.tree",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(path).expect("is recorded");
    chips(&probe::read(&Root::recorded(&text)))
}

#[test]
fn recorded_machines_have_their_chips() {
    for (name, want) in [
        ("core-ultra-258v", Some(Maker::Intel)),
        ("core-ultra-155h", Some(Maker::Intel)),
        ("ryzen-ai-hx-370", Some(Maker::Amd)),
        ("snapdragon-x-elite", Some(Maker::Qualcomm)),
        ("rk3588", Some(Maker::Other)),
        ("vm", None),
        ("desktop-2x-rtx-3090", None),
    ] {
        let makers: Vec<_> = recorded(name).iter().map(|chip| chip.maker).collect();
        assert_eq!(makers, Vec::from_iter(want), "{name}");
    }
}

#[test]
fn a_node_that_is_not_ours_is_a_typed_reason() {
    let blocked = recorded("ryzen-ai-hx-370");
    match &blocked[0].absent {
        Some(Absent::NoPermission { node }) => assert_eq!(node, Path::new("/dev/accel/accel0")),
        other => panic!("{other:?}"),
    }
    assert!(
        blocked[0].remedy.contains("render"),
        "{}",
        blocked[0].remedy
    );
}
