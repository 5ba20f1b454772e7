//! Products of many experts at once: each row of activations by the matrix of the expert that it was sent to.
//!
//! The matrices of all experts are one tensor, one below the other. Many rows go to tiles by the lists that
//! [`moe`] makes of the router's choice: one dispatch computes every expert's rows, and how they are shared
//! is known to the GPU alone. Few rows are multiplied each on its own, by [`Few`].

use troika_device::Error;

use super::Tuning;
use super::quantize::Activations;
use super::tiles::{Columns, Cut, Listed, Product, Sizes};
use crate::kernels::groups;
use crate::moe::{self, Lists, Routes, Tiles};
use crate::weights::Format;
use crate::{Access, Bind, Kernel, Key, Matrix, Recorder, Scratch, Tensor};

/// Each row by its own expert. Buffers: quants, scales, x, y, experts of rows. Params: see `experts_few.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Few(pub Format);

impl Few {
    /// Rows of weights that a workgroup takes.
    const ROWS: u32 = 4;

    pub(crate) fn kernel(self) -> Kernel {
        use Access::{Read, Write};
        let mut fragments = self.0.fragments();
        fragments.push(include_str!("../wgsl/experts_few.wgsl"));
        Kernel {
            name: "experts_few",
            enables: Vec::new(),
            constants: vec![("SIZE", 64)],
            aliases: Vec::new(),
            fragments,
            bindings: vec![Read, Read, Read, Write, Read],
            params: 6,
        }
    }
}

/// Which expert each row goes to, for all products of one layer.
#[derive(Debug)]
pub struct Experts<'r> {
    routes: &'r Routes,
    /// Where they were wanted: the rows of each expert, and these in tiles by their height.
    lists: Option<Lists>,
    tiles: Vec<(u32, Tiles)>,
}

impl<'r> Experts<'r> {
    /// As they were routed.
    pub const fn new(routes: &'r Routes) -> Self {
        Self {
            routes,
            lists: None,
            tiles: Vec::new(),
        }
    }

    /// `y[a] = x[a / n] · W[expert of a]ᵀ` for every assignment `a`, for each of several matrices with the same `x`.
    ///
    /// Row-major shapes: `x` `[n_assignment / n, n_in]`, where `n` is 1, or the experts of a token if they all get the
    /// token's row; `w` `[n_expert * n_out, n_in]`; `y` `[n_assignment, n_out]`. Agrees with plain sums as
    /// [`multiply_cut`](super::tiles::multiply_cut).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], and [`Error::Failed`] if a kernel does not compile.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn multiply(
        &mut self,
        recorder: &mut Recorder,
        scratch: &Scratch,
        tuning: &Tuning,
        x: &Tensor,
        products: &[(&Matrix, &Tensor)],
    ) -> Result<(), Error> {
        let (n_expert, n_assignment) = (self.routes.n_expert, self.routes.n_assignment());
        let activations = Activations::new(x);
        for (w, y) in products {
            assert_eq!((x.width(), n_expert * y.width()), (w.n_in(), w.n_out()));
            assert_eq!(y.n_tok(), n_assignment, "a row per assignment");
            assert_eq!(n_assignment % x.n_tok(), 0, "as many experts for each row");
            match self.routes.n_tok < tuning.tiles_from {
                true => self.few(recorder, x, w, y)?,
                false => self.many(recorder, scratch, tuning, &activations, w, y)?,
            }
        }
        Ok(())
    }

    /// Each row on its own.
    fn few(
        &self,
        recorder: &mut Recorder,
        x: &Tensor,
        w: &Matrix,
        y: &Tensor,
    ) -> Result<(), Error> {
        for window in w.windows() {
            let binds = [
                Bind::whole(&window.quants),
                Bind::whole(&window.scales),
                x.bind(),
                y.bind(),
                Bind::whole(&self.routes.ids),
            ];
            let params = [
                w.groups_per_row(),
                w.n_in() / 4,
                window.rows.start,
                window.rows.len(),
                y.width(),
                y.n_tok() / x.n_tok(),
            ]
            .map(|n| n as u32);
            let grid = [groups(y.width(), Few::ROWS), y.n_tok() as u32, 1];
            recorder.dispatch(Key::Few(Few(w.format())), &binds, &params, grid)?;
        }
        Ok(())
    }

    /// By tiles of each expert's rows.
    fn many(
        &mut self,
        recorder: &mut Recorder,
        scratch: &Scratch,
        tuning: &Tuning,
        activations: &Activations<'_>,
        w: &Matrix,
        y: &Tensor,
    ) -> Result<(), Error> {
        let (n_expert, n_row) = (self.routes.n_expert, activations.x.n_tok());
        let sizes = Sizes {
            n_list: n_expert.min(y.n_tok()),
            n_tok: y.n_tok().div_ceil(n_expert),
            n_out: y.width(),
        };
        let cut = Cut::choose(recorder.gpu(), tuning, w.format(), sizes, true);
        let columns = Columns::of(recorder, scratch, activations, &cut)?;
        let (lists, tiles) = self.listed(recorder, scratch, cut.tokens)?;
        let listed = Listed {
            tiles: &tiles.buffer,
            n_tile: tiles.n_tile,
            lists: &lists.buffer,
            n_expert,
            n_used: y.n_tok() / n_row,
        };
        for window in w.windows() {
            let product = Product {
                x: columns,
                x_rows: 0..n_row,
                n_in: w.n_in(),
                window,
                y: y.buffer(),
                y_rows: 0..y.n_tok(),
                width: y.width(),
                add: false,
                listed: Some(listed),
            };
            product.record(recorder, &cut)?;
        }
        Ok(())
    }

    /// Each expert's rows, and tiles of this height; makes what is not there yet.
    fn listed(
        &mut self,
        recorder: &mut Recorder,
        scratch: &Scratch,
        height: u32,
    ) -> Result<(&Lists, &Tiles), Error> {
        let lists = match self.lists.take() {
            Some(lists) => lists,
            None => moe::lists(recorder, scratch, self.routes)?,
        };
        let lists = &*self.lists.insert(lists);
        let known = self.tiles.iter().position(|tiles| tiles.0 == height);
        let at = match known {
            Some(at) => at,
            None => {
                let tiles = moe::tiles(recorder, scratch, lists, height as usize)?;
                self.tiles.push((height, tiles));
                self.tiles.len() - 1
            }
        };
        Ok((lists, &self.tiles[at].1))
    }
}
