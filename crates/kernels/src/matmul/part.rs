//! A product as the threads share it: each draws tasks, and computes their outputs by the kernel that fits.

use std::cell::RefCell;
use std::ops::Range;

use super::{Form, Forms, GEMM_PANELS, Product, panels_per_task, reads_packed};
use crate::activations::{QuantizedActivations, ScaleGroup, TILE_TOKENS, tiles};
use crate::dispatch::Kernels;
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::{Disjoint, Tasks};
use crate::tiled::{self, Cut, Tiled};
use crate::unpacked::Unpacked;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { unpacked: Vec::new(), out: Vec::new(), n_in: 0, weight_bytes: 0, tiled: tiled::Scratch::EMPTY }) };
}

/// A thread's own buffers.
struct Scratch {
    unpacked: Vec<Unpacked>,
    out: Vec<f32>,
    n_in: usize,
    weight_bytes: usize,
    tiled: tiled::Scratch,
}

impl Scratch {
    /// Room for `count` panels of `n_in` columns.
    fn prepare(&mut self, count: usize, n_in: usize, weight_bytes: usize) {
        if self.n_in < n_in || self.weight_bytes != weight_bytes {
            self.unpacked.clear();
            (self.n_in, self.weight_bytes) = (n_in, weight_bytes);
        }
        while self.unpacked.len() < count {
            self.unpacked.push(Unpacked::new(self.n_in, weight_bytes));
        }
    }
}

/// The activations, with what is particular to their form.
enum Input<'a> {
    Float(&'a [f32]),
    Quantized(&'a QuantizedActivations),
    Tiles(&'a Tiled, &'a tiled::Activations, Cut),
}

/// A product as the threads share it.
pub(super) struct Part<'a> {
    pub(super) w: &'a PackedMatrix,
    y: Disjoint<'a, f32>,
    x: Input<'a>,
    pub(super) n_tok: usize,
    /// Of panels, or of jobs of the cut.
    pub(super) tasks: Tasks,
}

impl<'a> Part<'a> {
    /// Cut so that each of `threads` has some tasks.
    pub(super) fn new(
        kernels: &'a Kernels,
        product: &'a mut Product<'_>,
        n_tok: usize,
        forms: &'a Forms,
        threads: usize,
    ) -> Self {
        let w = product.w;
        assert_eq!(product.y.len(), n_tok * w.n_out(), "y is [n_tok, n_out]");
        let panels = || Tasks::new(w.n_panels(), panels_per_task(kernels, w, n_tok));
        let (x, tasks) = match (Form::of(kernels, w, n_tok), &kernels.tiled) {
            (Form::Tiles, Some(tiled)) => {
                let cut = Cut::new(tiled, n_tok, w.n_panels(), threads);
                let tasks = Tasks::new(cut.count(), 1);
                (Input::Tiles(tiled, &forms.tiles, cut), tasks)
            }
            (Form::Quantized(ScaleGroup::Block32), _) => {
                (Input::Quantized(&forms.block32), panels())
            }
            (Form::Quantized(ScaleGroup::Block256), _) => {
                (Input::Quantized(&forms.block256), panels())
            }
            _ => (Input::Float(&forms.columns), panels()),
        };
        Self {
            w,
            y: Disjoint::new(product.y),
            x,
            n_tok,
            tasks,
        }
    }

    /// Computes the outputs of some panels for all tokens, or those of some jobs.
    pub(super) fn compute(&self, kernels: &Kernels, tasks: Range<usize>) {
        let n_tok = self.n_tok;
        SCRATCH.with_borrow_mut(|scratch| match &self.x {
            Input::Quantized(x) if n_tok == 1 => self.gemv(kernels, x, tasks, scratch),
            Input::Quantized(x) if reads_packed(kernels, n_tok) => {
                self.gemm_packed(kernels, x, n_tok, tasks, scratch);
            }
            Input::Quantized(x) => self.gemm(kernels, x, n_tok, tasks, scratch),
            Input::Float(x) => self.product(kernels, x, n_tok, tasks, scratch),
            Input::Tiles(tiled, x, cut) => {
                for job in tasks {
                    self.tiled(tiled, x, cut.job(job), &mut scratch.tiled);
                }
            }
        });
    }

