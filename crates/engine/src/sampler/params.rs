//! What a request may ask of the sampler.

use std::hash::{BuildHasher, Hasher};
use std::ops::RangeInclusive;

use troika_base::TokenId;

use super::SampleError;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits before the draw: below 1 favours the likely tokens, 0 takes the likeliest. 0 to 100.
    pub temperature: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest likeliest tokens that have this share of the probability together. 0 to 1; 1 keeps all.
    pub top_p: f32,
    /// Keeps the tokens that are at least this many times as likely as the likeliest. 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits of tokens seen before, and multiplies negative ones. 0.1 to 10; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens, the prompt's included, the three penalties look at.
    pub repeat_last_n: u32,
    /// Subtracted from the logits of tokens seen before. -2 to 2.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens once for each time that they were seen. -2 to 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens. -100 to 100, or minus infinity to rule a token out.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Makes the draws repeatable. Made up if absent.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    /// What the field's programs use when nothing is said: some variety, nothing far-fetched, no penalties.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl SamplingParams {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Whether every number is in its range. Nothing is clamped.
    ///
    /// # Errors
    /// [`SampleError::OutOfRange`] or [`SampleError::DuplicateToken`].
    pub fn validate(&self) -> Result<(), SampleError> {
        within("temperature", self.temperature, 0.0..=100.0)?;
        within("top_p", self.top_p, 0.0..=1.0)?;
        within("min_p", self.min_p, 0.0..=1.0)?;
        within("repeat_penalty", self.repeat_penalty, 0.1..=10.0)?;
        within("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        for &(_, bias) in &self.logit_bias {
            if bias != f32::NEG_INFINITY {
                within("logit_bias", bias, -100.0..=100.0)?;
            }
        }
        let mut tokens: Vec<_> = self.logit_bias.iter().map(|&(token, _)| token).collect();
        tokens.sort_unstable();
        match tokens.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SampleError::DuplicateToken { token: pair[0] }),
            None => Ok(()),
        }
    }

    pub(super) fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    pub(super) fn has_penalties(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// The logit of a token that was seen `count` times, at least once.
    pub(super) fn penalised(&self, logit: f32, count: u32) -> f32 {
        let logit = if logit > 0.0 {
            logit / self.repeat_penalty
        } else {
            logit * self.repeat_penalty
        };
        logit - self.frequency_penalty * count as f32 - self.presence_penalty
    }
}

/// NaN is in no range.
fn within(field: &'static str, value: f32, range: RangeInclusive<f32>) -> Result<(), SampleError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = range.into_inner();
    Err(SampleError::OutOfRange {
        field,
        value,
        min,
        max,
    })
}

/// A seed that differs from call to call: the standard library's hash maps have one too.
pub(super) fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
