//! Products with weight matrices: a few rows of activations by [matrix-vector kernels](MatVec), many by tiles.
//!
//! A row of a product is the same to the bit however many rows stand beside it, as long as they are fewer than
//! [`Tuning::tiles_from`], or not fewer.

pub mod coop;
pub mod experts;
mod matvec;
mod quantize;
pub mod selftest;
pub mod tiles;
mod tuning;

use troika_device::Error;

use crate::{Matrix, Recorder, Scratch, Tensor};
use quantize::Activations;

pub use matvec::MatVec;
pub use quantize::Quantize;
pub use tuning::{Formats, TileShape, Tuning};

/// `y = x · Wᵀ`, or `y += x · Wᵀ`: `x` is `[n_tok, n_in]`, `y` `[n_tok, n_out]`.
///
/// Several matrices with the same `x` are faster by [`multiply_all`].
///
/// # Errors
/// [`Error::OutOfMemory`], and [`Error::Failed`] if a kernel does not compile.
///
/// # Panics
/// If the shapes disagree.
pub fn multiply(
    recorder: &mut Recorder,
    scratch: &Scratch,
    tuning: &Tuning,
    x: &Tensor,
    w: &Matrix,
    y: &Tensor,
    add: bool,
) -> Result<(), Error> {
    multiply_all(recorder, scratch, tuning, x, &[(w, y)], add)
}

/// [`multiply`] for several matrices: what has to be done to `x` is done once.
///
/// # Errors
/// As [`multiply`].
///
/// # Panics
/// As [`multiply`].
pub fn multiply_all(
    recorder: &mut Recorder,
    scratch: &Scratch,
    tuning: &Tuning,
    x: &Tensor,
    products: &[(&Matrix, &Tensor)],
    add: bool,
) -> Result<(), Error> {
    assert_eq!(x.width() % 4, 0, "rows are whole vectors");
    let activations = Activations::new(x);
    for (w, y) in products {
        let shapes = (x.width(), y.n_tok(), y.width());
        assert_eq!(shapes, (w.n_in(), x.n_tok(), w.n_out()), "shapes disagree");
        match x.n_tok() < tuning.tiles_from {
            true => matvec::multiply(recorder, scratch, tuning, &activations, w, y, add)?,
            false => tiles::multiply(recorder, scratch, tuning, &activations, w, y, add)?,
        }
    }
    Ok(())
}
