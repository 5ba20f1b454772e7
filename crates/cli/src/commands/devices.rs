//! `troika devices`: what this computer can compute with.

mod gpu;
mod measure;
mod show;

use troika_base::{DeviceKind, DeviceProfile};
use troika_machine::Machine;
use troika_machine::meter::Coverage;
use troika_machine::probe::{self, Root};
use troika_planner::catalogue::{self, Block, Catalogue};

use super::npu::status::Seen;
use crate::gpu::Gpus;
use crate::home::Home;
use crate::output::{self, Console};

use measure::MeasureArgs;

/// Where a home keeps what is known of its machine.
const FILE: &str = "machine.json";

const NOTES: &str = "\
TROIKA_GPU=software offers GPUs that are programs on the CPU (llvmpipe), for tests; TROIKA_GPU=off asks no GPU's driver.";

/// Show the processors of this computer, its memory, power and meters
///
/// What the system knows of them is read, and the catalogue's data sheets are laid beside it; of GPUs, drivers tell how they
/// are reached. What cannot be known is listed with the reason. No device is made to work, but by --measure.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    measure: MeasureArgs,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Shown<'m> {
    #[serde(flatten)]
    machine: &'m Machine,
    /// The meters of each device.
    energy: Vec<Coverage>,
    /// NPUs, and the libraries that drive them.
    npu: Seen,
    /// GPUs, and how they are reached.
    gpu: Gpus,
}

pub(crate) fn run(args: &DevicesArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if args.measure.is_asked() {
        let mut machine = described(&home, console);
        let gpus = Gpus::find(&mut machine)?;
        return measure::run(&args.measure, &mut machine, &gpus, &home, console);
    }
    let mut machine = described(&home, console);
    let gpu = Gpus::find(&mut machine)?;
    keep(&mut machine, &home, console);
    let npu = Seen::of(&machine, &home);
    if console.json {
        return output::json(&Shown {
            energy: machine.energy_coverage(),
            machine: &machine,
            npu,
            gpu,
        });
    }
    let lacking = [npu.lacking(), gpu.lacking.clone()].concat();
    output::answer(show::page(&machine, &gpu::rows(&gpu), &lacking))
}

/// This machine, with the catalogue's data sheets of its devices and what was once measured of them.
pub(crate) fn known(home: &Home, console: &Console) -> Machine {
    let mut machine = described(home, console);
    keep(&mut machine, home, console);
    machine
}

/// Adds what was once measured.
fn keep(machine: &mut Machine, home: &Home, console: &Console) {
    match Machine::load(&home.path().join(FILE)) {
        Ok(Some(earlier)) => machine.keep_measurements(&earlier),
        Ok(None) => {}
        // What the machine is can be shown without what was once measured of it.
        Err(error) => console.note(format_args!(
            "nothing measured is used: {:#}",
            anyhow::Error::new(error)
        )),
    }
}

/// This machine, with the catalogue's data sheets of its devices.
pub(crate) fn described(home: &Home, console: &Console) -> Machine {
    let mut machine = probe::read(&Root::real());
    let catalogue = match Catalogue::with_user_rows(&home.path().join("catalogue")) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            console.note(format_args!(
                "your rows of the catalogue are passed over: {:#}",
                anyhow::Error::new(error)
            ));
            Catalogue::builtin().clone()
        }
    };
    describe(&mut machine, &catalogue);
    machine
}

fn describe(machine: &mut Machine, catalogue: &Catalogue) {
    let memory_gb = machine.memory_gb_sold();
    machine.describe(|name, kind| data_sheet(catalogue, name, kind, memory_gb));
}

/// What the catalogue knows of a chip's part, in a machine with so much memory.
fn data_sheet(
    catalogue: &Catalogue,
    name: &str,
    kind: DeviceKind,
    memory_gb: u64,
) -> Option<DeviceProfile> {
    let chip = catalogue.chip(name).ok()?.row;
    let blocks = catalogue::blocks(chip);
    let block = match kind {
        DeviceKind::Cpu => Block::Cpu,
        DeviceKind::Gpu => Block::Gpu,
        DeviceKind::Npu => Block::Npu,
        DeviceKind::Accelerator => *blocks.first()?,
    };
    blocks
        .contains(&block)
        .then(|| catalogue::profile(chip, block, Some(memory_gb as f64)))
}
