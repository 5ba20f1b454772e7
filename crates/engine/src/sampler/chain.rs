//! The filters and the temperature: logits to what each token that is left weighs in the draw.

use super::mirostat::Level;
use super::params::{Dynatemp, SamplingParams};
use super::rank::{self, Candidate, weight};
use super::{narrow, softmax};

/// Writes the tokens that may be drawn, in an order that depends on nothing but the logits, and what each weighs.
///
/// `max` is the largest of `logits`, and finite. `thins`: XTC leaves out the likely tokens.
pub(super) fn weigh(
    params: &SamplingParams,
    level: Option<&Level>,
    thins: bool,
    (logits, max): (&[f32], f32),
    (kept, weights): (&mut Vec<Candidate>, &mut Vec<u64>),
) {
    match level {
        // What is further below has no weight.
        Some(_) => rank::above(logits, max - NO_WEIGHT * params.temperature, kept),
        None => rank::filter(params, logits, max, kept),
    }
    if thins && level.is_none() {
        narrow::leave_out_likely(params.xtc.threshold, max, kept);
    }
    let temperature = match params.dynatemp {
        Dynatemp { range: 0.0, .. } => params.temperature,
        dynatemp => moved(params.temperature, dynatemp, max, kept),
    };
    weights.clear();
    let max = kept.iter().map(|it| it.logit).fold(f32::MIN, f32::max);
    let scaled = kept.iter().map(|it| (it.logit - max) / temperature);
    weights.extend(scaled.map(weight));
    if let Some(level) = level {
        level.cut(kept, weights);
    }
}

/// A token weighs nothing whose logit is this far below the largest: 2^-41.
const NO_WEIGHT: f32 = 28.5;

/// The temperature that dynamic temperature makes of this one.
fn moved(temperature: f32, dynatemp: Dynatemp, max: f32, kept: &[Candidate]) -> f32 {
    /// As near to taking the likeliest token as numbers go.
    const COLDEST: f32 = 1e-3;
    let coldest = (temperature - dynatemp.range).max(COLDEST);
    let hottest = temperature + dynatemp.range;
    if kept.len() < 2 {
        return temperature;
    }
    let most = softmax::ln(kept.len() as f64);
    let share = (narrow::entropy(max, kept) / most).clamp(0.0, 1.0);
    // share ^ exponent. No entropy is as cold as it gets.
    let power = match share {
        0.0 => 0.0,
        share => softmax::exp(dynatemp.exponent * softmax::ln(share) as f32),
    };
    coldest + (hottest - coldest) * power
}
