//! `troika devices`: what this computer can compute with.

mod show;

use troika_machine::probe::{self, Root};
use troika_machine::{Machine, Processor};

use crate::home::Home;
use crate::output::{self, Console};

/// Where a home keeps what is known of its machine.
const FILE: &str = "machine.json";

/// Show the processors of this computer, its memory, power and meters
///
/// Nothing is asked of the devices: what the system knows of them is read. What cannot be known is listed with the reason.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {}

pub(crate) fn run(_: &DevicesArgs, console: &Console) -> anyhow::Result<()> {
    let mut machine = probe::read(&Root::real());
    match Machine::load(&Home::from_env()?.path().join(FILE)) {
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
