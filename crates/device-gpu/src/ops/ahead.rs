//! Steps that follow each other without the host: logits stay on the GPU until somebody asks, and the likeliest token of
//! each row is the next step's.

use std::collections::VecDeque;

use troika_base::TokenId;
use troika_device::{Ahead, Arrival, Error, Logits};

use super::{Activations, GpuOps, Stop, Stream};
use crate::recorder::Fetched;
use crate::select::argmax;
use crate::{Buffer, Matrix, Tensor};

/// What is left on the GPU, and how the step that is noted down now takes part in it.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Whether the step leaves its logits; then, whether it follows the one before it.
    step: Option<Follows>,
    /// The earliest first.
    left: VecDeque<Left>,
    /// Buffers for tokens. They are no scratch: a step that kept one of those for the next would have all others change
    /// places, and a recorder knows kernels by their buffers.
    spare: Vec<Buffer>,
}

#[derive(Clone, Copy, Debug)]
struct Follows(bool);

/// Logits that nobody has asked for.
#[derive(Debug)]
struct Left {
    n_vocab: usize,
    n_row: usize,
    /// The likeliest tokens, `[n_row]` u32.
    tokens: Buffer,
    /// Logits, then tokens.
    fetched: Fetched,
}

impl Leaving {
    /// Whether the step that is noted down leaves its logits.
    pub(super) fn leaves(&self) -> bool {
        self.step.is_some()
    }

    /// The tokens of the step that is noted down, where they are on the GPU.
    pub(super) fn tokens(&self) -> Option<&Buffer> {
        let Follows(follows) = self.step?;
        let before = follows.then(|| self.left.back())?;
        Some(
            &before
                .expect("a step that was followed has left its tokens")
                .tokens,
        )
    }

    /// The step is noted down. Says whether it has left its logits.
    pub(super) fn end(&mut self) -> bool {
        self.step.take().is_some()
    }
}

impl GpuOps {
    /// Leaves the logits of these rows and what is likeliest by them.
    pub(super) fn leave_logits(&mut self, x: &Activations, output: &Matrix) -> Result<(), Error> {
        let mut scores: Vec<Tensor> = Vec::new();
        let n_row = self.score(x, output, |_, part| {
            scores.push(part);
            Ok(())
        })?;
        let left = self.note(|stream| {
            let tokens = stream.token_buffer(n_row * size_of::<u32>())?;
            let mut first = 0;
            for part in &scores {
                let top = argmax(&mut stream.recorder, &stream.scratch, part)?;
                let n_byte = part.n_tok() * size_of::<u32>();
                stream.recorder.copy(top.ids(), 0, &tokens, first, n_byte);
                first += n_byte;
            }
            let mut parts: Vec<_> = scores
                .iter()
                .map(|part| (&**part.buffer(), 0..part.bytes()))
                .collect();
            parts.push((&tokens, 0..first));
            let fetched = stream.recorder.fetch(&parts);
            Ok::<_, Stop>(Left {
                n_vocab: output.n_out(),
                n_row,
                tokens,
                fetched,
            })
        });
        self.stream.leaving.left.extend(left);
        self.check()
    }
}

impl Stream {
    fn token_buffer(&mut self, n_byte: usize) -> Result<Buffer, Error> {
        let spare = &mut self.leaving.spare;
        let found = spare
            .iter()
            .position(|buffer| buffer.bytes().0 >= n_byte as u64);
        match found {
            Some(found) => Ok(spare.remove(found)),
            None => self.recorder.gpu().buffer(n_byte, "tokens"),
        }
    }
}

impl Ahead for GpuOps {
    fn leave(&mut self, follows: bool) {
        self.stream.leaving.step = Some(Follows(follows));
    }

    fn arrive(&mut self) -> Result<Arrival, Error> {
        let left = self.stream.leaving.left.pop_front();
        let left = left.expect("a step has left its logits");
        let bytes = self.stream.recorder.fetched(left.fetched)?;
        let (scores, tokens) = bytes.split_at(left.n_row * left.n_vocab * size_of::<f32>());
        let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(tokens);
        self.stream.leaving.spare.push(left.tokens);
        Ok(Arrival {
            logits: Logits {
                n_vocab: left.n_vocab,
                values: bytemuck::pod_collect_to_vec(scores),
            },
            likeliest: tokens.into_iter().map(TokenId).collect(),
        })
    }

    fn forget(&mut self) {
        let Leaving { left, spare, .. } = &mut self.stream.leaving;
        spare.extend(left.drain(..).map(|left| left.tokens));
    }
}
