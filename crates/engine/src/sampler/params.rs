//! What a request may ask of the sampler.

use std::hash::{BuildHasher, Hasher};
use std::ops::RangeInclusive;

use troika_base::{ExtraSampling, TokenId};

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
    /// Keeps the tokens that surprise about as much as is to be expected, until they have this share of the probability
    /// together. 0 to 1; 1 keeps all. Meister et al. 2022, arXiv:2202.00666.
    pub typical_p: f32,
    /// Leaves likely tokens out at times.
    pub xtc: Xtc,
    /// Holds repetitions down.
    pub dry: Dry,
    /// Takes the place of all filters, where it is set.
    pub mirostat: Option<Mirostat>,
    /// Moves the temperature with how sure the model is.
    pub dynatemp: Dynatemp,
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
            typical_p: 1.0,
            xtc: Xtc::default(),
            dry: Dry::default(),
            mirostat: None,
            dynatemp: Dynatemp::default(),
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

    /// With those of `extra` that are given.
    ///
    /// # Errors
    /// [`SampleError::NotWhole`] if a number that counts is none of those that are taken.
    pub fn with(mut self, extra: &ExtraSampling) -> Result<Self, SampleError> {
        fn set<T: Copy>(to: &mut T, value: Option<T>) {
            *to = value.unwrap_or(*to);
        }
        set(&mut self.typical_p, extra.typical_p);
        set(&mut self.xtc.probability, extra.xtc_probability);
        set(&mut self.xtc.threshold, extra.xtc_threshold);
        set(&mut self.dry.multiplier, extra.dry_multiplier);
        set(&mut self.dry.base, extra.dry_base);
        if let Some(length) = extra.dry_allowed_length {
            self.dry.allowed_length = whole("dry_allowed_length", length, 0)?;
        }
        if let Some(tokens) = extra.dry_penalty_last_n {
            let all = u32::MAX;
            self.dry.last_n = match tokens {
                -1 => all,
                tokens => whole("dry_penalty_last_n", tokens, -1)?,
            };
        }
        if let Some(breakers) = &extra.dry_sequence_breakers {
            self.dry.breakers.clone_from(breakers);
        }
        match extra.mirostat {
            None => {}
            Some(0) => self.mirostat = None,
            Some(2) => self.mirostat = Some(self.mirostat.unwrap_or_default()),
            Some(version) => return Err(SampleError::Mirostat { version }),
        }
        if let Some(mirostat) = &mut self.mirostat {
            set(&mut mirostat.tau, extra.mirostat_tau);
            set(&mut mirostat.eta, extra.mirostat_eta);
        }
        set(&mut self.dynatemp.range, extra.dynatemp_range);
        set(&mut self.dynatemp.exponent, extra.dynatemp_exponent);
        Ok(self)
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
        within("typical_p", self.typical_p, 0.0..=1.0)?;
        within("xtc_probability", self.xtc.probability, 0.0..=1.0)?;
        within("xtc_threshold", self.xtc.threshold, 0.0..=1.0)?;
        within("dry_multiplier", self.dry.multiplier, 0.0..=100.0)?;
        within("dry_base", self.dry.base, 1.0..=100.0)?;
        if let Some(mirostat) = &self.mirostat {
            within("mirostat_tau", mirostat.tau, 0.0..=100.0)?;
            within("mirostat_eta", mirostat.eta, 0.0..=1.0)?;
        }
        within("dynatemp_range", self.dynatemp.range, 0.0..=100.0)?;
        within("dynatemp_exponent", self.dynatemp.exponent, 0.0..=100.0)?;
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

    /// Whether it matters what was said before.
    pub(super) fn looks_back(&self) -> bool {
        self.has_penalties() || self.dry.is_on()
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

/// "Exclude top choices": at times the likely tokens are left out, but for the least likely of them, so that a text takes
/// turns that still make sense.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xtc {
    /// How often. 0 to 1; 0 never.
    pub probability: f32,
    /// From what probability on a token is likely to that. 0 to 1; beyond one half there are never two of them.
    pub threshold: f32,
}

impl Default for Xtc {
    fn default() -> Self {
        Self {
            probability: 0.0,
            threshold: 0.1,
        }
    }
}

impl Xtc {
    pub(super) fn is_on(self) -> bool {
        self.probability > 0.0 && self.threshold <= 0.5
    }
}

/// "Don't repeat yourself": a token that would go on with a repetition of `n` tokens loses
/// `multiplier * base ^ (n - allowed_length)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// 0 to 100; 0 does nothing.
    pub multiplier: f32,
    /// 1 to 100.
    pub base: f32,
    /// Repetitions that are shorter are let pass.
    pub allowed_length: u32,
    /// How many of the last tokens, the prompt's included, are searched.
    pub last_n: u32,
    /// No repetition goes across a token with one of these texts in it.
    pub breakers: Vec<String>,
}

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            last_n: u32::MAX,
            breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
        }
    }
}

impl Dry {
    pub(crate) fn is_on(&self) -> bool {
        self.multiplier > 0.0
    }
}

/// Mirostat 2: keeps the surprise of the text at a level, by leaving out the tokens that would surprise more than a bound that
/// follows it. Basu et al. 2021, arXiv:2007.14966.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// The level, in bits. 0 to 100.
    pub tau: f32,
    /// How fast the bound follows. 0 to 1.
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Self {
        Self { tau: 5.0, eta: 0.1 }
    }
}

/// A temperature between `temperature - range`, where the model is sure of one token, and `temperature + range`, where all
/// tokens are equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dynatemp {
    /// 0 to 100; 0 does nothing.
    pub range: f32,
    /// The share of the largest possible entropy, to this power, says how far from the lower end it is. 0 to 100.
    pub exponent: f32,
}

impl Default for Dynatemp {
    fn default() -> Self {
        Self {
            range: 0.0,
            exponent: 1.0,
        }
    }
}

fn whole(field: &'static str, value: i64, min: i64) -> Result<u32, SampleError> {
    u32::try_from(value).map_err(|_| SampleError::NotWhole { field, value, min })
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
