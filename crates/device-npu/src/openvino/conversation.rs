//! A compiled stateful decoder, and conversations with it.

use std::sync::Arc;
use std::time::Duration;

use troika_base::TokenId;
use troika_device::Interrupt;

use super::ffi::{CompiledModel, InferRequest};
use super::reading::Manner;
use super::resident::{Conversation, Graph};
use crate::Error;

/// How often an interrupt is looked for. Short beside a step, long beside the look.
const LOOK: Duration = Duration::from_millis(2);

/// The decoder that [`lower`](crate::lower) writes: `input_ids`, `attention_mask`, `position_ids` and `beam_idx` to
/// `logits`, with keys and values inside.
pub(super) struct Decoder {
    compiled: Arc<CompiledModel>,
    manner: Manner,
    n_vocab: usize,
}

impl Decoder {
    pub(super) fn new(compiled: CompiledModel, manner: Manner, n_vocab: usize) -> Self {
        Self {
            compiled: Arc::new(compiled),
            manner,
            n_vocab,
        }
    }
}

impl Graph for Decoder {
    type Conversation = Reader;

    fn manner(&self) -> Manner {
        self.manner
    }

    fn begin(&self) -> Result<Reader, Error> {
        let mut request = self.compiled.request()?;
        // There is one text, and it goes on from itself.
        request.set("beam_idx", &[1], vec![0i32])?;
        Ok(Reader {
            request,
            n_vocab: self.n_vocab,
        })
    }
}

/// A conversation with a [`Decoder`].
pub(super) struct Reader {
    request: InferRequest,
    n_vocab: usize,
}

impl Conversation for Reader {
    fn read(
        &mut self,
        tokens: &[TokenId],
        position: usize,
        logits: Option<&mut Vec<f32>>,
        interrupt: &Interrupt,
    ) -> Result<bool, Error> {
        let (n_tok, end) = (tokens.len(), position + tokens.len());
        let ids = tokens.iter().map(|token| i64::from(token.0)).collect();
        let positions = (position..end).map(|at| at as i64).collect();
        self.request.set("input_ids", &[1, n_tok], ids)?;
        self.request
            .set("attention_mask", &[1, end], vec![1i64; end])?;
        self.request.set("position_ids", &[1, n_tok], positions)?;
        let goes_on = || interrupt.check().is_ok();
        if !self.request.run_while(LOOK, goes_on)? {
            return Ok(false);
        }
        if let Some(logits) = logits {
            self.take_last(logits)?;
        }
        Ok(true)
    }
}

impl Reader {
    /// The last row: graphs give it alone or behind those of other tokens.
    fn take_last(&self, logits: &mut Vec<f32>) -> Result<(), Error> {
        let output = self.request.output("logits")?;
        let values: &[f32] = output.values()?;
        let last = values.len().checked_sub(self.n_vocab);
        match (output.shape(), last) {
            ([1, _, n_vocab], Some(last)) if *n_vocab == self.n_vocab => {
                logits.extend_from_slice(&values[last..]);
                Ok(())
            }
            (shape, _) => Err(Error::Invalid {
                what: "logits".to_owned(),
                reason: format!(
                    "of shape {shape:?}, and the vocabulary has {}",
                    self.n_vocab
                ),
            }),
        }
    }
}
