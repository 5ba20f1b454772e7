//! Watts by phase: what a meter told, else an estimate from the power that the maker allows.

use super::{Setup, Term};
use troika_base::{DeviceKind, DeviceProfile, Estimate};

/// Watts of all devices of a setup.
pub(super) struct Watts {
    pub(super) prefill: Option<Estimate>,
    pub(super) decode: Option<Estimate>,
    pub(super) idle: Option<Estimate>,
}

/// Share of the power limit that a phase draws: middle, low, high.
type Share = (f64, f64, f64);

/// Decode waits for memory, so the multipliers rest; prefill drives a chip to its limit.
const DECODE_CARD: Share = (0.62, 0.42, 0.85);
const PREFILL_CARD: Share = (0.92, 0.72, 1.0);
/// A package's limit covers the processor, the GPU and the NPU; one of them seldom takes all.
const DECODE_PACKAGE: Share = (0.6, 0.35, 0.95);
const PREFILL_PACKAGE: Share = (0.8, 0.5, 1.1);
/// At rest, chips keep their memory and a display alive. Left out, machines whose rest nobody measured would look cheaper.
const IDLE: Share = (0.06, 0.02, 0.12);
/// NPUs draw a few watts of the package's.
const NPU: Share = (0.18, 0.08, 0.4);

/// The devices that hold layers.
fn used<'a>(setup: &Setup<'a>, layers: &[u32]) -> impl Iterator<Item = &'a DeviceProfile> {
    let slots = setup.slots.iter().zip(layers);
    slots
        .filter(|(_, layers)| **layers > 0)
        .map(|(slot, _)| slot.device)
}

pub(super) fn watts(setup: &Setup<'_>, layers: &[u32]) -> Watts {
    let sum = |each: &dyn Fn(&DeviceProfile) -> Option<Estimate>| {
        used(setup, layers)
            .map(each)
            .try_fold(Estimate::exact(0.0), |sum, watts| Some(sum.plus(watts?)))
    };
    // Layers that wait for other layers' devices draw no more than at rest; tensors work all at once. The estimate takes the
    // larger case, which is what a power supply has to bear.
    let decode = sum(&|device| {
        phase(
            device,
            |kind| if kind { DECODE_PACKAGE } else { DECODE_CARD },
        )
    });
    let prefill = sum(&watts_at_work);
    Watts {
        prefill,
        decode,
        idle: sum(&idle),
    }
}

pub(super) fn terms(setup: &Setup<'_>, layers: &[u32]) -> Vec<Term> {
    used(setup, layers)
        .filter_map(|device| {
            let (formula, value, source) = match (device.watts_busy, device.watts_limit) {
                (Some(busy), _) => (format!("{busy:.1} W under load"), busy, "measured"),
                (None, Some(limit)) => (
                    format!("{limit:.0} W limit × share of the phase"),
                    limit,
                    "estimated from the limit",
                ),
                (None, None) => return None,
            };
            Some(Term {
                name: format!("power of {}", device.name),
                formula,
                value,
                unit: "W",
                source: source.into(),
            })
        })
        .collect()
}

/// Watts of a device at its hardest work: while it reads a prompt. `None` if nobody knows its power.
pub fn watts_at_work(device: &DeviceProfile) -> Option<Estimate> {
    phase(
        device,
        |kind| if kind { PREFILL_PACKAGE } else { PREFILL_CARD },
    )
}

fn idle(device: &DeviceProfile) -> Option<Estimate> {
    let of_limit = || device.watts_limit.map(|limit| of(limit, IDLE));
    device.watts_idle.map(Estimate::exact).or_else(of_limit)
}

fn of(limit: f64, (middle, low, high): Share) -> Estimate {
    Estimate {
        value: limit * middle,
        low: limit * low,
        high: limit * high,
    }
}

fn phase(device: &DeviceProfile, share: impl Fn(bool) -> Share) -> Option<Estimate> {
    if let Some(busy) = device.watts_busy {
        return Some(Estimate::within(busy, 1.1));
    }
    let limit = device.watts_limit?;
    let in_package = device.kind == DeviceKind::Cpu || device.link.as_deref() == Some("soc");
    let share = if device.kind == DeviceKind::Npu {
        NPU
    } else {
        share(in_package)
    };
    Some(of(limit, share))
}
