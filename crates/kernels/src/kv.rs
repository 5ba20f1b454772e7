//! The KV cache's memory: pages of 32 tokens, all layers of a token in one page, f16.
//!
//! This is the canonical host layout: a page is `[layer][kv head]` of a key block `[head_dim][32]` (transposed, see
//! `float/attention.rs`) followed by a value block `[32][head_dim padded to 16]`. Who owns which page is not known
//! here; pages are named by number, and a sequence is a list of them.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::buffer::AlignedBuf;
use crate::float::attention::{HeadPage, padded};
use crate::pool::{Disjoint, Pool};

/// Tokens in a page.
pub const PAGE_TOKENS: usize = 32;

/// The shape of a model's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers.
    pub n_layer: usize,
    /// Key/value heads per layer.
    pub n_head_kv: usize,
    /// Values per head.
    pub head_dim: usize,
}

impl KvShape {
    fn k_values(&self) -> usize {
        self.head_dim * PAGE_TOKENS
    }

    fn head_values(&self) -> usize {
        self.k_values() + PAGE_TOKENS * padded(self.head_dim)
    }

    fn page_values(&self) -> usize {
        self.n_layer * self.n_head_kv * self.head_values()
    }

    /// Bytes that a page takes.
    pub fn page_bytes(&self) -> usize {
        self.page_values() * size_of::<u16>()
    }
}

/// Where a token's keys and values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the page.
    pub page: usize,
    /// Place in the page, below [`PAGE_TOKENS`].
    pub index: usize,
}

/// The memory of all pages. It counts as used once written.
#[derive(Debug)]
pub struct KvPages {
    shape: KvShape,
    n_page: usize,
    data: AlignedBuf,
}

impl KvPages {
    /// Room for `n_page` pages.
    pub fn new(shape: KvShape, n_page: usize) -> Self {
        Self {
            shape,
            n_page,
            data: AlignedBuf::zeroed(n_page * shape.page_bytes()),
        }
    }

    /// The shape of keys and values.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Number of pages.
    pub fn n_page(&self) -> usize {
        self.n_page
    }

    fn head_offset(&self, page: usize, layer: usize, head: usize) -> usize {
        assert!(
            page < self.n_page && layer < self.shape.n_layer && head < self.shape.n_head_kv,
            "outside the cache"
        );
        page * self.shape.page_values()
            + (layer * self.shape.n_head_kv + head) * self.shape.head_values()
    }

    pub(crate) fn head(&self, page: usize, layer: usize, head: usize) -> HeadPage<'_> {
        let values: &[u16] = bytemuck::cast_slice(&self.data);
        let (k, v) = values[self.head_offset(page, layer, head)..][..self.shape.head_values()]
            .split_at(self.shape.k_values());
        HeadPage { k, v }
    }

    /// Stores keys and values `[n_tok, n_head_kv * head_dim]` of one layer, token `i` at `slots[i]`.
    ///
    /// # Panics
    /// If a shape disagrees or a slot is outside the cache.
    pub fn write(&mut self, pool: &Pool, layer: usize, slots: &[Slot], k: &[f32], v: &[f32]) {
        let KvShape {
            n_head_kv,
            head_dim,
            ..
        } = self.shape;
        let row = n_head_kv * head_dim;
        assert_eq!(
            (k.len(), v.len()),
            (slots.len() * row, slots.len() * row),
            "keys and values of every token"
        );
        assert!(
            slots.iter().all(|slot| slot.index < PAGE_TOKENS),
            "slots lie in pages"
        );
        let offsets: Vec<usize> = slots
            .iter()
            .map(|slot| self.head_offset(slot.page, layer, 0))
            .collect();
        let (head_values, k_values, width) = (
            self.shape.head_values(),
            self.shape.k_values(),
            padded(head_dim),
        );
        let data = Disjoint::new(bytemuck::cast_slice_mut::<u8, u16>(&mut self.data));
        let write_head = |head: usize| {
            let mut keys = vec![f16::ZERO; head_dim];
            for (token, (slot, offset)) in slots.iter().zip(&offsets).enumerate() {
                // SAFETY: heads of a page do not overlap, and one thread writes all tokens of a head.
                let block = unsafe { data.part(offset + head * head_values, head_values) };
                let from = token * row + head * head_dim..token * row + (head + 1) * head_dim;
                keys.convert_from_f32_slice(&k[from.clone()]);
                let (k_block, v_block) = block.split_at_mut(k_values);
                for (key, to) in keys.iter().zip(k_block.chunks_exact_mut(PAGE_TOKENS)) {
                    to[slot.index] = key.to_bits();
                }
                let values: &mut [f16] =
                    bytemuck::cast_slice_mut(&mut v_block[slot.index * width..][..head_dim]);
                values.convert_from_f32_slice(&v[from]);
            }
        };
        // A token or a few are written sooner than another thread has woken up.
        pool.for_each(
            n_head_kv,
            if slots.len() < 16 { n_head_kv } else { 1 },
            write_head,
        );
    }

    /// Copies page `from`, all layers, to page `to`: what copy-on-write needs.
    ///
    /// # Panics
    /// If a page is outside the cache.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        assert!(from < self.n_page && to < self.n_page, "outside the cache");
        let bytes = self.shape.page_bytes();
        self.data
            .copy_within(from * bytes..(from + 1) * bytes, to * bytes);
    }
}
