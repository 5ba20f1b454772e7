//! Texts to vectors: a model's hidden states, pooled and scaled to length 1.
//!
//! A [`Pooler`] takes hidden states step by step, so that a text that is embedded can stand in a batch beside texts
//! that are written. [`Model::embed`] is the loop for who has nothing else to do.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use troika_base::{ModelSpec, TokenId};
use troika_device::{Output, PAGE_TOKENS};
use troika_gguf::ModelFile;

use crate::kv_cache::pages_wanted;
use crate::{Error, Model, Sequence, Step};

/// Tokens of all texts that are read in one step, as sessions do.
const STEP_TOKENS: usize = 512;

/// How the hidden states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all tokens.
    Mean,
    /// The first token, which in BERT's family stands for the text (CLS).
    First,
    /// The last token.
    Last,
}

impl Pooling {
    /// What a file asks for in `{architecture}.pooling_type`. A model that was not made for embeddings says nothing, or
    /// 0 for none, and its last token is taken: where tokens only see what is before them, it alone has seen the whole
    /// text. llama.cpp wants to be told in that case (`--pooling last` does the same), and Ollama takes the last, too.
    /// Of an encoder, whose tokens see each other, the mean is taken then, as sentence-transformers does.
    ///
    /// # Errors
    /// If the file asks for something else.
    pub(crate) fn of(file: &ModelFile, spec: &ModelSpec) -> Result<Self, Error> {
        let key = format!("{}.pooling_type", spec.architecture);
        match file.metadata().opt_u32(&key)? {
            None | Some(0) if !spec.is_causal => Ok(Self::Mean),
            None | Some(0 | 3) => Ok(Self::Last),
            Some(1) => Ok(Self::Mean),
            Some(2) => Ok(Self::First),
            Some(other) => Err(Error::Device(troika_device::Error::Hyperparameter {
                model: file.name().to_owned(),
                key,
                value: other.to_string(),
                expected: "expected 0 (none), 1 (mean), 2 (first token) or 3 (last token)"
                    .to_owned(),
            })),
        }
    }
}

/// Gathers the hidden states of one text.
#[derive(Clone, Debug)]
pub struct Pooler {
    pooling: Pooling,
    /// What was added up so far; empty before the first row.
    sum: Vec<f64>,
    n_row: usize,
}

impl Pooler {
    /// Nothing gathered yet.
    pub fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            sum: Vec::new(),
            n_row: 0,
        }
    }

    /// What to ask of a step that reads the text's next tokens; `is_end` if they are its last.
    pub fn output(&self, is_end: bool) -> Output {
        match self.pooling {
            Pooling::Mean => Output::AllHidden,
            Pooling::First if self.n_row == 0 => Output::AllHidden,
            Pooling::Last if is_end => Output::LastHidden,
            Pooling::First | Pooling::Last => Output::Nothing,
        }
    }

    /// Takes the rows that such a step has returned for the text. Of a batch's rows, that is as many as
    /// [`Output::hidden`] says.
    pub fn add<'r>(&mut self, rows: impl IntoIterator<Item = &'r [f32]>) {
        for row in rows {
            if self.n_row == 0 {
                self.sum = vec![0.0; row.len()];
            }
            match self.pooling {
                // Goes on to the last row, so that what follows in the caller's iterator is the next text's.
                Pooling::First if self.n_row > 0 => continue,
                Pooling::Last => self.sum.fill(0.0),
                Pooling::First | Pooling::Mean => {}
            }
            self.n_row += 1;
            // In f64, so that a long text's mean does not depend on how many tokens came before.
            for (sum, x) in self.sum.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
    }

    /// The text's embedding: `[n_embd]`, of length 1.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] if nothing was added, [`Error::BadEmbedding`] if it has no direction.
    pub fn finish(self) -> Result<Vec<f32>, Error> {
        if self.n_row == 0 {
            return Err(Error::EmptyPrompt);
        }
        // Any multiple of the sum has the mean's direction.
        scaled(&self.sum).ok_or(Error::BadEmbedding)
    }
}

/// The first `dimensions` values of an embedding, scaled to length 1 again; all of them if it has no more. Models that
/// were trained for it (Matryoshka, Kusupati et al. 2022, arXiv:2205.13147) lose little by this.
pub fn shorten(mut embedding: Vec<f32>, dimensions: usize) -> Vec<f32> {
    if dimensions >= embedding.len() {
        return embedding;
    }
    embedding.truncate(dimensions);
    let values: Vec<f64> = embedding.iter().copied().map(f64::from).collect();
    // All zeros have no length to scale; they stay what they are.
    scaled(&values).unwrap_or(embedding)
}

/// A vector of the same direction and length 1, if it has a direction.
fn scaled(values: &[f64]) -> Option<Vec<f32>> {
    let length = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let has_direction = length.is_finite() && length > 0.0;
    has_direction.then(|| values.iter().map(|x| (x / length) as f32).collect())
}

/// A text on its way through [`Model::embed`].
struct Job<'t> {
    rest: &'t [TokenId],
    sequence: Sequence,
    pooler: Pooler,
}

