//! Activations laid out for matrix-vector kernels: once for all matrices that they are multiplied with.

use std::cell::OnceCell;

use troika_device::Error;

use crate::buffer::ScratchBuffer;
use crate::kernels::{flat, groups};
use crate::weights::{EIGHT, GROUP};
use crate::{Access, Bind, Kernel, Key, Recorder, Scratch, Tensor};

/// How activations are laid out. Buffers: x, then what is written: values, and for bytes scales. Params: tokens, groups
/// per row, vectors per row of `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantize {
    /// As they are.
    F32,
    /// Bytes, with a factor and a sum for each 32.
    Q8,
}

/// Threads of a workgroup.
const SIZE: u32 = 64;

impl Quantize {
    /// Both.
    pub const ALL: [Self; 2] = [Self::F32, Self::Q8];

    pub(crate) fn kernel(self) -> Kernel {
        let (name, fragment) = match self {
            Self::F32 => ("quantize_f32", include_str!("../wgsl/quantize_f32.wgsl")),
            Self::Q8 => ("quantize", include_str!("../wgsl/quantize.wgsl")),
        };
        let mut bindings = vec![Access::Read, Access::Write];
        if self == Self::Q8 {
            bindings.push(Access::Write);
        }
        Kernel {
            name,
            enables: Vec::new(),
            constants: vec![("SIZE", SIZE)],
            aliases: Vec::new(),
            fragments: vec![fragment],
            bindings,
            params: 3,
        }
    }
}

/// Activations as kernels read them.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) values: ScratchBuffer,
    /// Of bytes alone.
    pub(super) scales: Option<ScratchBuffer>,
}

/// Activations that one or more matrices are multiplied with, in the layouts that were asked for so far.
#[derive(Debug)]
pub(super) struct Activations<'x> {
    pub(super) x: &'x Tensor,
    laid_out: [OnceCell<Columns>; 2],
}

impl<'x> Activations<'x> {
    pub(super) fn new(x: &'x Tensor) -> Self {
        Self {
            x,
            laid_out: Default::default(),
        }
    }

    /// The layout; records the kernel that makes it when it is asked for first.
    pub(super) fn laid_out(
        &self,
        recorder: &mut Recorder,
        scratch: &Scratch,
        how: Quantize,
    ) -> Result<&Columns, Error> {
        let cell = &self.laid_out[how as usize];
        if let Some(columns) = cell.get() {
            return Ok(columns);
        }
        let columns = lay_out(recorder, scratch, how, self.x)?;
        Ok(cell.get_or_init(|| columns))
    }
}

fn lay_out(
    recorder: &mut Recorder,
    scratch: &Scratch,
    how: Quantize,
    x: &Tensor,
) -> Result<Columns, Error> {
    let n_group = x.width().div_ceil(GROUP);
    let n_padded = x.n_tok() * n_group.next_multiple_of(EIGHT);
    let params = [x.n_tok(), n_group, x.width() / 4].map(|n| n as u32);
    let key = Key::Quantize(how);
    match how {
        Quantize::F32 => {
            let values = scratch.take(n_padded * GROUP * size_of::<f32>())?;
            let grid = flat(groups(x.n_tok() * n_group * GROUP / 4, SIZE));
            recorder.dispatch(key, &[x.bind(), Bind::whole(&values)], &params, grid)?;
            Ok(Columns {
                values,
                scales: None,
            })
        }
        Quantize::Q8 => {
            let values = scratch.take(n_padded * GROUP)?;
            let scales = scratch.take(n_padded * size_of::<[f32; 2]>())?;
            let binds = [x.bind(), Bind::whole(&values), Bind::whole(&scales)];
            let grid = flat(groups(x.n_tok() * n_group, SIZE));
            recorder.dispatch(key, &binds, &params, grid)?;
            Ok(Columns {
                values,
                scales: Some(scales),
            })
        }
    }
}
