//! Whether the catalogue can be read, with the owner's rows over it.

use troika_planner::catalogue::Catalogue;

use super::Check;
use super::patient::Patient;

const NAME: &str = "catalogue";

pub(super) fn check(patient: &Patient) -> Check {
    let directory = patient.home.path().join("catalogue");
    match Catalogue::with_user_rows(&directory) {
        Ok(_) if directory.exists() => {
            Check::ok(NAME, format!("{} makes sense", directory.display()))
        }
        Ok(_) => Check::ok(
            NAME,
            "the rows inside are used, and there are none of yours",
        ),
        Err(error) => {
            let what = format!("your rows are passed over: {:#}", anyhow::Error::new(error));
            Check::warning(NAME, what).mend("Correct the file; `troika catalogue check` checks it.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    #[test]
    fn rows_that_are_none_are_told() {
        let bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        let directory = bed.home().join("catalogue");
        std::fs::create_dir_all(&directory).expect("is made");
        std::fs::write(directory.join("mine.toml"), "[[chip]]\nnonsense = 1\n")
            .expect("is written");
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Warning);
        assert!(found.what.contains("mine.toml"), "{found:?}");
    }
}
