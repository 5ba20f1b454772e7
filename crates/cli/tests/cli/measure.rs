//! `troika devices --measure`, as far as it goes in no time.

use crate::{code, directory, stderr, troika, troika_in};

#[test]
fn wrong_use_is_told_at_once() {
    for args in [
        &["devices", "--quick"][..],
        &["devices", "--model", "stories"],
    ] {
        let output = troika(args);
        assert_eq!(code(&output), Some(2), "{args:?}");
        assert!(stderr(&output).contains("--measure"), "{args:?}");
    }
}

#[test]
fn a_model_that_is_not_there_is_told_before_the_work_begins() {
    let home = directory("measure-no-model");
    let output = troika_in(&home, &["devices", "--measure", "--model", "nope"], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("nope"), "{}", stderr(&output));
    assert!(!home.join("machine.json").exists());
}
