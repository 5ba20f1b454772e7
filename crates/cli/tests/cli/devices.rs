//! `troika devices` on the machine that the tests run on.

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

#[test]
fn devices_are_shown() {
    let output = troika(&["devices"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for word in ["cpu0", "memory", "processor"] {
        assert!(
            stdout(&output).contains(word),
            "{word}: {}",
            stdout(&output)
        );
    }
    let machine = json(&troika(&["devices", "--json"]));
    assert_eq!(machine["processors"][0]["id"], "cpu0");
    assert!(machine["memory"]["total_bytes"].as_u64() > Some(0));
}

#[test]
fn a_damaged_memory_of_the_machine_is_set_aside() {
    let home = directory("devices-damaged");
    let file = home.join("machine.json");
    std::fs::write(&file, "{\"version\": 1, \"cpu\"").expect("is written");
    let output = troika_in(&home, &["devices"], b"");
    assert_eq!(code(&output), Some(0));
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
    assert!(home.join("machine.json.damaged").is_file());
    assert!(!file.exists());

    std::fs::write(&file, "{\"version\": 1000}").expect("is written");
    let output = troika_in(&home, &["devices"], b"");
    assert_eq!(code(&output), Some(0));
    assert!(
        stderr(&output).contains("version 1000"),
        "{}",
        stderr(&output)
    );
    assert!(file.is_file(), "a later program's file is left alone");
}

/// `troika devices` with a choice of GPUs.
fn devices_with(gpu: &str, args: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_troika"))
        .arg("devices")
        .args(args)
        .env("TROIKA_HOME", "no-such-home")
        .env("TROIKA_GPU", gpu)
        .output()
        .expect("the program runs")
}

#[test]
fn programs_that_play_a_gpu_are_offered_to_who_asks_for_them() {
    let output = devices_with("fast", &[]);
    assert_eq!(code(&output), Some(2));
    assert!(
        stderr(&output).contains("TROIKA_GPU"),
        "{}",
        stderr(&output)
    );

    let off = json(&devices_with("off", &["--json"]));
    assert_eq!(off["gpu"]["reached"].as_array().map(Vec::len), Some(0));
    let usual = json(&devices_with("", &["--json"]));
    let asked = json(&devices_with("software", &["--json"]));
    let hidden = usual["gpu"]["not_offered"].as_array().map_or(0, Vec::len);
    let programs = |shown: &serde_json::Value| {
        let reached = shown["gpu"]["reached"].as_array().expect("a list");
        reached.iter().filter(|gpu| gpu["software"] == true).count()
    };
    assert_eq!((programs(&usual), programs(&asked)), (0, hidden));
    // Whatever is reached is a device like all others.
    for gpu in asked["gpu"]["reached"].as_array().expect("a list") {
        let processors = asked["processors"].as_array().expect("a list");
        assert!(processors.iter().any(|found| found["id"] == gpu["id"]));
    }
}
