//! Logits to the next token.
//!
//! The chain and its order are the field's: bias and penalties, then a grammar's mask if there is one, then top-k, typical,
//! top-p, min-p and XTC, each on what the one before left, then temperature, then one draw. Mirostat takes the place of the
//! filters. Temperature 0 takes the likeliest token instead.
//!
//! The same seed gives the same text on any machine and with any number of threads, as far as the logits are the
//! same: arithmetic here is plain IEEE in a fixed order, exponentials are our own, the generator is PCG64, and equal
//! logits rank by token id.

mod chain;
mod draw;
mod dry;
mod history;
mod mask;
mod mirostat;
mod narrow;
mod params;
mod rank;
mod softmax;

pub use mask::TokenMask;
pub use params::{Dry, Dynatemp, Mirostat, SamplingParams, Xtc};
pub use softmax::top_logprobs;

use std::collections::BTreeMap;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use troika_base::TokenId;

use dry::Repetitions;
use history::History;
use mirostat::Level;
use rank::Candidate;

/// Chooses tokens for one sequence.
///
/// Scratch memory is as large as the vocabulary and is allocated with the first token.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    n_vocab: usize,
    seed: u64,
    rng: Pcg64,
    history: History,
    repetitions: Repetitions,
    level: Option<Level>,
    /// Logits after bias, penalties and mask.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
    weights: Vec<u64>,
}

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of the probability that the model gave it: of the softmax of the logits as they came, before
    /// bias, penalties, mask, filters and temperature.
    pub logprob: f32,
}

/// Why parameters are refused or no token is chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A parameter is outside of its range, or no number.
    #[error("{field} is {value}, but goes from {min} to {max}")]
    OutOfRange {
        /// The parameter's name.
        field: &'static str,
        /// What was given.
        value: f32,
        /// The smallest value that is taken.
        min: f32,
        /// The largest value that is taken.
        max: f32,
    },
    /// A parameter that counts is not one of the whole numbers that it may be.
    #[error("{field} is {value}, but goes from {min} to {}", u32::MAX)]
    NotWhole {
        /// The parameter's name.
        field: &'static str,
        /// What was given.
        value: i64,
        /// The smallest value that is taken.
        min: i64,
    },
    /// A version of Mirostat that is not computed.
    #[error(
        "mirostat is {version}, but must be 0 (off) or 2: version 1 is not computed, and 2 does the same more simply"
    )]
    Mirostat {
        /// What was given.
        version: i64,
    },
    /// A bias for a token that is not in the vocabulary.
    #[error("logit_bias names token {token}, but the vocabulary ends before {n_vocab}")]
    UnknownToken {
        /// The token.
        token: TokenId,
        /// Tokens in the vocabulary.
        n_vocab: usize,
    },
    /// Two biases for one token.
    #[error("logit_bias names token {token} twice")]
    DuplicateToken {
        /// The token.
        token: TokenId,
    },
    /// The model computed NaN or infinity.
    #[error(
        "the model gave token {token} the logit {logit}; its weights are damaged or a kernel is wrong"
    )]
    BadLogit {
        /// The first such token.
        token: TokenId,
        /// Its logit.
        logit: f32,
    },
    /// Every token is ruled out.
    #[error("every token is ruled out: all logits are minus infinity")]
    NoCandidate,
    /// Every token of a mask is ruled out.
    #[error(
        "no token that the grammar allows here can be chosen: the model's scores or `logit_bias` rule them all out"
    )]
    NoneAllowed,
}

impl SampleError {
    /// The name of the parameter that is refused; none if the logits are at fault.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::OutOfRange { field, .. } | Self::NotWhole { field, .. } => Some(field),
            Self::Mirostat { .. } => Some("mirostat"),
            Self::UnknownToken { .. } | Self::DuplicateToken { .. } => Some("logit_bias"),
            Self::BadLogit { .. } | Self::NoCandidate | Self::NoneAllowed => None,
        }
    }
}

