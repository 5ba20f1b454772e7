//! Whether the NPUs that are in the machine have driver and libraries.

use super::Check;
use super::patient::Patient;
use crate::commands::npu::status::Seen;

const NAME: &str = "npu";

pub(super) fn check(patient: &Patient) -> Check {
    let seen = Seen::of(&patient.machine, &patient.home);
    judge(&seen.chips(), &seen.blocked(), &seen.lacking())
}

/// `chips` are the names of all; the others are the names of some, with what they lack.
fn judge(chips: &[String], blocked: &[[String; 2]], lacking: &[[String; 2]]) -> Check {
    let troubles: Vec<_> = blocked.iter().chain(lacking).collect();
    match (chips, troubles.first()) {
        ([], _) => Check::ok(NAME, "there is none; models run on other devices"),
        (chips, None) => Check::ok(NAME, format!("{} can be used", chips.join(", "))),
        (_, Some([id, lack])) => Check::warning(NAME, format!("{id} cannot be used: {lack}"))
            .mend("`troika npu` tells what is missing, and `troika npu setup` installs the libraries that can be had."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::{Bed, recorded};

    #[test]
    fn an_npu_without_what_drives_it_is_told() {
        let mut bed = Bed::new();
        bed.patient.machine = recorded("core-ultra-258v");
        let lack = [["npu0".to_owned(), "OpenVINO is not found".to_owned()]];
        let chips = ["npu0".to_owned()];
        let found = judge(&chips, &[], &lack);
        assert_eq!(found.level, Level::Warning);
        assert!(found.what.contains("OpenVINO"), "{found:?}");
        assert_eq!(judge(&chips, &[], &[]).level, Level::Ok);
        // The recorded machine has one; whether this one has its libraries is another matter.
        let found = check(&bed.patient);
        assert!(found.what.contains("npu0"), "{found:?}");
        bed.patient.machine.processors.truncate(1);
        assert!(check(&bed.patient).what.contains("none"));
    }
}
