//! A device that the catalogue lacks, by flags.

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool, NumberFormat, Rate, Unit};
use troika_planner::plan::Described;

use crate::exit::WrongUse;

/// A gigabyte of memory as it is sold.
const GB_SOLD: f64 = (1u64 << 30) as f64;

/// What is known of the device; its bandwidth is `--bandwidth`.
#[derive(PartialEq, Debug, Default, clap::Args)]
#[command(next_help_heading = "A device that the catalogue lacks")]
pub(super) struct DeviceArgs {
    /// What to call it; with it, --bandwidth is its own
    #[arg(long, value_name = "NAME", requires_all = ["bandwidth", "memory_gb"])]
    device_name: Option<String>,
    /// What it is
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value = "gpu",
        requires = "device_name"
    )]
    device_kind: Kind,
    /// Its memory, in GB
    #[arg(
        long,
        value_name = "GB",
        requires = "device_name",
        allow_negative_numbers = true
    )]
    memory_gb: Option<f64>,
    /// Watts that its maker allows; without them, electricity is left out
    #[arg(
        long,
        value_name = "W",
        requires = "device_name",
        allow_negative_numbers = true
    )]
    tdp: Option<f64>,
    /// 10¹² dense INT8 operations a second; without a rate, reading a prompt has no estimate
    #[arg(
        long,
        value_name = "TOPS",
        requires = "device_name",
        allow_negative_numbers = true
    )]
    int8_tops: Option<f64>,
    /// 10¹² dense FP16 operations a second
    #[arg(
        long,
        value_name = "TFLOPS",
        requires = "device_name",
        allow_negative_numbers = true
    )]
    fp16_tflops: Option<f64>,
    /// Its price, in US dollars [default: it is at hand already]
    #[arg(
        long,
        value_name = "USD",
        requires = "device_name",
        allow_negative_numbers = true
    )]
    device_usd: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, clap::ValueEnum)]
enum Kind {
    Cpu,
    #[default]
    Gpu,
    Npu,
}

impl DeviceArgs {
    /// The device, if one is described.
    ///
    /// # Errors
    /// If a number is none that a device has.
    pub(super) fn described(
        &self,
        bandwidth_gbs: Option<f64>,
    ) -> anyhow::Result<Option<Described>> {
        for (flag, value) in [
            ("--memory-gb", self.memory_gb),
            ("--tdp", self.tdp),
            ("--int8-tops", self.int8_tops),
            ("--fp16-tflops", self.fp16_tflops),
            ("--device-usd", self.device_usd),
        ] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                let message = format!("{flag} is {value}: it has to be a number above 0");
                return Err(WrongUse(message).into());
            }
        }
        let Some(name) = &self.device_name else {
            return Ok(None);
        };
        let kind = match self.device_kind {
            Kind::Cpu => DeviceKind::Cpu,
            Kind::Gpu => DeviceKind::Gpu,
            Kind::Npu => DeviceKind::Npu,
        };
        let unit = match kind {
            DeviceKind::Cpu => Unit::Vector,
            _ => Unit::Matrix,
        };
        let rates = [
            (NumberFormat::Int8, self.int8_tops),
            (NumberFormat::Fp16, self.fp16_tflops),
        ];
        let rates = rates.into_iter().filter_map(|(format, dense)| {
            Some(Rate {
                format,
                unit,
                dense_tops: Some(dense?),
                sparse_tops: None,
            })
        });
        let profile = DeviceProfile {
            memory: self.memory_gb.map(|gb| Bytes((gb * GB_SOLD) as u64)),
            memory_pool: match kind {
                DeviceKind::Cpu => MemoryPool::Shared,
                _ => MemoryPool::Own,
            },
            bandwidth_peak_gbs: bandwidth_gbs,
            rates: rates.collect(),
            watts_limit: self.tdp,
            ..DeviceProfile::unknown(name.trim(), kind)
        };
        Ok(Some(Described {
            profile,
            usd: self.device_usd,
        }))
    }
}