impl Sampler {
    /// A sampler over a vocabulary of `n_vocab` tokens.
    ///
    /// # Errors
    /// If [`SamplingParams::validate`] refuses the parameters, or a bias names a token beyond the vocabulary.
    pub fn new(params: SamplingParams, n_vocab: usize) -> Result<Self, SampleError> {
        params.validate()?;
        let unknown = params
            .logit_bias
            .iter()
            .find(|(token, _)| token.index() >= n_vocab);
        if let Some(&(token, _)) = unknown {
            return Err(SampleError::UnknownToken { token, n_vocab });
        }
        let seed = params.seed.unwrap_or_else(params::random_seed);
        Ok(Self {
            n_vocab,
            seed,
            rng: Pcg64::seed_from_u64(seed),
            history: History::new(params.repeat_last_n as usize),
            repetitions: Repetitions::new(&params.dry),
            level: params.mirostat.map(Level::new),
            params,
            adjusted: Vec::new(),
            candidates: Vec::new(),
            weights: Vec::new(),
        })
    }

    /// The seed in use: the one given, or the one that was made up.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether it takes the likeliest token of any logits, but for tokens that are ruled out for good.
    pub(crate) fn takes_the_likeliest(&self) -> bool {
        let biases = &self.params.logit_bias;
        let rules_out = biases.iter().all(|&(_, bias)| bias == f32::NEG_INFINITY);
        self.params.is_greedy() && !self.params.looks_back() && rules_out
    }

    /// Takes note of tokens that stand before the next one, such as the prompt: penalties count them.
    pub fn observe(&mut self, tokens: &[TokenId]) {
        if self.params.has_penalties() {
            self.history.extend(tokens);
        }
        if self.params.dry.is_on() {
            self.repetitions.extend(tokens);
        }
    }

    /// No repetition goes across these tokens, which have the [breakers](Dry::breakers) in them.
    pub fn break_at(&mut self, tokens: Vec<TokenId>) {
        self.repetitions.break_at(tokens);
    }

    /// Takes note of the token that the sequence goes on with. [`Self::sample`] does not: what it chose may still be
    /// refused.
    pub fn accept(&mut self, token: TokenId) {
        self.observe(&[token]);
        if let Some(level) = &mut self.level {
            level.accept(token);
        }
    }

