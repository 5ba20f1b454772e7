//! How far one model's predictions are from another's: what a model loses when its weights are written in fewer bits.

use std::ops::ControlFlow;

use troika_base::TokenId;
use troika_device::{Batch, Logits, Output, PAGE_TOKENS, Resident, Sequence};

use crate::Error;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// A text to compare models on: prose, a recipe, code, sums, letters, and two other languages; a few hundred tokens, so
/// that it is read in seconds by any processor.
pub const CALIBRATION: &str = include_str!("../assets/calibration.txt");

/// Tokens of a step. Rows of logits are kept small: 64 of a large vocabulary are 32 MiB.
const STEP: usize = 64;

/// Tokens of a text without words.
const WORDLESS: usize = 400;

/// The distance of a model's predictions from those of a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Mean over the tokens of the Kullback-Leibler divergence of what is predicted after each, in nats per token: what is
    /// lost by taking the other model's probabilities for the reference's.
    pub kl_mean: f64,
    /// That of the worst token.
    pub kl_max: f64,
    /// Share of tokens after which both find the same one likeliest, 0 to 1.
    pub agreement: f64,
    /// Tokens that were compared.
    pub tokens: usize,
}

/// What models are compared on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    tokens: Vec<TokenId>,
    /// Tokens that mean something: the rows of logits of a padded vocabulary are longer.
    n_vocab: usize,
}

impl Text {
    /// The [`CALIBRATION`] text in a vocabulary's tokens.
    pub fn calibration(tokenizer: &Tokenizer) -> Self {
        Self::new(tokenizer, CALIBRATION)
    }

    /// A text in a vocabulary's tokens.
    pub fn new(tokenizer: &Tokenizer, text: &str) -> Self {
        let options = EncodeOptions {
            add_special: true,
            parse_special: false,
        };
        Self {
            tokens: tokenizer.encode(text, options),
            n_vocab: tokenizer.n_vocab(),
        }
    }

    /// As many tokens as the calibration text has in most vocabularies, in no order: for a model that has numbers for words.
    pub fn without_words(n_vocab: usize) -> Self {
        // Knuth's constants of a linear congruence modulo 2⁶⁴; its upper bits are the better ones.
        let next = |state: &u64| {
            let product = state.wrapping_mul(6_364_136_223_846_793_005);
            Some(product.wrapping_add(1_442_695_040_888_963_407))
        };
        let states = std::iter::successors(Some(1_u64), next).take(WORDLESS);
        let token = |state: u64| TokenId(((state >> 33) % n_vocab.max(1) as u64) as u32);
        Self {
            tokens: states.map(token).collect(),
            n_vocab,
        }
    }

    /// The tokens that all of these have room for.
    fn readable_by(&self, models: &[&dyn Resident]) -> Result<&[TokenId], Error> {
        let rooms = models.iter().map(|model| model.n_page() * PAGE_TOKENS);
        let n_tok = rooms.min().unwrap_or(0).min(self.len());
        match n_tok {
            0 => Err(Error::EmptyPrompt),
            _ => Ok(&self.tokens[..n_tok]),
        }
    }

    /// How many tokens it has.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Its first `n` tokens; all of them if it has fewer.
    #[must_use]
    pub fn first(mut self, n: usize) -> Self {
        self.tokens.truncate(n);
        self
    }
}

