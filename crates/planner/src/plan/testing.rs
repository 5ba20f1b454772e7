//! A small catalogue and a machine whose figures tests can reckon with.

use troika_base::{Basis, Bytes, DeviceKind, DeviceProfile, MemoryPool, NumberFormat, Rate, Unit};

use super::{Here, HereDevice};
use crate::catalogue::{Catalogue, Date, Thresholds};

const SOURCE: &str = "source = { url = 'https://example.org', date = 2026-11-01 }";

const ROWS: &str = include_str!("testing.toml");

/// The built-in thresholds.
pub(crate) fn thresholds() -> Thresholds {
    *catalogue().thresholds()
}

/// The rows of `testing.toml` alone.
pub(crate) fn catalogue() -> Catalogue {
    catalogue_with("")
}

/// The same with more rows, in which `SOURCE` stands for a source.
pub(crate) fn catalogue_with(more: &str) -> Catalogue {
    let rows = format!("{ROWS}\n{more}").replace("\nSOURCE", &format!("\n{SOURCE}"));
    Catalogue::of_rows(&rows)
}

/// The day of the tests.
pub(crate) fn today() -> Date {
    "2026-11-21".parse().expect("is a day")
}

/// A desktop: eight cores with 60 GB/s of memory, and a card of 12 GB.
pub(crate) fn here() -> Here {
    let device = |id: &str, profile: DeviceProfile| HereDevice {
        id: id.to_owned(),
        profile,
        memory_free: None,
        blocked: None,
    };
    let rate = |unit, format, dense| Rate {
        format,
        unit,
        dense_tops: Some(dense),
        sparse_tops: None,
    };
    let measured = Basis::Measured {
        at: "2026-11-20T00:00:00Z".to_owned(),
    };
    let cpu = DeviceProfile {
        memory: Some(Bytes(32 << 30)),
        memory_pool: MemoryPool::Shared,
        bandwidth_peak_gbs: Some(76.8),
        bandwidth_measured_gbs: Some(60.0),
        rates_measured: vec![
            rate(Unit::Vector, NumberFormat::Int8, 2.0),
            rate(Unit::Vector, NumberFormat::Fp32, 0.5),
        ],
        cores: Some(8),
        watts_idle: Some(20.0),
        watts_limit: Some(65.0),
        basis: measured.clone(),
        ..DeviceProfile::unknown("A Processor", DeviceKind::Cpu)
    };
    let gpu = DeviceProfile {
        vendor: "nvidia".to_owned(),
        family: Some("ampere".to_owned()),
        class: Some("desktop".to_owned()),
        memory: Some(Bytes(12 << 30)),
        bandwidth_peak_gbs: Some(360.0),
        rates: vec![
            rate(Unit::Matrix, NumberFormat::Int8, 102.0),
            rate(Unit::Matrix, NumberFormat::Fp16, 51.0),
        ],
        watts_idle: Some(12.0),
        watts_limit: Some(170.0),
        link: Some("pcie4x16".to_owned()),
        basis: measured,
        ..DeviceProfile::unknown("Test Card 12", DeviceKind::Gpu)
    };
    Here {
        name: "this machine".to_owned(),
        devices: vec![device("cpu0", cpu), device("gpu0", gpu)],
        has_battery: false,
    }
}
