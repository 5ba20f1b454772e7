//! Operations on the rows of activations: norms, gates, biases, rows picked from others.
//!
//! Shapes are checked where weights are loaded; a mismatch here is a bug and panics. No row depends on the rows beside
//! it, to the bit.

use troika_device::Error;

use crate::kernels::{Elementwise, Rows, Team};
use crate::{Bind, Buffer, Key, Recorder, Scratch, Tensor};

/// Numbers that kernels take at once.
const VECTOR: usize = 4;

/// `out = x / rms(x) * weight`, row by row. `weight` is `[width]`.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not compile.
pub fn rms_norm(
    recorder: &mut Recorder,
    x: &Tensor,
    weight: &Buffer,
    eps: f32,
    out: &Tensor,
) -> Result<(), Error> {
    norm(recorder, x, None, weight, eps, out)
}

/// `residual += y`, then `out = residual / rms(residual) * weight`, in one go.
///
/// # Errors
/// As [`rms_norm`].
pub fn add_rms_norm(
    recorder: &mut Recorder,
    residual: &Tensor,
    y: &Tensor,
    weight: &Buffer,
    eps: f32,
    out: &Tensor,
) -> Result<(), Error> {
    same_shape(residual, y);
    norm(recorder, residual, Some(y), weight, eps, out)
}

fn norm(
    recorder: &mut Recorder,
    x: &Tensor,
    added: Option<&Tensor>,
    weight: &Buffer,
    eps: f32,
    out: &Tensor,
) -> Result<(), Error> {
    same_shape(x, out);
    holds(weight, x.width());
    let n_vec = x.width() / VECTOR;
    let key = Rows::Norm {
        add: added.is_some(),
        team: Team::for_row(recorder.gpu().caps(), n_vec),
    };
    let mut binds = vec![out.bind(), Bind::whole(weight), x.bind()];
    binds.extend(added.map(Tensor::bind));
    let params = [x.n_tok() as u32, n_vec as u32, eps.to_bits()];
    recorder.dispatch(Key::Rows(key), &binds, &params, key.grid(x.n_tok(), n_vec))
}

/// RMS norm of every head on its own, in place. `weight` is a buffer of `[head_dim]`: its size says how many heads a
/// row has.
///
/// # Errors
/// As [`rms_norm`].
pub fn head_norm(
    recorder: &mut Recorder,
    x: &Tensor,
    weight: &Buffer,
    eps: f32,
) -> Result<(), Error> {
    let head_dim = weight.bytes().0 as usize / 4;
    assert_eq!(x.width() % head_dim, 0, "rows are whole heads");
    let n_head = x.n_tok() * x.width() / head_dim;
    let n_vec = head_dim / VECTOR;
    let params = [n_head as u32, n_vec as u32, eps.to_bits()];
    let binds = [x.bind(), Bind::whole(weight)];
    let key = Rows::HeadNorm;
    recorder.dispatch(Key::Rows(key), &binds, &params, key.grid(n_head, n_vec))
}

/// `gate = silu(gate) * up`.
///
/// # Errors
/// As [`rms_norm`].
pub fn swiglu(recorder: &mut Recorder, gate: &Tensor, up: &Tensor) -> Result<(), Error> {
    pairwise(recorder, Elementwise::SwiGlu, gate, up)
}

/// `gate = gelu(gate) * up`, with the GELU of the hyperbolic tangent.
///
/// # Errors
/// As [`rms_norm`].
pub fn geglu(recorder: &mut Recorder, gate: &Tensor, up: &Tensor) -> Result<(), Error> {
    pairwise(recorder, Elementwise::GeGlu, gate, up)
}

/// `x += y`.
///
/// # Errors
/// As [`rms_norm`].
pub fn add(recorder: &mut Recorder, x: &Tensor, y: &Tensor) -> Result<(), Error> {
    pairwise(recorder, Elementwise::Add, x, y)
}

/// Adds a bias `[width]` to every row.
///
/// # Errors
/// As [`rms_norm`].
pub fn add_bias(recorder: &mut Recorder, x: &Tensor, bias: &Buffer) -> Result<(), Error> {
    holds(bias, x.width());
    elementwise(recorder, Elementwise::AddBias, x, Bind::whole(bias))
}

fn pairwise(
    recorder: &mut Recorder,
    key: Elementwise,
    x: &Tensor,
    y: &Tensor,
) -> Result<(), Error> {
    same_shape(x, y);
    elementwise(recorder, key, x, y.bind())
}

fn elementwise(
    recorder: &mut Recorder,
    key: Elementwise,
    x: &Tensor,
    y: Bind<'_>,
) -> Result<(), Error> {
    let width = x.width() / VECTOR;
    let n_vec = x.n_tok() * width;
    let params = [n_vec as u32, width as u32];
    let grid = Elementwise::grid(n_vec);
    recorder.dispatch(Key::Elementwise(key), &[x.bind(), y], &params, grid)
}

/// Some rows of `x`, in the order of `rows`.
///
/// # Errors
/// As [`rms_norm`], and [`Error::OutOfMemory`].
///
/// # Panics
/// If `x` does not have one of the rows.
pub fn gather_rows(
    recorder: &mut Recorder,
    x: &Tensor,
    rows: &[usize],
    scratch: &Scratch,
) -> Result<Tensor, Error> {
    assert!(rows.iter().all(|&row| row < x.n_tok()), "rows of x");
    let out = Tensor::new(scratch, rows.len(), x.width())?;
    let n_vec = x.width() / VECTOR;
    let binds = [out.bind(), x.bind()];
    for (i, rows) in rows.chunks(Rows::GATHERED).enumerate() {
        let mut params = [0; 4 + Rows::GATHERED];
        params[0] = n_vec as u32;
        params[1] = (i * Rows::GATHERED) as u32;
        for (param, &row) in params[4..].iter_mut().zip(rows) {
            *param = row as u32;
        }
        let grid = Rows::Gather.grid(rows.len(), n_vec);
        recorder.dispatch(Key::Rows(Rows::Gather), &binds, &params, grid)?;
    }
    Ok(out)
}

fn same_shape(a: &Tensor, b: &Tensor) {
    let shape = |tensor: &Tensor| (tensor.n_tok(), tensor.width());
    assert_eq!(shape(a), shape(b), "tensors of one shape");
}

fn holds(row: &Buffer, width: usize) {
    assert!(
        row.bytes().0 >= width as u64 * 4,
        "a row of weights is as wide as x"
    );
}
