//! A model's shape from its metadata. Every number is checked before anything is sized by it.

use troika_base::{ExpertShape, ModelSpec};
use troika_gguf::{Metadata, ModelFile};

use crate::Error;

/// Metadata keys of one architecture: `llama.block_count` and its kin.
#[derive(Debug)]
pub struct Keys<'f> {
    file: &'f ModelFile,
    architecture: &'f str,
}

impl<'f> Keys<'f> {
    /// The keys of this file's architecture.
    ///
    /// # Errors
    /// If the file does not name it.
    pub fn new(file: &'f ModelFile) -> Result<Self, Error> {
        Ok(Self {
            file,
            architecture: file.metadata().str("general.architecture")?,
        })
    }

    /// The architecture as GGUF names it.
    pub fn architecture(&self) -> &'f str {
        self.architecture
    }

    fn metadata(&self) -> &'f Metadata {
        self.file.metadata()
    }

    /// A key of the architecture in full.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A positive count.
    fn count(&self, name: &str) -> Result<usize, Error> {
        let key = self.key(name);
        let value = self.metadata().u32(&key)?;
        self.positive(&key, value)
    }

    /// A positive count, if the file has it.
    ///
    /// # Errors
    /// If it is something else.
    pub fn opt_count(&self, name: &str) -> Result<Option<usize>, Error> {
        let key = self.key(name);
        let value = self.metadata().opt_u32(&key)?;
        value.map(|value| self.positive(&key, value)).transpose()
    }

    fn positive(&self, key: &str, value: u32) -> Result<usize, Error> {
        self.expect(value > 0, key, value, "expected a positive number")?;
        Ok(value as usize)
    }

    /// A positive, finite number, if the file has it.
    ///
    /// # Errors
    /// If it is something else.
    pub fn opt_float(&self, name: &str) -> Result<Option<f64>, Error> {
        let key = self.key(name);
        let Some(value) = self.metadata().opt_f32(&key)? else {
            return Ok(None);
        };
        let good = value.is_finite() && value > 0.0;
        self.expect(good, &key, value, "expected a positive number")?;
        Ok(Some(f64::from(value)))
    }

    /// A text, if the file has it.
    ///
    /// # Errors
    /// If it is something else.
    pub fn opt_str(&self, name: &str) -> Result<Option<&'f str>, Error> {
        Ok(self.metadata().opt_str(&self.key(name))?)
    }

    /// Refuses what does not hold.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] with these facts.
    pub fn expect(
        &self,
        holds: bool,
        key: &str,
        value: impl ToString,
        expected: &str,
    ) -> Result<(), Error> {
        if holds {
            return Ok(());
        }
        Err(Error::Hyperparameter {
            model: self.file.name().to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            expected: expected.to_owned(),
        })
    }

    /// The model's shape.
    ///
    /// # Errors
    /// If a hyperparameter is missing or makes no sense, or the file has some that would change what is computed.
    pub fn spec(&self) -> Result<ModelSpec, Error> {
        self.refuse_what_would_be_ignored()?;
        let n_embd = self.count("embedding_length")?;
        let (n_head, n_head_kv) = self.heads()?;
        Ok(ModelSpec {
            architecture: self.architecture.to_owned(),
            name: self.metadata().opt_str("general.name")?.map(str::to_owned),
            n_layer: self.n_layer()?,
            n_embd,
            n_head,
            n_head_kv,
            head_dim: self.head_dim(n_embd, n_head)?,
            n_ff: self.count("feed_forward_length")?,
            n_vocab: self.n_vocab()?,
            n_ctx: self.count("context_length")?,
            norm_eps: self.norm_eps()?,
            experts: self.experts()?,
            window: self.window()?,
            is_causal: self.is_causal()?,
        })
    }

    /// Layers: each has tensors of its own.
    fn n_layer(&self) -> Result<usize, Error> {
        let n_layer = self.count("block_count")?;
        let fits = n_layer <= self.file.tensors().len();
        let expected = "expected no more layers than the file has tensors";
        self.expect(fits, &self.key("block_count"), n_layer, expected)?;
        Ok(n_layer)
    }

    /// Heads of queries, and of keys and values.
    fn heads(&self) -> Result<(usize, usize), Error> {
        let n_head = self.count("attention.head_count")?;
        let key = self.key("attention.head_count");
        let expected = "expected 65536 at most";
        self.expect(n_head <= MAX_HEADS, &key, n_head, expected)?;
        let n_head_kv = self.opt_count("attention.head_count_kv")?.unwrap_or(n_head);
        let even = n_head.is_multiple_of(n_head_kv);
        let key = self.key("attention.head_count_kv");
        let expected = "expected a divisor of the number of heads";
        self.expect(even, &key, n_head_kv, expected)?;
        Ok((n_head, n_head_kv))
    }

    /// Values per head, of keys as of values.
    fn head_dim(&self, n_embd: usize, n_head: usize) -> Result<usize, Error> {
        let head_dim = match self.opt_count("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => {
                let key = self.key("attention.head_count");
                let whole = n_embd.is_multiple_of(n_head);
                let expected = "expected a divisor of the embedding length";
                self.expect(whole, &key, n_head, expected)?;
                n_embd / n_head
            }
        };
        let key = self.key("attention.key_length");
        let fits = head_dim.is_multiple_of(2) && head_dim <= MAX_HEAD_DIM;
        let expected = "expected an even number, 1024 at most";
        self.expect(fits, &key, head_dim, expected)?;
        if let Some(value_length) = self.opt_count("attention.value_length")? {
            let key = self.key("attention.value_length");
            let equal = value_length == head_dim;
            self.expect(equal, &key, value_length, "expected the length of the keys")?;
        }
        Ok(head_dim)
    }

    /// Tokens that layers with a window see, if the model has such layers.
    ///
    /// # Errors
    /// If it is no number.
    pub fn window(&self) -> Result<Option<usize>, Error> {
        let window = self
            .metadata()
            .opt_u32(&self.key("attention.sliding_window"))?;
        // 0 says that there is none.
        Ok(window
            .filter(|&window| window > 0)
            .map(|window| window as usize))
    }

    /// Whether tokens see only what is before them.
    fn is_causal(&self) -> Result<bool, Error> {
        let key = self.key("attention.causal");
        Ok(self.metadata().opt_bool(&key)?.unwrap_or(true))
    }

    /// The experts, if the model has some.
    fn experts(&self) -> Result<Option<ExpertShape>, Error> {
        let key = self.key("expert_count");
        let n = self.metadata().opt_u32(&key)?.unwrap_or(0) as usize;
        if n == 0 {
            return Ok(None);
        }
        self.expect(n <= MAX_EXPERTS, &key, n, "expected 65536 at most")?;
        let n_used = self.count("expert_used_count")?;
        let key = self.key("expert_used_count");
        let expected = "expected no more experts than the model has";
        self.expect(n_used <= n, &key, n_used, expected)?;
        let n_ff = match self.opt_count("expert_feed_forward_length")? {
            Some(n_ff) => n_ff,
            None => self.count("feed_forward_length")?,
        };
        Ok(Some(ExpertShape { n, n_used, n_ff }))
    }

    /// Rows of the embedding table.
    fn n_vocab(&self) -> Result<usize, Error> {
        let table = self.file.tensor("token_embd.weight");
        let table = table.ok_or_else(|| Error::MissingTensor {
            model: self.file.name().to_owned(),
            tensor: "token_embd.weight".to_owned(),
            architecture: self.architecture.to_owned(),
        })?;
        let rows = table.n_rows();
        let fits = rows > 0 && rows <= u64::from(u32::MAX);
        self.expect(
            fits,
            "token_embd.weight",
            rows,
            "expected a row for every token id",
        )?;
        Ok(rows as usize)
    }

    fn norm_eps(&self) -> Result<f32, Error> {
        // Encoders have layer norms, and the key of the other kind.
        let key = self.key("attention.layer_norm_epsilon");
        let (key, value) = match self.metadata().opt_f32(&key)? {
            Some(value) => (key, value),
            None => {
                let key = self.key("attention.layer_norm_rms_epsilon");
                let value = self.metadata().f32(&key)?;
                (key, value)
            }
        };
        self.expect(
            (0.0..1.0).contains(&value),
            &key,
            value,
            "expected a number from 0 to 1",
        )?;
        Ok(value)
    }

    /// Some keys change what is computed. A model that uses them would run, and write nonsense.
    fn refuse_what_would_be_ignored(&self) -> Result<(), Error> {
        let key = "split.count";
        let parts = self.metadata().opt_u32(key)?.unwrap_or(1);
        let expected = "the file is one part of several; merge them into one file first";
        self.expect(parts <= 1, key, parts, expected)
    }
}

/// More heads than any model's; the size of a page of keys and values cannot overflow.
const MAX_HEADS: usize = 1 << 16;

/// More experts than any model's.
const MAX_EXPERTS: usize = 1 << 16;

/// Larger heads than any model's; bounds what a task of attention keeps on its thread.
const MAX_HEAD_DIM: usize = 1024;
