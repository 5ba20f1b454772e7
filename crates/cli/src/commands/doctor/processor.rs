//! Whether the processor computes with the kernels that it could have.

use troika_kernels::Kernels;
use troika_machine::Cpu;

use super::Check;
use super::patient::Patient;
use crate::load;

const NAME: &str = "processor";

/// The variable that forces a set of kernels.
const FORCED: &str = "TROIKA_ISA";
/// What runs on every processor.
const SLOWEST: &str = "scalar";

pub(super) fn check(patient: &Patient) -> Check {
    let forced = (patient.env)(FORCED);
    // Slowest first.
    let best = Kernels::all()
        .last()
        .map_or(SLOWEST, |kernels| kernels.name);
    match (load::cpu(Some(1)), forced) {
        (Err(error), _) => Check::fault(NAME, error.to_string()).mend(format!(
            "Unset {FORCED}: the best kernels are chosen without it."
        )),
        (Ok(device), Some(_)) if device.kernels().name != best => {
            let what = format!(
                "{FORCED} has it compute with {}, where {best} would be faster",
                device.kernels().name
            );
            Check::note(NAME, what).mend(format!("Unset {FORCED}."))
        }
        (Ok(_), _) => judge(&patient.machine.cpu, best),
    }
}

/// How good the best kernels are for a processor.
fn judge(cpu: &Cpu, best: &str) -> Check {
    let model = cpu.model.as_deref().unwrap_or("the processor");
    if best != SLOWEST {
        return Check::ok(NAME, format!("{model} computes with {best}"));
    }
    let slow = format!("{model} computes with {best}, ten times slower than others");
    match (&*cpu.architecture, &cpu.virtual_machine) {
        ("x86_64", Some(host)) => Check::warning(
            NAME,
            format!("{slow}: the virtual machine ({host}) shows no AVX2"),
        )
        .mend("Let the machine have its host's processor: `-cpu host` of QEMU, type `host` in Proxmox, `host-passthrough` in libvirt."),
        ("x86_64", None) => Check::warning(NAME, format!("{slow}: it has no AVX2"))
            .mend("Processors since 2013 have it; look whether the firmware has it switched off."),
        _ => Check::note(NAME, format!("{slow}: there are no others for {} yet", cpu.architecture)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::{Bed, recorded};

    #[test]
    fn a_virtual_machine_that_hides_instructions_is_told() {
        let mut cpu = recorded("vm").cpu;
        cpu.architecture = "x86_64".to_owned();
        cpu.virtual_machine = Some("KVM".to_owned());
        assert_eq!(judge(&cpu, "avx2").level, Level::Ok);
        let found = judge(&cpu, "scalar");
        assert_eq!(found.level, Level::Warning);
        assert!(found.mend.contains("-cpu host"), "{found:?}");
        cpu.virtual_machine = None;
        assert!(judge(&cpu, "scalar").what.contains("no AVX2"));
        cpu.architecture = "riscv64".to_owned();
        assert_eq!(judge(&cpu, "scalar").level, Level::Note);
    }

    #[test]
    fn this_processor_computes() {
        let found = check(&Bed::new().patient);
        assert_ne!(found.level, Level::Fault, "{found:?}");
    }
}
