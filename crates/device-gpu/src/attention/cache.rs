//! Keys and values on the GPU.
//!
//! A layer has a buffer of keys and one of values, so that a cache is as large as memory is, whatever the largest
//! buffer; in each, a page is a cell for each head. How a cell is laid out is said where kernels read it,
//! wgsl/kv_f16.wgsl and wgsl/kv_q8_0.wgsl. Who owns which page is not known here.

use std::ops::Range;
use std::sync::Arc;

use troika_base::Bytes;
use troika_device::{Error, KvShape, PAGE_TOKENS, f16};

use super::key::{AttentionKey, MAX_HEAD_DIM, SIZE, UNIT};
use crate::kernels::{flat, groups};
use crate::{Bind, Buffer, Gpu, Key, Recorder};

/// What numbers a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KvFormat {
    /// Half precision.
    #[default]
    F16,
    /// Integers of 8 bits, each 32 of which share a scale in half precision: 53 % of the bytes of f16 where heads have
    /// multiples of 64 values.
    Q8_0,
}

impl KvFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F16, Self::Q8_0];

    /// Bytes of the keys, or the values, of one head of one page.
    pub fn cell_bytes(self, head_dim: usize) -> usize {
        let values = head_dim.next_multiple_of(UNIT) * PAGE_TOKENS;
        match self {
            Self::F16 => 2 * values,
            // Two scales share a word, so that one thread writes it.
            Self::Q8_0 => values + 4 * PAGE_TOKENS * head_dim.div_ceil(64),
        }
    }

    /// WGSL that reads such a cache.
    pub(super) fn read(self) -> &'static str {
        match self {
            Self::F16 => include_str!("../wgsl/kv_f16.wgsl"),
            Self::Q8_0 => include_str!("../wgsl/kv_q8_0.wgsl"),
        }
    }

    /// WGSL that writes such a cache.
    pub(super) fn written(self) -> &'static str {
        match self {
            Self::F16 => include_str!("../wgsl/kv_f16_store.wgsl"),
            Self::Q8_0 => include_str!("../wgsl/kv_q8_0_store.wgsl"),
        }
    }

    /// Values that a thread stores at once: `BLOCK` of [`Self::written`].
    fn block(self) -> usize {
        match self {
            Self::F16 => 8,
            Self::Q8_0 => 64,
        }
    }
}

/// Keys and values of all sequences.
#[derive(Debug)]
pub struct Cache {
    gpu: Arc<Gpu>,
    shape: KvShape,
    n_page: usize,
    format: KvFormat,
    layers: Vec<Layer>,
    /// Room for a page, while it is copied.
    spare: Buffer,
}

#[derive(Debug)]
struct Layer {
    keys: Buffer,
    values: Buffer,
}

impl Layer {
    fn planes(&self) -> [&Buffer; 2] {
        [&self.keys, &self.values]
    }
}

/// Bytes of keys and values that travel at a time, at most, if a token has no more.
const IMAGE_BYTES: usize = 16 << 20;

impl Cache {
    /// Whether it holds keys and values of this shape: heads of 4 to 256 values, a multiple of four.
    pub fn holds(shape: KvShape) -> bool {
        shape.head_dim.is_multiple_of(4) && (4..=MAX_HEAD_DIM).contains(&shape.head_dim)
    }

    /// A cache of `n_page` pages, with zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the GPU has no room, or a layer's keys are more than one kernel can see.
    ///
    /// # Panics
    /// If heads are not of 4 to 256 values, a multiple of four.
    pub fn new(
        gpu: &Arc<Gpu>,
        shape: KvShape,
        n_page: usize,
        format: KvFormat,
    ) -> Result<Self, Error> {
        assert!(
            Self::holds(shape),
            "heads of {} values are not computed",
            shape.head_dim
        );
        let bytes = n_page * Self::plane_bytes(shape, format);
        if bytes as u64 > gpu.caps().binding.0 {
            return Err(gpu.out_of_memory(Bytes(bytes as u64), "the KV cache of one layer"));
        }
        let layer = |_| {
            Ok(Layer {
                keys: gpu.buffer(bytes, "keys")?,
                values: gpu.buffer(bytes, "values")?,
            })
        };
        Ok(Self {
            gpu: Arc::clone(gpu),
            shape,
            n_page,
            format,
            spare: gpu.buffer(Self::page_bytes(shape, format), "a page that is copied")?,
            layers: (0..shape.n_layer)
                .map(layer)
                .collect::<Result<_, Error>>()?,
        })
    }

    /// Bytes of the keys, or the values, of one layer of a page.
    fn plane_bytes(shape: KvShape, format: KvFormat) -> usize {
        shape.n_head_kv * format.cell_bytes(shape.head_dim)
    }

    /// Bytes of a page: keys and values of all layers.
    pub fn page_bytes(shape: KvShape, format: KvFormat) -> usize {
        2 * shape.n_layer * Self::plane_bytes(shape, format)
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.n_page * Self::page_bytes(self.shape, self.format)
    }

