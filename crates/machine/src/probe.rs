//! Reads what this computer is, without asking anything of its devices.
//!
//! [`read`] is the entry. Linux tells everything by files, so its part, `linux`, works as well on a recording of another
//! machine's; that is how it is tested. macOS and Windows tell by commands, whose output is read by parsers that run
//! everywhere. Nothing here waits for a device, loads a library or writes a file.

mod root;

mod linux;

mod arm;
mod board;
mod cpu;
mod dmi;
mod gpu;
mod memory;
mod nodes;
mod npu;
mod pci;
mod power;
mod topology;

#[cfg(any(target_os = "macos", test))]
mod macos;
#[cfg(any(target_os = "windows", test))]
mod windows;

mod notes;

#[cfg(test)]
mod tests;

pub use root::Root;

pub(crate) use memory::{field as kib_field, now as memory_now};

use crate::model::{Battery, Machine, PowerSource};

/// Reads a machine: this one, or a recorded one.
///
/// What cannot be had is in [`Machine::unknown`] with the reason; nothing here fails.
pub fn read(root: &Root) -> Machine {
    match root.is_real() {
        true => here(root),
        false => linux::read(root),
    }
}

#[cfg(target_os = "macos")]
fn here(_: &Root) -> Machine {
    macos::read()
}

#[cfg(target_os = "windows")]
fn here(_: &Root) -> Machine {
    windows::read()
}

#[cfg(not(any(target_os = "macos", target_os = "windows")))]
fn here(root: &Root) -> Machine {
    linux::read(root)
}

/// Where the power comes from now, read anew.
///
/// # Errors
/// If this system tells it by something that takes seconds.
pub(crate) fn power_now(root: &Root) -> Result<(Option<PowerSource>, Vec<Battery>), String> {
    match root.is_real() {
        true => power_here(root),
        false => power_of_files(root),
    }
}

fn power_of_files(root: &Root) -> Result<(Option<PowerSource>, Vec<Battery>), String> {
    let supplies = power::supplies(root);
    Ok((supplies.source, supplies.batteries))
}

#[cfg(target_os = "macos")]
fn power_here(_: &Root) -> Result<(Option<PowerSource>, Vec<Battery>), String> {
    Ok(macos::power_now())
}

#[cfg(target_os = "windows")]
fn power_here(_: &Root) -> Result<(Option<PowerSource>, Vec<Battery>), String> {
    Err("Windows tells it to PowerShell, which takes seconds to start".to_owned())
}

#[cfg(not(any(target_os = "macos", target_os = "windows")))]
fn power_here(root: &Root) -> Result<(Option<PowerSource>, Vec<Battery>), String> {
    power_of_files(root)
}