    /// Computes some panels for some tokens.
    fn tiled(
        &self,
        tiled: &Tiled,
        x: &tiled::Activations,
        (tokens, panels): (Range<usize>, Range<usize>),
        scratch: &mut tiled::Scratch,
    ) {
        let job = tiled::Job {
            dtype: self.w.dtype(),
            n_in: self.w.n_in(),
            panels: self.w.panels(panels.start, panels.len()),
            count: panels.len(),
            x: x.chunk(&tokens),
            n_tok: tokens.len(),
        };
        tiled.product(&job, scratch, |token, panel, sums| {
            self.write(tokens.start + token, panels.start + panel, sums);
        });
    }

    fn gemv(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let count = panels.len();
        scratch.out.resize(count * PANEL_ROWS, 0.0);
        let tile = tiles(1).next().expect("one token is one tile");
        let weights = self.w.panels(panels.start, count);
        kernels.gemv(
            self.w.dtype(),
            weights,
            count,
            self.w.n_in(),
            x.tile(tile),
            &mut scratch.out,
        );
        for (panel, out) in panels.zip(scratch.out.chunks_exact(PANEL_ROWS)) {
            self.write(0, panel, out);
        }
    }

    /// Two panels at a time, so that they are in the cache for every tile of tokens.
    fn gemm_packed(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        for first in panels.clone().step_by(GEMM_PANELS) {
            let count = GEMM_PANELS.min(panels.end - first);
            let weights = self.w.panels(first, count);
            for tile in tiles(n_tok) {
                let per_panel = tile.len * PANEL_ROWS;
                scratch.out.resize(count * per_panel, 0.0);
                kernels.gemm_packed(
                    self.w.dtype(),
                    weights,
                    count,
                    self.w.n_in(),
                    x.tile(tile),
                    &mut scratch.out,
                );
                for (panel, out) in (first..).zip(scratch.out.chunks_exact(per_panel)) {
                    for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                        self.write(tile.start + token, panel, out);
                    }
                }
            }
        }
    }

    fn gemm(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let (dtype, n_in) = (self.w.dtype(), self.w.n_in());
        scratch.prepare(panels.len(), n_in, kernels.unpacked_weight_bytes);
        for (panel, unpacked) in panels.clone().zip(&mut scratch.unpacked) {
            kernels.unpack(dtype, self.w.panels(panel, 1), n_in, unpacked);
        }
        for tile in tiles(n_tok) {
            let tokens = x.tile(tile);
            let per_panel = tile.len * PANEL_ROWS;
            let unpacked = scratch.unpacked[..panels.len()].chunks(GEMM_PANELS);
            for (first, unpacked) in panels.clone().step_by(GEMM_PANELS).zip(unpacked) {
                let mut out = [0.0; GEMM_PANELS * TILE_TOKENS * PANEL_ROWS];
                let out = &mut out[..unpacked.len() * per_panel];
                kernels.gemm(dtype, unpacked, n_in, tokens, out);
                for (panel, out) in (first..).zip(out.chunks_exact(per_panel)) {
                    for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                        self.write(tile.start + token, panel, out);
                    }
                }
            }
        }
    }

    fn product(
        &self,
        kernels: &Kernels,
        x: &[f32],
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let n_in = self.w.n_in();
        let weights = self.w.panels(panels.start, panels.len());
        for tile in tiles(n_tok) {
            let per_panel = tile.len * PANEL_ROWS;
            scratch.out.resize(panels.len() * per_panel, 0.0);
            let x = &x[tile.start * n_in..][..tile.len * n_in];
            kernels.product(
                self.w.dtype(),
                weights,
                panels.len(),
                n_in,
                x,
                tile.len,
                &mut scratch.out,
            );
            for (panel, out) in panels.clone().zip(scratch.out.chunks_exact(per_panel)) {
                for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                    self.write(tile.start + token, panel, out);
                }
            }
        }
    }

    /// Writes a panel's 16 outputs for a token, leaving out rows that only fill the panel up.
    fn write(&self, token: usize, panel: usize, out: &[f32]) {
        let first = panel * PANEL_ROWS;
        let rows = PANEL_ROWS.min(self.w.n_out() - first);
        // SAFETY: each panel of each token is computed once.
        let y = unsafe { self.y.part(token * self.w.n_out() + first, rows) };
        match (
            <&mut [f32; PANEL_ROWS]>::try_from(&mut *y),
            out.first_chunk(),
        ) {
            // A length that the compiler knows is a move of one register, not a call.
            (Ok(y), Some(out)) => *y = *out,
            _ => y.copy_from_slice(&out[..rows]),
        }
    }
}
