//! A GPU as something that is measured and shown.

use std::ops::ControlFlow;

use troika_base::Unit;
use troika_device::{Cancelled, Error};
use troika_device_gpu::Options;
use troika_device_gpu::roofline::{self, Arithmetic, Effort, Roofline, Series};
use troika_machine::Unknown;
use troika_machine::measure::{Course, Findings, Measurable, Measurement, Quantity, Stopped};
use troika_machine::meter::MeterSet;

use crate::gpu::{Gpus, Reached};
use crate::output::line;

/// A GPU that is made to work.
pub(super) struct GpuTest<'g>(pub(super) &'g Reached);

impl Measurable for GpuTest<'_> {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn measure(&self, meters: &MeterSet, course: &mut Course<'_, '_>) -> Result<Findings, Stopped> {
        let span = meters.span();
        let mut found = match self.roofline(course) {
            Ok(roofline) => self.findings(&roofline),
            Err(Error::Interrupted) => return Err(Stopped),
            Err(error) => Findings {
                unknown: vec![Unknown {
                    what: format!("{}.bandwidth_measured_gbs", self.id()),
                    why: error.to_string(),
                    remedy: "a newer driver may help".to_owned(),
                }],
                ..Findings::default()
            },
        };
        // What the others did meanwhile was not their work.
        let own = span.finish().into_iter();
        let own: Vec<_> = own.filter(|energy| *energy.covers == *self.id()).collect();
        found.add_power(Quantity::BusyW, Some("roofline"), &own);
        Ok(found)
    }
}

impl GpuTest<'_> {
    fn roofline(&self, course: &mut Course<'_, '_>) -> Result<Roofline, Error> {
        let gpu = self.0.found().open(self.id(), Options::default())?;
        let usual = Effort::default();
        let effort = Effort {
            time: usual.time.min(course.left()),
            ..usual
        };
        roofline::measure(&gpu, effort, &mut |_, what| match course.tick(what) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Stopped) => ControlFlow::Break(Cancelled),
        })
    }

    fn findings(&self, roofline: &Roofline) -> Findings {
        let mut measurements = Vec::new();
        let mut add = |quantity, series: &Series, of: Option<String>, unit: Option<Unit>| {
            let measured = Measurement::of_samples(self.id(), quantity, series.samples().to_vec());
            measurements.extend(measured.map(|measured| Measurement {
                of,
                unit,
                isa: Some(self.0.interface.to_owned()),
                ..measured
            }));
        };
        for (kind, tops) in &roofline.tops {
            let (of, unit) = match kind {
                Arithmetic::F32 => ("F32".to_owned(), Unit::Vector),
                Arithmetic::F16 => ("F16".to_owned(), Unit::Vector),
                Arithmetic::Dot4 => ("I8".to_owned(), Unit::Vector),
                Arithmetic::Tile(tile) => (format!("F16 {tile}"), Unit::Matrix),
            };
            add(Quantity::MatrixTops, tops, Some(of), Some(unit));
        }
        // Only the largest working set is in memory for sure.
        if let Some(((_, memory), cached)) = roofline.read_gbs.split_last() {
            for (set, gbs) in cached {
                add(Quantity::CacheGbs, gbs, Some(set.to_string()), None);
            }
            add(Quantity::ReadGbs, memory, None, None);
        }
        let others = [
            (Quantity::CopyGbs, &roofline.copy_gbs),
            (Quantity::GatherGbs, &roofline.gather_gbs),
            (Quantity::UploadGbs, &roofline.upload_gbs),
            (Quantity::DownloadGbs, &roofline.download_gbs),
            (Quantity::DispatchUs, &roofline.dispatch_us),
            (Quantity::RecordUs, &roofline.record_us),
            (Quantity::LaunchUs, &roofline.submit_us),
        ];
        for (quantity, series) in others {
            add(quantity, series, None, None);
        }
        for measured in &mut measurements {
            if measured.quantity == Quantity::ReadGbs {
                measured.working_set_bytes = roofline.read_gbs.last().map(|(set, _)| set.0);
            }
        }
        Findings {
            measurements,
            unknown: Vec::new(),
        }
    }
}

/// Rows on how GPUs are reached.
pub(super) fn rows(gpus: &Gpus) -> Vec<[String; 3]> {
    let reached = gpus.reached.iter().map(|gpu| {
        let mut facts = Vec::new();
        if gpu.software {
            facts.push("a program on the CPU".to_owned());
        }
        facts.extend(gpu.subgroup.map(|(least, most)| match least == most {
            true => format!("subgroups of {most}"),
            false => format!("subgroups of {least} to {most}"),
        }));
        facts.extend(gpu.f16.then(|| "F16".to_owned()));
        if !gpu.matrices.is_empty() {
            facts.push(format!("matrices {}", gpu.matrices.join(", ")));
        }
        let interface = format!("{}, {}", gpu.interface, line(&gpu.driver, 60));
        [gpu.id.clone(), interface, facts.join("; ")]
    });
    let not_offered = gpus.not_offered.iter().map(|name| {
        let why = "not offered: a program on the CPU; `TROIKA_GPU=software` offers it, for tests";
        ["-".to_owned(), line(name, 60), why.to_owned()]
    });
    reached.chain(not_offered).collect()
}

#[cfg(test)]
mod tests {
    use troika_base::{DeviceKind, DeviceProfile, NumberFormat};
    use troika_machine::Processor;
    use troika_machine::probe::{self, Root};

    use super::*;

    /// From a real roofline, if there is a GPU or a program that plays one, to the profile that plans read.
    #[test]
    fn a_roofline_fills_the_profile() {
        let Some(found) = troika_device_gpu::find().into_iter().next() else {
            println!("skipped: no Vulkan, Metal or DX12 driver here");
            return;
        };
        let reached = Reached::new("gpu0".to_owned(), found);
        let gpu = reached
            .found()
            .open("gpu0", Options { checked: true })
            .expect("opens");
        let effort = Effort {
            time: std::time::Duration::from_millis(300),
            bytes: troika_base::Bytes(4 << 20),
        };
        let roofline = roofline::measure(&gpu, effort, &mut |_, _| ControlFlow::Continue(()));
        let roofline = roofline.expect("no failure");
        let mut machine = probe::read(&Root::recorded("== /proc/meminfo\nMemTotal: 1024 kB\n"));
        machine.processors.push(Processor {
            id: "gpu0".to_owned(),
            profile: DeviceProfile::unknown(&reached.name, DeviceKind::Gpu),
            driver: None,
            pci_id: None,
            bus_address: None,
            found: troika_machine::Found::Ready,
        });
        machine.record(GpuTest(&reached).findings(&roofline));
        let profile = &machine.processors.last().expect("was added").profile;
        let samples = roofline.read_gbs.last().expect("one at least").1.samples();
        let read = profile.bandwidth_measured_gbs.expect("was measured");
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(0.0, f64::max);
        assert!(
            (least..=most).contains(&read),
            "of the largest working set alone"
        );
        assert!(profile.launch_us > Some(0.0));
        let of = |unit, format| profile.dense_tops(unit, format);
        assert!(of(Unit::Vector, NumberFormat::Fp32) > Some(0.0));
        assert!(of(Unit::Vector, NumberFormat::Int8) > Some(0.0));
        let wide = reached.found().caps.tiles.iter().any(|tile| tile.wide);
        assert_eq!(of(Unit::Matrix, NumberFormat::Fp16).is_some(), wide);
    }
}
