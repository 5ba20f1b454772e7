//! Mirostat 2: a bound on surprise that follows the surprise of the text.

use std::f64::consts::LN_2;

use troika_base::TokenId;

use super::params::Mirostat;
use super::rank::{Candidate, order};
use super::softmax;

/// The bound, from token to token.
#[derive(Clone, Debug)]
pub(super) struct Level {
    params: Mirostat,
    /// What a token may surprise at most, in bits.
    bound: f64,
    /// The token that was chosen last and its surprise, which counts if the text goes on with it.
    chosen: Option<(TokenId, f64)>,
}

impl Level {
    pub(super) fn new(params: Mirostat) -> Self {
        Self {
            params,
            bound: 2.0 * f64::from(params.tau),
            chosen: None,
        }
    }

    /// Takes the weight of the tokens that surprise more than the bound. The likeliest stays.
    pub(super) fn cut(&self, kept: &[Candidate], weights: &mut [u64]) {
        let total: u64 = weights.iter().sum();
        let likeliest = kept.iter().min_by(|a, b| order(a, b)).copied();
        for (candidate, weight) in kept.iter().zip(weights) {
            if *weight > 0 && Some(*candidate) != likeliest && surprise(*weight, total) > self.bound
            {
                *weight = 0;
            }
        }
    }

    /// A token was chosen that has `weight` of the `total` of those that could be.
    pub(super) fn chosen(&mut self, token: TokenId, weight: u64, total: u64) {
        self.chosen = Some((token, surprise(weight, total)));
    }

    /// The text goes on with this token.
    pub(super) fn accept(&mut self, token: TokenId) {
        if let Some((chosen, surprise)) = self.chosen.take()
            && chosen == token
        {
            let above = surprise - f64::from(self.params.tau);
            self.bound -= f64::from(self.params.eta) * above;
        }
    }
}

/// In bits.
fn surprise(weight: u64, total: u64) -> f64 {
    softmax::ln(total as f64 / weight as f64) / LN_2
}
