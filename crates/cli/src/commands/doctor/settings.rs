//! Whether the settings make sense.

use super::Check;
use super::patient::Patient;

const NAME: &str = "settings";

pub(super) fn check(patient: &Patient) -> Check {
    let file = patient.home.path().join("config.toml");
    match &patient.wrong_settings {
        Some(error) => Check::fault(NAME, error.clone()).mend(
            "Correct it; `troika config --example` prints every setting with its default. What follows was looked at as if \
             nothing were set.",
        ),
        None if file.exists() => Check::ok(NAME, format!("{} makes sense", file.display())),
        None => Check::ok(NAME, "nothing is set in a file, and the defaults hold"),
    }
}