impl Model {
    /// Embeds texts, short ones side by side: a vector of length 1 for each. The KV cache holds nothing of them
    /// afterwards. `progress` is told how many texts are done, and may break it off; those that are done by then are
    /// returned.
    ///
    /// # Errors
    /// If a text has no tokens or more than the context holds (nothing was read then), a token is not in the
    /// vocabulary, other sequences leave no room, or an embedding is not made of numbers.
    pub fn embed(
        &mut self,
        texts: &[&[TokenId]],
        pooling: Pooling,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        for text in texts {
            if text.is_empty() {
                return Err(Error::EmptyPrompt);
            }
            if text.len() > self.n_ctx() {
                return Err(Error::PromptTooLong {
                    prompt: text.len(),
                    context: self.n_ctx(),
                });
            }
        }
        let mut jobs: VecDeque<Job<'_>> = texts
            .iter()
            .map(|text| Job {
                rest: text,
                sequence: Sequence::default(),
                pooler: Pooler::new(pooling),
            })
            .collect();
        let mut embeddings = Vec::with_capacity(texts.len());
        while !jobs.is_empty() {
            self.embed_step(jobs.make_contiguous())?;
            while jobs.front().is_some_and(|job| job.rest.is_empty()) {
                let job = jobs.pop_front().expect("there is one. This is a bug.");
                embeddings.push(job.pooler.finish()?);
            }
            if progress(embeddings.len()).is_break() {
                break;
            }
        }
        Ok(embeddings)
    }

    /// Reads the next tokens of the first jobs, as many as a step and the free pages hold; at least one, and of an encoder
    /// whole texts.
    fn embed_step(&mut self, jobs: &mut [Job<'_>]) -> Result<(), Error> {
        let is_causal = self.spec().is_causal;
        let mut room = STEP_TOKENS;
        let mut pages = self.n_page_free();
        let mut steps = Vec::new();
        let mut poolers = Vec::new();
        for job in jobs {
            // Only the first may hold pages already. It goes on even if none is free: the step says so then.
            let fits = match steps.is_empty() {
                true => room,
                false => room.min(pages * PAGE_TOKENS),
            };
            let n_tok = match is_causal || job.rest.len() <= fits {
                true => job.rest.len().min(fits),
                // An encoder's text is not cut: it waits for the next step, or has one for itself.
                false if steps.is_empty() => job.rest.len(),
                false => 0,
            };
            let (tokens, rest) = job.rest.split_at(n_tok);
            if tokens.is_empty() {
                break;
            }
            job.rest = rest;
            room = room.saturating_sub(tokens.len());
            pages = pages.saturating_sub(pages_wanted([(&job.sequence, tokens.len())]));
            let output = job.pooler.output(rest.is_empty());
            steps.push(Step {
                sequence: &mut job.sequence,
                tokens,
                output,
            });
            poolers.push((&mut job.pooler, output.hidden(tokens.len()).len()));
        }
        let outputs = self.step(&mut steps)?;
        let mut rows = outputs.hidden.rows();
        for (pooler, n_row) in poolers {
            pooler.add(rows.by_ref().take(n_row));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in chunks, as steps return them.
    fn pool(pooling: Pooling, chunks: &[&[[f32; 2]]]) -> Result<Vec<f32>, Error> {
        let mut pooler = Pooler::new(pooling);
        for (i, chunk) in chunks.iter().enumerate() {
            let output = pooler.output(i + 1 == chunks.len());
            let rows = &chunk[output.hidden(chunk.len())];
            pooler.add(rows.iter().map(|row| &row[..]));
        }
        pooler.finish()
    }

    #[test]
    fn rows_are_pooled_over_chunks() {
        let rows = [[3.0, 0.0], [0.0, 7.0], [3.0, -1.0], [0.0, 2.0]];
        let whole: &[&[[f32; 2]]] = &[&rows];
        let pieces: &[&[[f32; 2]]] = &[&rows[..1], &rows[1..3], &rows[3..]];
        for chunks in [whole, pieces] {
            assert_eq!(pool(Pooling::Mean, chunks).unwrap(), [0.6, 0.8]);
            assert_eq!(pool(Pooling::First, chunks).unwrap(), [1.0, 0.0]);
            assert_eq!(pool(Pooling::Last, chunks).unwrap(), [0.0, 1.0]);
        }
    }

    #[test]
    fn every_row_is_taken() {
        // Whoever splits a batch's rows takes each text's share from one iterator.
        let mut rows = [[1.0f32], [2.0], [3.0]].iter().map(|row| &row[..]);
        Pooler::new(Pooling::First).add(rows.by_ref().take(2));
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn only_what_is_pooled_is_asked_for() {
        let mut pooler = Pooler::new(Pooling::Last);
        assert_eq!(pooler.output(false), Output::Nothing);
        assert_eq!(pooler.output(true), Output::LastHidden);
        pooler = Pooler::new(Pooling::First);
        assert_eq!(pooler.output(false), Output::AllHidden);
        pooler.add([&[1.0f32][..]]);
        assert_eq!(pooler.output(true), Output::Nothing);
    }

    #[test]
    fn what_has_no_direction_is_no_embedding() {
        assert!(matches!(
            Pooler::new(Pooling::Mean).finish(),
            Err(Error::EmptyPrompt)
        ));
        for bad in [[0.0, 0.0], [f32::NAN, 1.0], [1.0, f32::INFINITY]] {
            let pooled = pool(Pooling::Last, &[&[bad]]);
            assert!(matches!(pooled, Err(Error::BadEmbedding)), "{pooled:?}");
        }
        // The largest floats are numbers, and so is their mean.
        let pooled = pool(Pooling::Mean, &[&[[f32::MAX, 0.0]; 3]]);
        assert_eq!(pooled.unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn shorter_embeddings_have_length_1_again() {
        let embedding = vec![0.36, 0.48, 0.8];
        let [a, b] = shorten(embedding.clone(), 2)[..] else {
            panic!("two values are left");
        };
        assert!((a - 0.6).abs() < 1e-6 && (b - 0.8).abs() < 1e-6, "{a} {b}");
        assert_eq!(shorten(embedding.clone(), 3), embedding);
        assert_eq!(shorten(embedding.clone(), 99), embedding);
        assert_eq!(shorten(embedding, 0), [0.0; 0]);
        assert_eq!(shorten(vec![0.0, 1.0], 1), [0.0]);
    }
}
