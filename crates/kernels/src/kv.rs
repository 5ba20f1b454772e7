//! The KV cache's memory: pages of 32 tokens, all layers of a token in one page, f16.
//!
//! A page is `[layer][kv head]` of a key block `[head_dim][32]` (transposed, see `float/attention.rs`) followed by a value block `[32][head_dim padded to 16]`. Who owns which page is not known
//! here; pages are named by number, and a sequence is a list of them. Between devices, tokens travel in the layout of
//! docs/formats/kv.md, which [`KvPages::export`] writes and [`KvPages::import`] reads.

use half::f16;
use half::slice::HalfFloatSliceExt;
use troika_base::ModelSpec;

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
    /// That of a model.
    pub fn of(spec: &ModelSpec) -> Self {
        Self {
            n_layer: spec.n_layer,
            n_head_kv: spec.n_head_kv,
            head_dim: spec.head_dim,
        }
    }

    fn k_values(&self) -> usize {
        self.head_dim * PAGE_TOKENS
    }

    fn head_values(&self) -> usize {
        self.k_values() + PAGE_TOKENS * padded(self.head_dim)
    }

    fn page_values(&self) -> usize {
        self.n_layer * self.n_head_kv * self.head_values()
    }

    /// Values of one token: keys and values of every head of every layer.
    pub fn token_values(&self) -> usize {
        2 * self.n_layer * self.row()
    }

    /// Keys of one token in one layer.
    fn row(&self) -> usize {
        self.n_head_kv * self.head_dim
    }

    /// Every head of every slot, and where its keys are among tokens that travel. A head's tokens come one after the
    /// other, since a block of keys is read or written by columns and stays in the nearest cache meanwhile.
    fn places(self, slots: &[Slot]) -> impl Iterator<Item = (Place, Slot, usize)> {
        let heads = (0..self.n_layer)
            .flat_map(move |layer| (0..self.n_head_kv).map(move |head| Place { layer, head }));
        heads.flat_map(move |place| {
            let first = 2 * place.layer * self.row() + place.head * self.head_dim;
            let token =
                move |(i, slot): (usize, &Slot)| (place, *slot, i * self.token_values() + first);
            slots.iter().enumerate().map(token)
        })
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

/// A head of a layer.
#[derive(Clone, Copy)]
struct Place {
    layer: usize,
    head: usize,
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

    /// Writes tokens to `out` `[slots][layer][key, value][kv head][head_dim]`: how they travel between devices.
    ///
    /// # Panics
    /// If `out` has another length or a slot is outside the cache.
    pub fn export(&self, slots: &[Slot], out: &mut [f16]) {
        assert_eq!(out.len(), slots.len() * self.shape.token_values());
        let (head_dim, row) = (self.shape.head_dim, self.shape.row());
        for (place, slot, at) in self.shape.places(slots) {
            let HeadPage { k, v } = self.head(slot.page, place.layer, place.head);
            let (k, v): (&[f16], &[f16]) = (bytemuck::cast_slice(k), bytemuck::cast_slice(v));
            let column = k[slot.index..].iter().step_by(PAGE_TOKENS);
            let keys = &mut out[at..][..head_dim];
            keys.iter_mut().zip(column).for_each(|(to, key)| *to = *key);
            let values = &v[slot.index * padded(head_dim)..][..head_dim];
            out[at + row..][..head_dim].copy_from_slice(values);
        }
    }

    /// Reads tokens from where [`Self::export`] of this or another cache of the same shape has written them.
    ///
    /// # Panics
    /// If `from` has another length or a slot is outside the cache.
    pub fn import(&mut self, slots: &[Slot], from: &[f16]) {
        assert_eq!(from.len(), slots.len() * self.shape.token_values());
        let (head_dim, row) = (self.shape.head_dim, self.shape.row());
        for (place, slot, at) in self.shape.places(slots) {
            let block = self.head_offset(slot.page, place.layer, place.head);
            let data: &mut [f16] = bytemuck::cast_slice_mut(&mut self.data);
            let (k, v) =
                data[block..][..self.shape.head_values()].split_at_mut(self.shape.k_values());
            let column = k[slot.index..].iter_mut().step_by(PAGE_TOKENS);
            column
                .zip(&from[at..][..head_dim])
                .for_each(|(to, key)| *to = *key);
            v[slot.index * padded(head_dim)..][..head_dim]
                .copy_from_slice(&from[at + row..][..head_dim]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value says where it belongs; heads are narrower than their padding.
    #[test]
    fn tokens_travel_from_cache_to_cache() {
        let shape = KvShape {
            n_layer: 3,
            n_head_kv: 2,
            head_dim: 10,
        };
        let slots = [(2, 31), (0, 0), (0, 7), (1, 30)].map(|(page, index)| Slot { page, index });
        let want: Vec<f16> = (0..slots.len() * shape.token_values())
            .map(|i| f16::from_f32(i as f32))
            .collect();
        let mut first = KvPages::new(shape, 3);
        first.import(&slots, &want);
        let mut have = vec![f16::ZERO; want.len()];
        first.export(&slots, &mut have);
        assert_eq!(have, want);

        // As a step writes them.
        let mut second = KvPages::new(shape, 3);
        let row = shape.row();
        let part = |layer: usize, part: usize| -> Vec<f32> {
            let token = |i| &want[i * shape.token_values() + (2 * layer + part) * row..][..row];
            (0..slots.len())
                .flat_map(token)
                .map(|v| v.to_f32())
                .collect()
        };
        for layer in 0..shape.n_layer {
            let (k, v) = (part(layer, 0), part(layer, 1));
            second.write(&Pool::new(1), layer, &slots, &k, &v);
        }
        assert_eq!(&*first.data, &*second.data);

        let elsewhere = [(0, 1), (0, 0), (2, 2), (2, 3)].map(|(page, index)| Slot { page, index });
        second.import(&elsewhere, &want);
        second.export(&elsewhere, &mut have);
        assert_eq!(have, want);
    }

    #[test]
    #[should_panic(expected = "outside the cache")]
    fn no_token_travels_from_outside() {
        let shape = KvShape {
            n_layer: 1,
            n_head_kv: 1,
            head_dim: 2,
        };
        let slot = Slot { page: 1, index: 0 };
        KvPages::new(shape, 1).export(&[slot], &mut [f16::ZERO; 4]);
    }
}
