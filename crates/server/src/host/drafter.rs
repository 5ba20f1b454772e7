//! A smaller model that guesses for the sequences of another one, on the same device and with a cache of its own.
//!
//! Nothing but time depends on it. What it holds of a sequence is a beginning of its text, perhaps with guesses behind that
//! were wrong: each time it goes on from where the two part. Where its pages are short, it guesses nothing.

use std::sync::Arc;

use troika_base::{Bytes, TokenId};
use troika_device::{Interrupt, Output, PAGE_TOKENS};
use troika_engine::{Error, Model, PrefixCache, Sequence, Step, likeliest};
use troika_scheduler::SeqId;

use super::request::Request;

/// A smaller model on a device.
pub(super) struct Drafter {
    model: Model,
    prefixes: PrefixCache,
    /// Tokens that the other model knows.
    n_vocab: usize,
}

/// What is asked of the smaller model for one sequence.
pub(super) struct Ask {
    pub(super) seq: SeqId,
    /// Whose it is: prompts are cached for each namespace alone.
    pub(super) request: Arc<Request>,
    /// All that is known of it.
    pub(super) text: Vec<TokenId>,
    /// Tokens to guess at most; 0 to read only.
    pub(super) most: usize,
    /// What the smaller model holds of it.
    pub(super) held: Sequence,
    /// What may follow.
    pub(super) guess: Vec<TokenId>,
}

impl Drafter {
    /// For a model that knows `n_vocab` tokens, of which this one knows the same.
    pub(super) fn new(model: Model, n_vocab: usize) -> Self {
        Self {
            model,
            prefixes: PrefixCache::default(),
            n_vocab,
        }
    }

    /// Memory that weights and cache take.
    pub(super) fn bytes(&self) -> Bytes {
        self.model.weights_bytes() + self.model.kv_bytes()
    }

    /// What breaks off a step of it.
    pub(super) fn interrupt(&self) -> Option<Interrupt> {
        self.model.interrupt()
    }

    /// Reads what it lacks of these texts, `n_tok` tokens in all at most, and guesses what follows those that it has read to
    /// their ends.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn draft(&mut self, asks: &mut [Ask], n_tok: usize) -> Result<(), Error> {
        for ask in asks.iter_mut() {
            self.find(ask);
        }
        let drafted = self.read(asks, n_tok).and_then(|()| {
            while self.guess_one(asks)? {}
            Ok(())
        });
        match drafted {
            // What was guessed so far is as good as before.
            Err(Error::CacheFull { .. }) => Ok(()),
            drafted => drafted,
        }
    }

    /// Goes back to where a sequence and its text part; of a new one, to what the cache has of it.
    fn find(&mut self, ask: &mut Ask) {
        let common = ask.held.tokens().iter().zip(&ask.text);
        let common = common.take_while(|(held, known)| held == known).count();
        // What follows the last token is asked for.
        ask.held
            .truncate(common.min(ask.text.len().saturating_sub(1)));
        if ask.held.tokens().is_empty() {
            ask.held = self.prefixes.lookup(&ask.request.namespace, &ask.text);
        }
    }

    /// Reads on, and makes the first guess of each text that is read to its end.
    fn read(&mut self, asks: &mut [Ask], mut n_tok: usize) -> Result<(), Error> {
        let mut reads = vec![0; asks.len()];
        for at in 0..asks.len() {
            let (text, held) = (asks[at].text.len(), asks[at].held.tokens().len());
            // Its context may be shorter and so may its table of tokens, and drafts are not worth an error.
            let spec = self.model.spec();
            let is_known = |token: &TokenId| token.index() < spec.n_vocab;
            if text + asks[at].most > spec.n_ctx || !asks[at].text[held..].iter().all(is_known) {
                continue;
            }
            reads[at] = n_tok.min(text - held);
            let wanted = asks[..=at].iter().zip(&reads);
            let wanted = wanted.filter(|(_, n_tok)| **n_tok > 0);
            let wanted = wanted.map(|(ask, n_tok)| (&ask.held, n_tok + ask.most));
            let wanted: Vec<_> = wanted.collect();
            if !self.prefixes.make_room(&self.model, &wanted) {
                // Its pages are for those before it.
                reads[at] = 0;
                asks[at].held = Sequence::default();
            }
            n_tok -= reads[at];
        }
        let mut steps = Vec::new();
        for (ask, &n_tok) in asks.iter_mut().zip(&reads).filter(|(_, n_tok)| **n_tok > 0) {
            let pending = &ask.text[ask.held.tokens().len()..];
            let output = match n_tok == pending.len() && ask.most > 0 {
                true => Output::LastLogits,
                false => Output::Nothing,
            };
            steps.push(Step {
                tokens: &pending[..n_tok],
                sequence: &mut ask.held,
                output,
            });
        }
        if steps.is_empty() {
            return Ok(());
        }
        let outputs = self.model.step(&mut steps)?;
        let mut rows = outputs.logits.rows();
        for (ask, n_tok) in asks.iter_mut().zip(reads).filter(|(_, n_tok)| *n_tok > 0) {
            let held = ask.held.tokens().len();
            if held == ask.text.len() && ask.most > 0 {
                let next = rows.next().map(|logits| likeliest(logits, self.n_vocab));
                ask.guess.extend(next);
            }
            if held / PAGE_TOKENS > (held - n_tok) / PAGE_TOKENS {
                self.prefixes.insert(&ask.request.namespace, &ask.held);
            }
        }
        Ok(())
    }

    /// One more guess for each sequence that has one and wants more. `false` if none does.
    fn guess_one(&mut self, asks: &mut [Ask]) -> Result<bool, Error> {
        let tokenizer = self.model.tokenizer();
        let mut going: Vec<_> = asks.iter_mut().collect();
        going.retain(|ask| {
            let last = ask.guess.last();
            let goes_on = last.is_some_and(|&last| !tokenizer.is_end_of_generation(last));
            goes_on && ask.guess.len() < ask.most
        });
        let steps = going.iter_mut().map(|ask| Step {
            tokens: &ask.guess[ask.guess.len() - 1..],
            sequence: &mut ask.held,
            output: Output::LastLogits,
        });
        let mut steps: Vec<_> = steps.collect();
        if steps.is_empty() {
            return Ok(false);
        }
        let outputs = self.model.step(&mut steps)?;
        for (ask, logits) in going.into_iter().zip(outputs.logits.rows()) {
            ask.guess.push(likeliest(logits, self.n_vocab));
        }
        Ok(true)
    }
}
