//! Whether the owner's rules of what may leave make sense.

use troika_remote::HybridFile;
use troika_remote::redact::Redactor;

use super::Check;
use super::patient::Patient;

const NAME: &str = "rules";

pub(super) fn check(patient: &Patient) -> Check {
    let path = &patient.settings.hybrid_file;
    if !path.exists() {
        return Check::ok(
            NAME,
            "there is no hybrid.toml, and nothing leaves this machine",
        );
    }
    if patient.settings.offline {
        return Check::ok(
            NAME,
            format!("{} is not read: `offline` is on", path.display()),
        );
    }
    let loaded = HybridFile::open(path).and_then(|file| {
        let loaded = file.current();
        // Lists of names are files of their own.
        Redactor::new(&loaded.config.redact).map_err(|error| error.in_file(path))?;
        Ok(loaded)
    });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            return Check::fault(NAME, format!("{:#}", anyhow::Error::new(error)))
                .mend("Correct it; `troika rules check` shows every mistake with its line. Until then `troika serve` does not start.");
        }
    };
    let remarks = loaded.remarks();
    match remarks.first() {
        None => Check::ok(NAME, format!("{} makes sense", path.display())),
        Some(first) => Check::note(NAME, format!("{}: {first}", path.display()))
            .mend("`troika rules check` tells all that is odd."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    #[test]
    fn mistakes_in_rules_are_faults() {
        let mut bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        let file = bed.home().join("hybrid.toml");
        std::fs::write(&file, "[[rule]]\nif = 3\n").expect("is written");
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Fault, "{found:?}");
        bed.patient.settings.offline = true;
        assert_eq!(check(&bed.patient).level, Level::Ok);
    }
}
