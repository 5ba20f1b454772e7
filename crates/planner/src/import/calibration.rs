//! Measurements against the cost model: by how much a device is faster or slower than predicted.

use super::{Measurement, What};
use crate::cost::Calibration;

/// What the model says to the conditions of a measurement; `None` where it has no say: another device, an unknown model.
pub type Prediction = Option<f64>;

/// A ratio beyond this either way is a mistake of device or model, not a property of the device.
const RATIO_MAX: f64 = 8.0;

/// Measured over predicted speed, by phase: the median over the measurements that the model has a say to.
///
/// `forecast` predicts the very quantity that was measured, `measurement.what`. The time to the first token tells of
/// prefill where no speed of prefill was measured. Tokens a second over both phases, scores, watts and bytes tell nothing.
/// `None` if no measurement tells anything.
pub fn calibrate(
    measurements: &[Measurement],
    mut forecast: impl FnMut(&Measurement) -> Prediction,
) -> Option<Calibration> {
    let (mut decode, mut prefill, mut first_token) = (Vec::new(), Vec::new(), Vec::new());
    for measurement in measurements {
        let ratios = match measurement.what {
            What::DecodeTps => &mut decode,
            What::PrefillTps => &mut prefill,
            What::TtftS => &mut first_token,
            _ => continue,
        };
        let Some(predicted) = forecast(measurement) else {
            continue;
        };
        let ratio = match measurement.what {
            // Twice the time is half the speed.
            What::TtftS => predicted / measurement.value,
            _ => measurement.value / predicted,
        };
        if (1.0 / RATIO_MAX..=RATIO_MAX).contains(&ratio) {
            ratios.push(ratio);
        }
    }
    let calibration = Calibration {
        decode: median(&mut decode),
        prefill: median(&mut prefill).or_else(|| median(&mut first_token)),
    };
    (calibration.decode.is_some() || calibration.prefill.is_some()).then_some(calibration)
}

/// The middle ratio; of an even number the geometric mean of the two in the middle, as ratios multiply.
fn median(ratios: &mut [f64]) -> Option<f64> {
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    match ratios {
        [] => None,
        ratios if ratios.len() % 2 == 1 => Some(ratios[middle]),
        ratios => Some((ratios[middle - 1] * ratios[middle]).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_ratio_counts() {
        let measured = |what, value| Measurement::new("test", what, value);
        let measurements = [
            measured(What::DecodeTps, 80.0),
            measured(What::DecodeTps, 90.0),
            measured(What::DecodeTps, 120.0),
            // A different machine, surely.
            measured(What::DecodeTps, 5000.0),
            measured(What::TtftS, 0.5),
            measured(What::CombinedTps, 1.0),
            measured(What::Score, 1234.0),
        ];
        let predict = |measurement: &Measurement| match measurement.what {
            What::DecodeTps => Some(100.0),
            What::TtftS => Some(0.25),
            _ => Some(1.0),
        };
        let calibration = calibrate(&measurements, predict).expect("there are measurements");
        assert_eq!(calibration.decode, Some(0.9));
        assert_eq!(calibration.prefill, Some(0.5));
        // A speed of prefill says more than the time to the first token.
        let both = [
            measured(What::TtftS, 0.5),
            measured(What::PrefillTps, 2.0),
            measured(What::PrefillTps, 0.5),
        ];
        let calibration = calibrate(&both, |_| Some(1.0)).expect("there are measurements");
        assert_eq!((calibration.decode, calibration.prefill), (None, Some(1.0)));
        assert_eq!(calibrate(&measurements, |_| None), None);
        assert_eq!(calibrate(&measurements[5..], predict), None);
    }
}