    /// Chooses the next token from `logits` `[n_vocab]`. A logit of minus infinity rules its token out.
    ///
    /// # Errors
    /// [`SampleError::BadLogit`] on NaN or plus infinity, [`SampleError::NoCandidate`] if all tokens are ruled out.
    ///
    /// # Panics
    /// If there are not `n_vocab` logits.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Sampled, SampleError> {
        self.choose(logits, None)
    }

    /// [`Self::sample`] among the tokens of a mask. The rest has no chance, whatever the parameters are: filters see what
    /// the mask leaves, and bias does not bring a token back.
    ///
    /// [`Sampled::logprob`] is of the distribution without the mask, as servers report it: what the model thought of
    /// the token, not how little choice it had.
    ///
    /// # Errors
    /// As for [`Self::sample`]; [`SampleError::NoneAllowed`] if no token of the mask can be chosen. Never is one chosen
    /// that is not in the mask.
    ///
    /// # Panics
    /// If there are not `n_vocab` logits, or the mask is of another vocabulary.
    pub fn sample_masked(
        &mut self,
        logits: &[f32],
        mask: &TokenMask,
    ) -> Result<Sampled, SampleError> {
        assert_eq!(mask.n_vocab(), self.n_vocab, "a mask of this vocabulary");
        self.choose(logits, Some(mask))
    }

    fn choose(&mut self, logits: &[f32], mask: Option<&TokenMask>) -> Result<Sampled, SampleError> {
        let max = self.check(logits)?;
        let adjusts = self.adjust(logits, mask);
        let (adjusted, adjusted_max) = if adjusts {
            let max = softmax::checked_max(&self.adjusted).map_err(|error| match error {
                SampleError::NoCandidate if mask.is_some() => SampleError::NoneAllowed,
                error => error,
            })?;
            (&*self.adjusted, max)
        } else {
            (logits, max)
        };
        let token = if self.params.is_greedy() {
            let first = adjusted.iter().position(|&logit| logit == adjusted_max);
            first.expect("the maximum is among the logits. This is a bug.")
        } else {
            let xtc = self.params.xtc;
            let thins = xtc.is_on() && draw::happens(xtc.probability, &mut self.rng);
            let (kept, weights) = (&mut self.candidates, &mut self.weights);
            chain::weigh(
                &self.params,
                self.level.as_ref(),
                thins,
                (adjusted, adjusted_max),
                (kept, weights),
            );
            let chosen = draw::draw(weights, &mut self.rng);
            let token = kept[chosen].token;
            if let Some(level) = &mut self.level {
                level.chosen(token, weights[chosen], weights.iter().sum());
            }
            token.index()
        };
        let logprob = logits[token] - softmax::log_sum_exp(logits, max);
        let token = TokenId(token as u32);
        Ok(Sampled { token, logprob })
    }

    /// The tokens that [`Self::sample`] draws from with their probabilities, likeliest first, without drawing. At temperature 0 all of it
    /// is one token's.
    ///
    /// # Errors
    /// As for [`Self::sample`].
    ///
    /// # Panics
    /// If there are not `n_vocab` logits.
    pub fn distribution(&mut self, logits: &[f32]) -> Result<Vec<(TokenId, f32)>, SampleError> {
        self.check(logits)?;
        let adjusts = self.adjust(logits, None);
        let adjusted = if adjusts { &self.adjusted } else { logits };
        let max = softmax::checked_max(adjusted)?;
        if self.params.is_greedy() {
            let best = rank::best(adjusted, 1, &mut self.candidates);
            return Ok(best
                .iter()
                .map(|candidate| (candidate.token, 1.0))
                .collect());
        }
        let xtc = self.params.xtc;
        let mut shares = BTreeMap::new();
        for (thins, probability) in [(false, 1.0 - xtc.probability), (true, xtc.probability)] {
            if probability == 0.0 {
                continue;
            }
            let (kept, weights) = (&mut self.candidates, &mut self.weights);
            chain::weigh(
                &self.params,
                self.level.as_ref(),
                thins,
                (adjusted, max),
                (kept, weights),
            );
            let total = weights.iter().sum::<u64>() as f64 / f64::from(probability);
            for (candidate, &weight) in kept.iter().zip(&*weights) {
                *shares.entry(candidate.token).or_insert(0.0) += weight as f64 / total;
            }
        }
        shares.retain(|_, share| *share > 0.0);
        let mut shares: Vec<_> = shares
            .into_iter()
            .map(|(token, share)| (token, share as f32))
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(shares)
    }

    /// The largest logit, once none of them is broken.
    fn check(&self, logits: &[f32]) -> Result<f32, SampleError> {
        assert_eq!(
            logits.len(),
            self.n_vocab,
            "one logit per token of the vocabulary"
        );
        softmax::checked_max(logits)
    }

    /// Writes the logits after bias, penalties and mask to `adjusted`. `false` if there is nothing to change.
    fn adjust(&mut self, logits: &[f32], mask: Option<&TokenMask>) -> bool {
        let seen = self.history.counts();
        let params = &self.params;
        let repeated = self.repetitions.penalties(&params.dry);
        let is_same = params.logit_bias.is_empty() && seen.is_empty() && repeated.is_empty();
        if is_same && mask.is_none() {
            return false;
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for &(token, bias) in &params.logit_bias {
            self.adjusted[token.index()] += bias;
        }
        for &(token, count) in seen {
            // Tokens of a prompt come from outside; those beyond the vocabulary have no logit.
            if let Some(logit) = self.adjusted.get_mut(token.index()) {
                *logit = params.penalised(*logit, count);
            }
        }
        for (token, penalty) in repeated {
            if let Some(logit) = self.adjusted.get_mut(token.index()) {
                *logit -= penalty;
            }
        }
        if let Some(mask) = mask {
            mask.apply(&mut self.adjusted);
        }
        true
    }
}

#[cfg(test)]
mod tests;