/// Lets a model read the same tokens on two devices, or in two forms, and compares what they expect after each. As many
/// tokens are read as both have room for; what their caches held is overwritten. `progress` is told how many of how many are
/// done, and may break it off; what was compared by then is returned.
///
/// # Errors
/// [`Error::EmptyPrompt`] if there is nothing to read, [`Error::NoNumbers`] if a model's scores are none or fewer than the
/// text's vocabulary has, or what the models' steps say.
pub fn divergence(
    reference: &mut dyn Resident,
    other: &mut dyn Resident,
    text: &Text,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Divergence, Error> {
    let tokens = text.readable_by(&[&*reference, &*other])?;
    let mut sums = Sums::default();
    for step in tokens.chunks(STEP) {
        let want = logits(reference, step, sums.tokens)?;
        let have = logits(other, step, sums.tokens)?;
        sums.add_rows(want.rows(), have.rows(), text.n_vocab)?;
        if progress(sums.tokens, tokens.len()).is_break() {
            break;
        }
    }
    Ok(sums.divergence())
}

/// What a model predicts after each token of a text, kept for comparing it with several others. It takes a row of logits for
/// each token, so the text is best short.
#[derive(Clone, Debug)]
pub struct Predictions {
    text: Text,
    /// Of each step.
    logits: Vec<Logits>,
}

impl Predictions {
    /// Reads a text, as much of it as the model has room for.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] if there is nothing to read, or what the model's steps say.
    pub fn of(model: &mut dyn Resident, text: Text) -> Result<Self, Error> {
        let n_tok = text.readable_by(&[&*model])?.len();
        let text = text.first(n_tok);
        let steps = (0..n_tok).step_by(STEP).zip(text.tokens.chunks(STEP));
        let logits = steps.map(|(position, step)| logits(model, step, position));
        let logits = logits.collect::<Result<_, _>>()?;
        Ok(Self { text, logits })
    }

    /// How far another model's are from these. It has to have room for the same tokens.
    ///
    /// # Errors
    /// As [`divergence`].
    pub fn divergence_of(&self, other: &mut dyn Resident) -> Result<Divergence, Error> {
        let mut sums = Sums::default();
        for (want, step) in self.logits.iter().zip(self.text.tokens.chunks(STEP)) {
            let have = logits(other, step, sums.tokens)?;
            sums.add_rows(want.rows(), have.rows(), self.text.n_vocab)?;
        }
        Ok(sums.divergence())
    }
}

/// A step over the next tokens of the only sequence there is.
fn logits(model: &mut dyn Resident, tokens: &[TokenId], position: usize) -> Result<Logits, Error> {
    let end = position + tokens.len();
    let pages: Vec<usize> = (0..end.div_ceil(PAGE_TOKENS)).collect();
    let sequences = [Sequence {
        tokens,
        position,
        pages: &pages,
        output: Output::AllLogits,
    }];
    let batch = Batch {
        sequences: &sequences,
    };
    Ok(model.step(&batch)?.logits)
}

#[derive(Debug, Default)]
struct Sums {
    kl: f64,
    kl_max: f64,
    agreeing: usize,
    tokens: usize,
}

impl Sums {
    fn add(&mut self, want: &[f32], have: &[f32]) -> Result<(), Error> {
        let (kl, agrees) = of_rows(want, have)?;
        self.kl += kl;
        self.kl_max = self.kl_max.max(kl);
        self.agreeing += usize::from(agrees);
        self.tokens += 1;
        Ok(())
    }

    /// Adds the rows of two models' steps.
    fn add_rows<'r>(
        &mut self,
        want: impl Iterator<Item = &'r [f32]>,
        have: impl Iterator<Item = &'r [f32]>,
        n_vocab: usize,
    ) -> Result<(), Error> {
        for (want, have) in want.zip(have) {
            let rows = want.get(..n_vocab).zip(have.get(..n_vocab));
            let (want, have) = rows.ok_or(Error::NoNumbers)?;
            self.add(want, have)?;
        }
        Ok(())
    }

    fn divergence(&self) -> Divergence {
        let n = self.tokens.max(1) as f64;
        Divergence {
            kl_mean: self.kl / n,
            kl_max: self.kl_max,
            agreement: self.agreeing as f64 / n,
            tokens: self.tokens,
        }
    }
}

