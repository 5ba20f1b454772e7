//! Keys and values in the host's memory: pages of tokens, each token as it travels between devices.

use std::ops::Range;

use half::f16;
use half::vec::HalfBitsVecExt as _;
use troika_device::{Error, KvShape, PAGE_TOKENS, check_kv};

/// The memory of all pages, `[page][token][layer][key, value][kv head][head_dim]`. It counts as used once written.
pub(super) struct Cache {
    shape: KvShape,
    n_page: usize,
    values: Vec<f16>,
}

impl Cache {
    pub(super) fn new(shape: KvShape, n_page: usize) -> Self {
        let n_value = n_page * PAGE_TOKENS * shape.token_values();
        Self {
            shape,
            n_page,
            // Zeroed by the system, page by page, which a vector of f16 would not be.
            values: vec![0u16; n_value].reinterpret_into(),
        }
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
    }

    pub(super) fn n_page(&self) -> usize {
        self.n_page
    }

    /// The token at a position of a sequence that has these pages.
    ///
    /// # Panics
    /// If it has no such token.
    pub(super) fn token(&self, pages: &[usize], position: usize) -> &[f16] {
        &self.values[self.place(pages, position)]
    }

    /// As [`Self::token`], to be written.
    pub(super) fn token_mut(&mut self, pages: &[usize], position: usize) -> &mut [f16] {
        let place = self.place(pages, position);
        &mut self.values[place]
    }

    fn place(&self, pages: &[usize], position: usize) -> Range<usize> {
        let token = pages[position / PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS;
        let n_value = self.shape.token_values();
        token * n_value..(token + 1) * n_value
    }

    /// # Panics
    /// If a page is outside the cache.
    pub(super) fn copy_page(&mut self, from: usize, to: usize) {
        assert!(from < self.n_page && to < self.n_page, "outside the cache");
        let n_value = PAGE_TOKENS * self.shape.token_values();
        let from = from * n_value..(from + 1) * n_value;
        self.values.copy_within(from, to * n_value);
    }

    /// As [`Resident::read_kv`](troika_device::Resident::read_kv).
    pub(super) fn read(
        &self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        check_kv(self.shape, self.n_page, pages, &tokens, out.len())?;
        let rows = out.chunks_exact_mut(self.shape.token_values());
        tokens
            .zip(rows)
            .for_each(|(position, row)| row.copy_from_slice(self.token(pages, position)));
        Ok(())
    }

    /// As [`Resident::write_kv`](troika_device::Resident::write_kv).
    pub(super) fn write(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        check_kv(self.shape, self.n_page, pages, &tokens, values.len())?;
        let rows = values.chunks_exact(self.shape.token_values());
        tokens
            .zip(rows)
            .for_each(|(position, row)| self.token_mut(pages, position).copy_from_slice(row));
        Ok(())
    }
}