    /// The shape of keys and values.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Its numbers.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// Copies page `from`, all layers, to page `to`.
    ///
    /// # Panics
    /// If a page is outside the cache.
    pub fn copy_page(&mut self, recorder: &mut Recorder, from: usize, to: usize) {
        assert!(from < self.n_page && to < self.n_page, "outside the cache");
        if from == to {
            return;
        }
        let bytes = Self::plane_bytes(self.shape, self.format);
        let planes = self.layers.iter().flat_map(Layer::planes).enumerate();
        // Copies within a buffer are refused. All out, then all in: between the two the GPU waits once.
        for (i, plane) in planes.clone() {
            recorder.copy(plane, from * bytes, &self.spare, i * bytes, bytes);
        }
        for (i, plane) in planes {
            recorder.copy(&self.spare, i * bytes, plane, to * bytes, bytes);
        }
    }

    /// Copies some tokens of a sequence that has these pages to `out`: see
    /// [`Resident::read_kv`](troika_device::Resident::read_kv), which has checked the arguments.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::Failed`] if the GPU failed.
    pub fn read(
        &self,
        recorder: &mut Recorder,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        let token = self.shape.token_values();
        let image = self.image(tokens.len())?;
        for (part, out) in self
            .pieces(&tokens)
            .zip(out.chunks_mut(self.piece() * token))
        {
            let slots = self.slots(pages, part.clone())?;
            let key = AttentionKey::Export {
                head_dim: self.shape.head_dim as u16,
                format: self.format,
            };
            for (i, layer) in self.layers.iter().enumerate() {
                let params = [part.len(), self.shape.n_head_kv, i, self.shape.n_layer];
                let threads = part.len() * 2 * self.shape.n_head_kv * self.units();
                recorder.dispatch(
                    Key::Attention(key),
                    &[&layer.keys, &layer.values, &slots, &image].map(Bind::whole),
                    &params.map(|n| n as u32),
                    flat(groups(threads, SIZE)),
                )?;
            }
            let bytes = recorder.read(&image, 0..size_of_val(out))?;
            bytemuck::cast_slice_mut(out).copy_from_slice(&bytes);
        }
        Ok(())
    }

    /// Takes some tokens of a sequence that has these pages from `from`: see
    /// [`Resident::write_kv`](troika_device::Resident::write_kv), which has checked the arguments.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn write(
        &mut self,
        recorder: &mut Recorder,
        pages: &[usize],
        tokens: Range<usize>,
        from: &[f16],
    ) -> Result<(), Error> {
        let token = self.shape.token_values();
        let image = self.image(tokens.len())?;
        for (part, from) in self.pieces(&tokens).zip(from.chunks(self.piece() * token)) {
            let slots = self.slots(pages, part.clone())?;
            recorder.write(&image, 0, bytemuck::cast_slice(from));
            let key = AttentionKey::Import {
                head_dim: self.shape.head_dim as u16,
                format: self.format,
            };
            for (i, layer) in self.layers.iter().enumerate() {
                let [n_tok, n_head_kv] = [part.len(), self.shape.n_head_kv];
                let params = [n_tok, n_head_kv, 0, 0, 0, 0, 0, 0, i, self.shape.n_layer];
                recorder.dispatch(
                    Key::Attention(key),
                    &[&layer.keys, &layer.values, &slots, &image].map(Bind::whole),
                    &params.map(|n| n as u32),
                    flat(groups(self.store_threads(n_tok), SIZE)),
                )?;
            }
        }
        recorder.submit();
        self.gpu.check()
    }

    /// The buffers of a layer: keys and values.
    pub(super) fn layer(&self, layer: usize) -> [&Buffer; 2] {
        self.layers[layer].planes()
    }

    /// Threads that store keys and values of so many tokens.
    pub(super) fn store_threads(&self, n_tok: usize) -> usize {
        2 * n_tok * self.shape.n_head_kv * self.shape.head_dim.div_ceil(self.format.block())
    }

    fn units(&self) -> usize {
        self.shape.head_dim.div_ceil(UNIT)
    }

    /// Tokens that travel at a time.
    fn piece(&self) -> usize {
        (IMAGE_BYTES / self.token_bytes()).max(1)
    }

    fn token_bytes(&self) -> usize {
        self.shape.token_values() * size_of::<f16>()
    }

    fn pieces(&self, tokens: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (end, piece) = (tokens.end, self.piece());
        tokens
            .clone()
            .step_by(piece)
            .map(move |start| start..end.min(start + piece))
    }

    fn image(&self, n_tok: usize) -> Result<Buffer, Error> {
        let bytes = n_tok.min(self.piece()) * self.token_bytes();
        self.gpu.buffer(bytes, "keys and values that travel")
    }

    fn slots(&self, pages: &[usize], tokens: Range<usize>) -> Result<Buffer, Error> {
        let slots: Vec<u32> = tokens.map(|position| slot(pages, position)).collect();
        self.gpu.buffer_with(bytemuck::cast_slice(&slots), "slots")
    }
}

/// Where the token at `position` of a sequence with these pages lies.
pub(super) fn slot(pages: &[usize], position: usize) -> u32 {
    (pages[position / PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS) as u32
}
