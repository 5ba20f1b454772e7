//! From measurements to the profiles that the cost model reads.

use troika_base::{Basis, DeviceProfile, NumberFormat, Rate, Unit};

use super::{Findings, Measurement, Quantity};
use crate::model::Machine;

impl Machine {
    /// Keeps what was found: each measurement takes the place of an older one of the same, and the profiles follow.
    pub fn record(&mut self, found: Findings) {
        for measured in found.measurements {
            self.measurements.retain(|older| !measured.replaces(older));
            self.measurements.push(measured);
        }
        for unknown in found.unknown {
            self.unknown.retain(|older| older.what != unknown.what);
            self.unknown.push(unknown);
        }
        self.apply_measurements();
    }

    /// Takes over what was measured of this machine before it was looked at anew. Nothing, if it has another processor now.
    pub fn keep_measurements(&mut self, earlier: &Self) {
        if self.cpu.model != earlier.cpu.model {
            return;
        }
        let names = |machine: &Self, id: &str| {
            let found = machine.processors.iter().find(|found| found.id == id);
            found.map(|found| found.profile.name.clone())
        };
        for measured in &earlier.measurements {
            // A card may have been changed for another.
            let is_same = names(self, &measured.device) == names(earlier, &measured.device);
            if is_same
                && !self
                    .measurements
                    .iter()
                    .any(|newer| newer.replaces(measured))
            {
                self.measurements.push(measured.clone());
            }
        }
        self.apply_measurements();
    }

    /// Writes the best of the measurements into the profiles.
    fn apply_measurements(&mut self) {
        for processor in &mut self.processors {
            let own = self
                .measurements
                .iter()
                .filter(|measured| measured.device == processor.id);
            apply(&mut processor.profile, &own.collect::<Vec<_>>());
        }
    }
}

/// What was not measured stays as it is.
///
/// Memory is shared with whoever else runs here or beside this guest, and so is its speed, for as long as they stay: of a noisy
/// series the median counts. What a core computes is its own, and the best counts.
fn apply(profile: &mut DeviceProfile, measured: &[&Measurement]) {
    let of = |quantity| {
        measured
            .iter()
            .filter(move |measured| measured.quantity == quantity)
    };
    let largest = |quantity| of(quantity).map(|measured| measured.value).reduce(f64::max);
    let dependable = of(Quantity::ReadGbs).map(|measured| measured.dependable());
    if let Some(gbs) = dependable.reduce(f64::max) {
        profile.bandwidth_measured_gbs = Some(gbs);
    }
    if let Some(watts) = largest(Quantity::BusyW) {
        profile.watts_busy = Some(watts);
    }
    if let Some(idle) = of(Quantity::IdleW).next_back() {
        profile.watts_idle = Some(idle.value);
    }
    // With as many threads as work on a step.
    if let Some(launch) = of(Quantity::LaunchUs).max_by_key(|measured| measured.threads) {
        profile.launch_us = Some(launch.value);
    }
    // What a data sheet or a user says of the device goes on to be said; what nobody says is as old as the measurement.
    if let (Basis::Described, Some(last)) = (&profile.basis, measured.last()) {
        profile.basis = Basis::Measured {
            at: last.at.clone(),
        };
    }
    for measured in of(Quantity::MatrixTops) {
        let Some((format, unit)) = rate_of(measured) else {
            continue;
        };
        let is_of = |rate: &&mut Rate| rate.format == format && rate.unit == unit;
        let largest = of(Quantity::MatrixTops)
            .filter(|other| rate_of(other) == Some((format, unit)))
            .map(|other| other.value)
            .fold(0.0, f64::max);
        match profile.rates_measured.iter_mut().find(is_of) {
            Some(rate) => rate.dense_tops = Some(largest),
            None => profile.rates_measured.push(Rate {
                format,
                unit,
                dense_tops: Some(largest),
                sparse_tops: None,
            }),
        }
    }
}

/// The format in which weights of a type are multiplied. Types that share the arithmetic of another are none of their own: of
/// Q4_0 and the K types, more is in the measurements.
fn rate_of(measured: &Measurement) -> Option<(NumberFormat, Unit)> {
    let unit = measured.unit?;
    let format = match (unit, measured.of.as_deref()?) {
        (_, "F32") => NumberFormat::Fp32,
        (_, "F16") => NumberFormat::Fp16,
        (_, "BF16") => NumberFormat::Bf16,
        // A processor's matrix unit takes these as bf16.
        (Unit::Vector, "Q8_0") => NumberFormat::Int8,
        // Dot products of four bytes.
        (Unit::Vector, "I8") => NumberFormat::Int8,
        // Cooperative matrices with sums in f32, of whatever shape.
        (Unit::Matrix, of) if of.starts_with("F16 ") && !of.ends_with(" in F16") => {
            NumberFormat::Fp16
        }
        _ => return None,
    };
    Some((format, unit))
}
