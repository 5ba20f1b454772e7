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
