//! Makes the machine's processors work for a while, and takes note of what they do.
//!
//! [`measure`] runs what is given to it: anything [`Measurable`], of which the processor ([`CpuTest`]) is one. The results are
//! [`Measurement`]s; [`Machine::record`] keeps the newest of each kind, and writes the best into the profiles that the cost
//! model reads. Nothing reaches the [`Machine`] before all is done: whoever stops it keeps what was there.

mod apply;
mod cpu;
mod record;
mod theory;

pub use cpu::CpuTest;
pub use record::{Measurement, ModelRun, Quantity, Theory};

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::meter::{Energy, MeterSet};
use crate::model::{Machine, Unknown};

/// How long all takes, if it is to be right.
pub const THOROUGH: Duration = Duration::from_secs(30);

/// How long all takes, if it is to be soon.
pub const QUICK: Duration = Duration::from_secs(5);

/// The part of the time in which nothing is done, where meters look.
const IDLE_SHARE: f64 = 0.08;

/// Somebody wanted no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Told now and then how far the work is (0 to 1) and what is being done; may stop it.
pub type Watch<'w> = dyn FnMut(f64, &str) -> ControlFlow<Stopped> + 'w;

/// A processor that can be made to work.
pub trait Measurable {
    /// Its id: `cpu0`.
    fn id(&self) -> &str;

    /// Measures what there is to measure within about the time that the course has left.
    ///
    /// # Errors
    /// [`Stopped`].
    fn measure(&self, meters: &MeterSet, course: &mut Course<'_, '_>) -> Result<Findings, Stopped>;
}

/// What a processor showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// What could not be, with the reason.
    pub unknown: Vec<Unknown>,
}

impl Findings {
    /// Takes note of power: of each meter that looked while `of` was done.
    pub fn add_power(&mut self, quantity: Quantity, of: Option<&str>, energies: &[Energy]) {
        for (device, watts) in watts_by_device(energies) {
            let measured = Measurement::of_samples(&device, quantity, vec![watts]);
            self.measurements
                .extend(measured.map(|measured| Measurement {
                    of: of.map(str::to_owned),
                    ..measured
                }));
        }
    }
}

/// The way of a measurement through its time.
pub struct Course<'a, 'w> {
    started: Instant,
    time: Duration,
    watch: &'a mut Watch<'w>,
}

impl<'a, 'w> Course<'a, 'w> {
    fn new(time: Duration, watch: &'a mut Watch<'w>) -> Self {
        Self {
            started: Instant::now(),
            time,
            watch,
        }
    }

    /// To be called many times a second.
    ///
    /// # Errors
    /// [`Stopped`] if this is the end.
    pub fn tick(&mut self, what: &str) -> Result<(), Stopped> {
        let done = self.started.elapsed().as_secs_f64() / self.time.as_secs_f64().max(1e-9);
        match (self.watch)(done.min(1.0), what) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(stopped) => Err(stopped),
        }
    }

    /// How much of the time is left.
    pub fn left(&self) -> Duration {
        self.time.saturating_sub(self.started.elapsed())
    }
}

/// Measures the machine at rest and then one device after the other, in about `time`, and records what was found.
///
/// # Errors
/// [`Stopped`]; then nothing is recorded.
pub fn measure(
    machine: &mut Machine,
    devices: &[&dyn Measurable],
    meters: &MeterSet,
    time: Duration,
    watch: &mut Watch<'_>,
) -> Result<(), Stopped> {
    let mut all = Findings {
        unknown: meters.unreadable().to_vec(),
        ..Findings::default()
    };
    let started = Instant::now();
    if meters.is_empty() {
        // Else it is told why they do not open, or that there are none.
        if all.unknown.is_empty() && machine.unknown.iter().all(|told| told.what != "meters") {
            all.unknown.push(Unknown {
                what: "watts".to_owned(),
                why: "this machine shows no meter".to_owned(),
                remedy: "a wall meter's readings can be given to `troika plan`".to_owned(),
            });
        }
    } else {
        let mut course = Course::new(time, watch);
        rest(&mut all, meters, time.mul_f64(IDLE_SHARE), &mut course)?;
    }
    for (index, device) in devices.iter().enumerate() {
        let left = time.saturating_sub(started.elapsed());
        let share = left / u32::try_from(devices.len() - index).unwrap_or(u32::MAX);
        // The bar goes on where it is.
        let before = started.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-9);
        let part = share.as_secs_f64() / time.as_secs_f64().max(1e-9);
        let mut nested = |done: f64, what: &str| watch((before + done * part).min(1.0), what);
        let mut course = Course::new(share, &mut nested);
        let found = device.measure(meters, &mut course)?;
        all.measurements.extend(found.measurements);
        all.unknown.extend(found.unknown);
    }
    machine.record(all);
    Ok(())
}

/// Does nothing, under the eyes of the meters.
fn rest(
    all: &mut Findings,
    meters: &MeterSet,
    time: Duration,
    course: &mut Course<'_, '_>,
) -> Result<(), Stopped> {
    const NAP: Duration = Duration::from_millis(50);
    let span = meters.span();
    let until = Instant::now() + time;
    while Instant::now() < until {
        course.tick("at rest")?;
        std::thread::sleep(NAP.min(time));
    }
    all.add_power(Quantity::IdleW, None, &span.finish());
    Ok(())
}

/// The watts of each device. Packages of the processor make one: `cpu0`. What covers no device keeps its name.
fn watts_by_device(energies: &[Energy]) -> Vec<(String, f64)> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for energy in energies {
        let device = match &*energy.covers {
            covers if covers.starts_with("package") || covers.starts_with("socket") => "cpu0",
            covers => covers,
        };
        match sums.iter_mut().find(|(of, _)| of == device) {
            Some((_, watts)) => *watts += energy.watts(),
            None => sums.push((device.to_owned(), energy.watts())),
        }
    }
    sums
}

#[cfg(test)]
pub(crate) mod tests;