/// The Kullback-Leibler divergence of what is predicted after one token, in nats, and whether both find the same token
/// likeliest.
///
/// # Errors
/// [`Error::NoNumbers`] if a row holds none.
pub(crate) fn of_rows(want: &[f32], have: &[f32]) -> Result<(f64, bool), Error> {
    let (reference, other) = (Distribution::of(want), Distribution::of(have));
    let (Some(reference), Some(other)) = (reference, other) else {
        return Err(Error::NoNumbers);
    };
    let terms = want.iter().zip(have).map(|(&want, &have)| {
        let log_p = reference.log(want);
        let p = log_p.exp();
        // What never happens costs nothing.
        if p == 0.0 {
            0.0
        } else {
            p * (log_p - other.log(have))
        }
    });
    // Rounding may take a sum of next to nothing below it.
    let kl = terms.sum::<f64>().max(0.0);
    match kl.is_finite() {
        true => Ok((kl, reference.likeliest == other.likeliest)),
        false => Err(Error::NoNumbers),
    }
}

/// What turns logits into probabilities.
struct Distribution {
    log_sum: f64,
    likeliest: usize,
}

impl Distribution {
    /// `None` if the logits are no numbers.
    fn of(logits: &[f32]) -> Option<Self> {
        let mut likeliest = 0;
        for (token, &logit) in logits.iter().enumerate() {
            if logit.is_nan() {
                return None;
            }
            if logit > logits[likeliest] {
                likeliest = token;
            }
        }
        let max = f64::from(*logits.get(likeliest)?);
        if !max.is_finite() {
            return None;
        }
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
        Some(Self {
            log_sum: max + sum.ln(),
            likeliest,
        })
    }

    fn log(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&[f32], &[f32])]) -> Result<Divergence, Error> {
        let mut sums = Sums::default();
        for (want, have) in pairs {
            sums.add(want, have)?;
        }
        Ok(sums.divergence())
    }

    #[test]
    fn a_known_divergence() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2), in nats: 1/2 ln 2 + 0 - 1/4 ln 2.
        let (p, q) = ([2f32.ln() + 3.0, 3.0, 3.0], [-1.0, -1.0, 2f32.ln() - 1.0]);
        let found = of(&[(&p, &q), (&p, &p)]).expect("are numbers");
        let kl = 0.25 * 2f64.ln();
        assert!((found.kl_max - kl).abs() < 1e-6, "{found:?}");
        assert!((found.kl_mean - kl / 2.0).abs() < 1e-6, "{found:?}");
        assert_eq!((found.agreement, found.tokens), (0.5, 2));
    }

    #[test]
    fn it_is_that_of_the_reference_and_not_the_other_way_round() {
        let (sure, unsure) = ([9.0, 0.0, 0.0], [1.0, 0.0, 0.0]);
        let there = of(&[(&sure, &unsure)]).expect("are numbers").kl_mean;
        let back = of(&[(&unsure, &sure)]).expect("are numbers").kl_mean;
        assert!(back > there * 2.0, "{there} {back}");
    }

    #[test]
    fn a_text_without_words_has_all_sorts_of_tokens_and_always_the_same() {
        let text = Text::without_words(101);
        assert_eq!(text, Text::without_words(101));
        let used: std::collections::BTreeSet<_> = text.tokens.iter().map(|token| token.0).collect();
        assert!(used.len() > 90 && used.last() < Some(&101), "{used:?}");
        assert_eq!(text.len(), WORDLESS);
    }

    #[test]
    fn adding_a_constant_to_logits_changes_nothing() {
        let (a, b) = ([1.0, -2.0, 0.5], [101.0, 98.0, 100.5]);
        assert!(of(&[(&a, &b)]).expect("are numbers").kl_mean < 1e-9);
    }

    #[test]
    fn nonsense_is_an_error() {
        let good: &[f32] = &[1.0, 2.0];
        for bad in [
            &[f32::NAN, 1.0],
            &[1.0, f32::NAN],
            &[f32::INFINITY, 0.0],
            &[f32::NEG_INFINITY; 2],
            // Possible there, impossible here.
            &[0.0, f32::NEG_INFINITY],
        ] {
            let found = of(&[(good, bad)]);
            assert!(matches!(found, Err(Error::NoNumbers)), "{bad:?}: {found:?}");
        }
        let masked = [1.0, f32::NEG_INFINITY];
        assert_eq!(of(&[(&masked, &masked)]).expect("are numbers").kl_mean, 0.0);
    }
}
