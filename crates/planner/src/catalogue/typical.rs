//! What devices of a kind and class usually draw: what can be said of one of which nothing is known but that.

use troika_base::{DeviceKind, Estimate};

use super::{Catalogue, blocks, class_name, profile};
use crate::cost::watts_at_work;

/// The rows at these shares of all, by their watts, are the ends of what is usual.
const ENDS: [f64; 2] = [0.1, 0.9];

impl Catalogue {
    /// Watts at work of the devices of a kind and class (of all classes if none is named), over all chips whose power is known:
    /// the middle one, and as ends what all but the least and the most thirsty tenth may draw. Wide, and meant to be. `None`
    /// if no such chip's power is known.
    pub fn typical_watts(&self, kind: DeviceKind, class: Option<&str>) -> Option<Estimate> {
        let chips = self.chips().iter();
        let chips = chips.filter(|chip| class.is_none_or(|class| class_name(chip.class) == class));
        let devices = chips.flat_map(|chip| {
            let blocks = blocks(chip).into_iter();
            blocks.map(move |block| profile(chip, block, None))
        });
        let watts = devices.filter(|device| device.kind == kind);
        let watts: Vec<Estimate> = watts.filter_map(|device| watts_at_work(&device)).collect();
        let at = |share: f64, of: fn(&Estimate) -> f64| {
            let mut all: Vec<f64> = watts.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            let last = all.len().checked_sub(1)?;
            all.get((last as f64 * share).round() as usize).copied()
        };
        Some(Estimate {
            value: at(0.5, |watts| watts.value)?,
            low: at(ENDS[0], |watts| watts.low)?,
            high: at(ENDS[1], |watts| watts.high)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_kind_draw_what_is_usual_for_their_class() {
        let catalogue = Catalogue::builtin();
        let watts = |kind, class| {
            catalogue
                .typical_watts(kind, class)
                .expect("some are known")
        };
        let (npu, gpu) = (
            watts(DeviceKind::Npu, Some("laptop")),
            watts(DeviceKind::Gpu, Some("desktop")),
        );
        // A laptop's NPU draws a few watts, and at most some tens of them; a card some hundreds.
        assert!((1.0..15.0).contains(&npu.value), "{npu:?}");
        assert!((5.0..50.0).contains(&npu.high), "{npu:?}");
        assert!((80.0..400.0).contains(&gpu.value), "{gpu:?}");
        for estimate in [npu, gpu] {
            assert!(estimate.low < estimate.value && estimate.value < estimate.high);
            assert!(estimate.high > 2.0 * estimate.low, "wide: {estimate:?}");
        }
        assert!(watts(DeviceKind::Cpu, None).high > watts(DeviceKind::Cpu, Some("laptop")).low);
        assert_eq!(
            catalogue.typical_watts(DeviceKind::Npu, Some("no such")),
            None
        );
    }
}
