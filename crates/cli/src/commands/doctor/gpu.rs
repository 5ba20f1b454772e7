//! Whether the GPUs that are in the machine can be used.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use troika_base::DeviceKind;
use troika_machine::{Found, Machine, Processor};

use super::Check;
use super::patient::Patient;
use crate::exit::WrongUse;
use crate::gpu::Gpus;

const NAME: &str = "gpu";

/// How long drivers have: a healthy one answers in a few tenths of a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Drivers that have been asked, and may not have answered yet.
pub(super) struct Asked {
    begun: Instant,
    answer: Receiver<Result<Gpus, WrongUse>>,
}

impl Asked {
    /// Asks them on a thread of its own, which is left behind if a driver never answers.
    pub(super) fn ask(patient: &Patient) -> Self {
        let (tell, answer) = mpsc::channel();
        let mut machine = patient.machine.clone();
        // A machine without any takes no driver's time.
        let has_any = gpus(&machine).next().is_some();
        let is_forced = (patient.env)("TROIKA_GPU").is_some();
        thread::spawn(move || {
            let found = match has_any || is_forced || !cfg!(target_os = "linux") {
                true => Gpus::find(&mut machine),
                false => Ok(Gpus::default()),
            };
            // Nobody waits any more if that took too long.
            let _ = tell.send(found);
        });
        Self {
            begun: Instant::now(),
            answer,
        }
    }

    pub(super) fn check(self, patient: &Patient) -> Check {
        let left = PATIENCE.saturating_sub(self.begun.elapsed());
        match self.answer.recv_timeout(left) {
            Ok(Ok(found)) => judge(&patient.machine, &found),
            Ok(Err(error)) => Check::fault(NAME, error.to_string()).mend("Unset TROIKA_GPU."),
            Err(_) => Check::warning(
                NAME,
                format!("a GPU's driver has not answered within {} s", PATIENCE.as_secs()),
            )
            .mend("Look into the system's log (`dmesg`); a restart of the machine may help. `gpu_models = false` does without."),
        }
    }
}

fn gpus(machine: &Machine) -> impl Iterator<Item = &Processor> {
    let processors = machine.processors.iter();
    processors.filter(|processor| processor.profile.kind == DeviceKind::Gpu)
}

fn judge(machine: &Machine, found: &Gpus) -> Check {
    let blocked = gpus(machine).filter_map(|gpu| match &gpu.found {
        Found::Ready => None,
        Found::Blocked { why, remedy } => Some((
            format!("{} ({}): {why}", gpu.id, gpu.profile.name),
            remedy.clone(),
        )),
    });
    let mut troubles: Vec<(String, String)> = blocked.collect();
    troubles.extend(
        found
            .lacking
            .iter()
            .map(|[id, why]| (format!("{id} cannot be reached"), why.clone())),
    );
    if let Some((what, mend)) = troubles.first() {
        let what = match troubles.len() {
            1 => what.clone(),
            n => format!("{what}; and {} more (`troika devices`)", n - 1),
        };
        return Check::warning(NAME, format!("{what}. Models run on the processor instead"))
            .mend(mend.clone());
    }
    let reached: Vec<_> = found
        .reached
        .iter()
        .map(|gpu| format!("{} ({})", gpu.id, gpu.name))
        .collect();
    match (reached.is_empty(), gpus(machine).count()) {
        (false, _) => Check::ok(NAME, format!("{} can be used", reached.join(", "))),
        (true, 0) => Check::ok(NAME, "there is none; models run on the processor"),
        (true, _) => Check::note(NAME, "no driver was asked: TROIKA_GPU is `off`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::recorded;

    #[test]
    fn gpus_that_cannot_be_used_are_told_with_what_helps() {
        let mut machine = recorded("desktop-2x-rtx-3090");
        let mut found = Gpus::default();
        for gpu in machine.processors.iter_mut().skip(1) {
            gpu.found = Found::Ready;
        }
        assert_eq!(judge(&machine, &found).level, Level::Note);
        found.lacking = vec![["gpu1".to_owned(), "install the loader".to_owned()]];
        let lacking = judge(&machine, &found);
        assert_eq!(lacking.level, Level::Warning);
        assert_eq!(lacking.mend, "install the loader");
        machine.processors[1].found = Found::Blocked {
            why: "no permission on /dev/dri/renderD128".to_owned(),
            remedy: "join the group render".to_owned(),
        };
        let blocked = judge(&machine, &found);
        assert!(
            blocked.what.contains("renderD128") && blocked.what.contains("1 more"),
            "{blocked:?}"
        );
        assert_eq!(blocked.mend, "join the group render");
    }

    #[test]
    fn none_is_no_trouble() {
        let mut machine = recorded("vm");
        machine
            .processors
            .retain(|part| part.profile.kind != DeviceKind::Gpu);
        assert_eq!(judge(&machine, &Gpus::default()).level, Level::Ok);
    }

    #[test]
    fn a_driver_that_never_answers_is_not_waited_for() {
        let (tell, answer) = mpsc::channel();
        let asked = Asked {
            begun: Instant::now()
                .checked_sub(PATIENCE)
                .expect("the machine runs for longer"),
            answer,
        };
        let bed = crate::commands::doctor::tests::Bed::new();
        assert_eq!(asked.check(&bed.patient).level, Level::Warning);
        drop(tell);
    }
}
