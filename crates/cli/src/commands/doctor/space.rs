//! Whether there is room where models lie.

use troika_base::Bytes;

use super::Check;
use super::patient::{Patient, nearest};

const NAME: &str = "disk";

/// Not even settings and caches are safe with less.
const FULL: Bytes = Bytes(256 << 20);
/// A model of seven billion weights in four bits takes as much.
const LOW: Bytes = Bytes(5 << 30);

pub(super) fn check(patient: &Patient) -> Check {
    let models = &patient.settings.models_dir;
    let Some(space) = (patient.space)(nearest(models)) else {
        return Check::note(
            NAME,
            "the system does not tell how much room there is for models",
        );
    };
    let what = format!(
        "{} free of {} where models lie ({})",
        space.free,
        space.total,
        models.display()
    );
    let mend = "Delete models that nobody needs (`troika list` shows their sizes), or set `models_dir` to a directory on another disk.";
    match space.free {
        free if free < FULL => Check::fault(NAME, what).mend(mend),
        free if free < LOW => Check::warning(NAME, what).mend(mend),
        _ => Check::ok(NAME, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::patient::Space;
    use crate::commands::doctor::tests::Bed;

    fn with(free: u64) -> Space {
        Space {
            free: Bytes(free),
            total: Bytes(1 << 40),
        }
    }

    #[test]
    fn little_room_is_told_before_it_hurts() {
        let mut bed = Bed::new();
        bed.patient.space = |_| Some(with(1 << 20));
        assert_eq!(check(&bed.patient).level, Level::Fault);
        bed.patient.space = |_| Some(with(1 << 30));
        assert_eq!(check(&bed.patient).level, Level::Warning);
        bed.patient.space = |_| Some(with(50 << 30));
        assert_eq!(check(&bed.patient).level, Level::Ok);
        bed.patient.space = |_| None;
        assert_eq!(check(&bed.patient).level, Level::Note);
    }
}
