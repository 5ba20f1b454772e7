//! The KV cache's memory: pages of 32 tokens, all layers of a token in one page.
//!
//! A page is `[layer][kv head]` of a head's keys and values, which lie as `kv/head.rs` says. Who owns which page is not
//! known here; pages are named by number, and a sequence is a list of them. Between devices, tokens travel in the layout
//! of docs/formats/kv.md, in f16, which [`KvPages::export`] writes and [`KvPages::import`] reads.

mod head;

use half::f16;
use half::slice::HalfFloatSliceExt;
use troika_base::{KvType, ModelSpec};

use crate::buffer::AlignedBuf;
use crate::pool::{Disjoint, Pool};

pub(crate) use head::{BLOCK, HeadLayout, row_bytes};

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
    /// How they are kept.
    pub kv_type: KvType,
}

impl KvShape {
    /// That of a model, in f16.
    pub fn of(spec: &ModelSpec) -> Self {
        Self {
            n_layer: spec.n_layer,
            n_head_kv: spec.n_head_kv,
            head_dim: spec.head_dim,
            kv_type: KvType::F16,
        }
    }

    /// How a head's part of a page lies.
    pub(crate) fn head(self) -> HeadLayout {
        HeadLayout {
            kv_type: self.kv_type,
            head_dim: self.head_dim,
        }
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
        self.n_layer * self.n_head_kv * self.head().bytes()
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
        page * self.shape.page_bytes()
            + (layer * self.shape.n_head_kv + head) * self.shape.head().bytes()
    }

    /// A head's part of a page.
    pub(crate) fn head(&self, page: usize, layer: usize, head: usize) -> &[u8] {
        &self.data[self.head_offset(page, layer, head)..][..self.shape.head().bytes()]
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
        let row = self.shape.row();
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
        let layout = self.shape.head();
        let data = Disjoint::new(&mut self.data[..]);
        let write_head = |head: usize| {
            let mut keys = vec![f16::ZERO; head_dim];
            let mut values = vec![f16::ZERO; head_dim];
            for (token, (slot, offset)) in slots.iter().zip(&offsets).enumerate() {
                // SAFETY: heads of a page do not overlap, and one thread writes all tokens of a head.
                let page = unsafe { data.part(offset + head * layout.bytes(), layout.bytes()) };
                let from = token * row + head * head_dim..token * row + (head + 1) * head_dim;
                keys.convert_from_f32_slice(&k[from.clone()]);
                values.convert_from_f32_slice(&v[from]);
                layout.put(page, slot.index, &keys, &values);
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
        let (layout, row) = (self.shape.head(), self.shape.row());
        for (place, slot, at) in self.shape.places(slots) {
            let page = self.head(slot.page, place.layer, place.head);
            let (keys, values) = out[at..].split_at_mut(row);
            let (keys, values) = (&mut keys[..layout.head_dim], &mut values[..layout.head_dim]);
            layout.get(page, slot.index, keys, values);
        }
    }

    /// Reads tokens from where [`Self::export`] of this or another cache of the same shape has written them.
    ///
    /// # Panics
    /// If `from` has another length or a slot is outside the cache.
    pub fn import(&mut self, slots: &[Slot], from: &[f16]) {
        assert_eq!(from.len(), slots.len() * self.shape.token_values());
        let (layout, row) = (self.shape.head(), self.shape.row());
        for (place, slot, at) in self.shape.places(slots) {
            let start = self.head_offset(slot.page, place.layer, place.head);
            let page = &mut self.data[start..][..layout.bytes()];
            let (keys, values) = (
                &from[at..][..layout.head_dim],
                &from[at + row..][..layout.head_dim],
            );
            layout.put(page, slot.index, keys, values);
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
            kv_type: KvType::F16,
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
            kv_type: KvType::F16,
        };
        let slot = Slot { page: 1, index: 0 };
        KvPages::new(shape, 1).export(&[slot], &mut [f16::ZERO; 4]);
    }
}
