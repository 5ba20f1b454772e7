//! `troika devices`: what this computer can compute with.

mod show;

use troika_base::{DeviceKind, DeviceProfile};
use troika_machine::probe::{self, Root};
use troika_machine::{Machine, Processor};
use troika_planner::catalogue::{Block, Catalogue};
use troika_planner::plan::chip;

use crate::home::Home;
use crate::output::{self, Console};

/// Where a home keeps what is known of its machine.
const FILE: &str = "machine.json";

/// Show the processors of this computer, its memory, power and meters
///
/// Nothing is asked of the devices: what the system knows of them is read, and the catalogue's data sheets are laid beside it.
/// What cannot be known is listed with the reason.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {}

pub(crate) fn run(_: &DevicesArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let mut machine = described(&home, console);
    match Machine::load(&home.path().join(FILE)) {
        Ok(Some(earlier)) => keep_measured(&mut machine, &earlier),
        Ok(None) => {}
        // What the machine is can be shown without what was once measured of it.
        Err(error) => console.note(format_args!("nothing measured is shown: {error}")),
    }
    if console.json {
        return output::json(&machine);
    }
    output::answer(show::page(&machine))
}

/// This machine, with the catalogue's data sheets of its devices.
pub(crate) fn described(home: &Home, console: &Console) -> Machine {
    let mut machine = probe::read(&Root::real());
    let catalogue = match Catalogue::with_user_rows(&home.path().join("catalogue")) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            console.note(format_args!(
                "your rows of the catalogue are passed over: {error}"
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
    let blocks = chip::blocks(chip);
    let block = match kind {
        DeviceKind::Cpu => Block::Cpu,
        DeviceKind::Gpu => Block::Gpu,
        DeviceKind::Npu => Block::Npu,
        DeviceKind::Accelerator => *blocks.first()?,
    };
    blocks
        .contains(&block)
        .then(|| chip::profile(chip, block, Some(memory_gb as f64)))
}

/// Takes over what was measured of devices that are still there.
fn keep_measured(machine: &mut Machine, earlier: &Machine) {
    for found in &mut machine.processors {
        let is_same =
            |older: &&Processor| older.id == found.id && older.profile.name == found.profile.name;
        let Some(older) = earlier.processors.iter().find(is_same) else {
            continue;
        };
        let (profile, older) = (&mut found.profile, &older.profile);
        profile.bandwidth_measured_gbs = older.bandwidth_measured_gbs;
        profile.rates_measured.clone_from(&older.rates_measured);
        profile.launch_us = older.launch_us;
        profile.watts_idle = older.watts_idle;
        profile.watts_busy = older.watts_busy;
    }
}
