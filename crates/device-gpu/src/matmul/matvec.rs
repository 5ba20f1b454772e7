//! Products with a few rows of activations: every weight is read once, so the speed is that of memory.

use troika_device::Error;

use super::Tuning;
use super::quantize::{Activations, Quantize};
use crate::kernels::{flat, groups};
use crate::weights::{Format, Window};
use crate::{Access, Bind, Kernel, Key, Matrix, Recorder, Scratch, Tensor};

/// `y (+)= x · Wᵀ` for up to [`columns`](Self::columns) rows of `x`. Buffers: quants, scales, y, activations, and for
/// bytes their scales. Params: tokens, groups per row, first token, first row and rows of the window, width of `y`,
/// whether to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatVec {
    /// Of the weights.
    pub format: Format,
    /// Whether weights are integers and activations bytes.
    pub packed: bool,
    /// Rows of activations: 1, 2, 4 or 8.
    pub columns: u8,
    /// Rows of weights that a workgroup takes.
    pub rows: u8,
    /// Threads of a workgroup.
    pub size: u16,
    /// Whether threads add up in subgroups.
    pub subgroups: bool,
}

/// Rows of activations that one dispatch takes.
const COLUMNS: [u8; 4] = [1, 2, 4, 8];
const MOST_COLUMNS: usize = 8;

/// The smallest subgroups that there are.
const SMALLEST_SUBGROUP: u32 = 4;

/// Memory of a workgroup that every GPU has.
const WORKGROUP_MEMORY: u32 = 16 << 10;

impl MatVec {
    /// Those that can be asked for with some tuning: every format in every form, and every shape of one format.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &format in Format::ALL {
            for columns in COLUMNS {
                for packed in [false, true] {
                    for subgroups in [false, true] {
                        let shapes: &[(u8, u16)] = match format {
                            Format::Q4_0 => &[(1, 32), (2, 64), (4, 64), (8, 64), (4, 256)],
                            _ => &[(4, 64)],
                        };
                        all.extend(shapes.iter().map(|&(rows, size)| Self {
                            format,
                            packed,
                            columns,
                            rows,
                            size,
                            subgroups,
                        }));
                    }
                }
            }
        }
        all.retain(|key| (key.format.has_integers() || !key.packed) && key.fits());
        all
    }

    /// Sums that are kept of each value: one per thread that adds up alone, and one per subgroup otherwise.
    fn parts(self) -> u32 {
        match self.subgroups {
            true => u32::from(self.size) / SMALLEST_SUBGROUP,
            false => u32::from(self.size),
        }
    }

    /// Whether the memory of a workgroup is enough.
    fn fits(self) -> bool {
        let values = u32::from(self.rows) * u32::from(self.columns);
        values * (self.parts() + 1) * 4 <= WORKGROUP_MEMORY
    }

    pub(crate) fn kernel(self) -> Kernel {
        let (form, name) = match self.packed {
            true => (include_str!("../wgsl/matvec_q8.wgsl"), "matvec_q8"),
            false => (include_str!("../wgsl/matvec_f32.wgsl"), "matvec_f32"),
        };
        let sums = match self.subgroups {
            true => include_str!("../wgsl/matvec_subgroups.wgsl"),
            false => include_str!("../wgsl/matvec_alone.wgsl"),
        };
        let mut fragments = self.format.fragments();
        fragments.extend([include_str!("../wgsl/matvec.wgsl"), form, sums]);
        let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Read];
        if self.packed {
            bindings.push(Access::Read);
        }
        Kernel {
            name,
            enables: Vec::new(),
            constants: vec![
                ("SIZE", u32::from(self.size)),
                ("ROWS", u32::from(self.rows)),
                ("COLUMNS", u32::from(self.columns)),
                ("PARTS", self.parts()),
            ],
            aliases: Vec::new(),
            fragments,
            bindings,
            params: 7,
        }
    }

    /// The kernel for so many rows of activations with so many of weights.
    fn choose(
        recorder: &Recorder,
        tuning: &Tuning,
        format: Format,
        n: usize,
        n_row: usize,
    ) -> Self {
        let caps = recorder.gpu().caps();
        let i = COLUMNS
            .iter()
            .position(|&columns| n <= usize::from(columns))
            .expect("the caller takes eight at a time");
        let mut key = Self {
            format,
            packed: tuning.packed.contains(format) && format.has_integers(),
            columns: COLUMNS[i],
            rows: tuning.rows[i] as u8,
            size: tuning.size as u16,
            subgroups: tuning.subgroups
                && caps
                    .subgroup
                    .is_some_and(|(least, _)| least >= SMALLEST_SUBGROUP),
        };
        let few = |rows: u8| n_row.div_ceil(usize::from(rows)) < tuning.workgroups as usize;
        while key.rows > 1 && (few(key.rows) || !key.fits()) {
            key.rows /= 2;
        }
        key
    }
}

/// `y = x · Wᵀ`, or `y += x · Wᵀ`, by eight rows of `x` at a time.
pub(super) fn multiply(
    recorder: &mut Recorder,
    scratch: &Scratch,
    tuning: &Tuning,
    activations: &Activations<'_>,
    w: &Matrix,
    y: &Tensor,
    add: bool,
) -> Result<(), Error> {
    let n_tok = y.n_tok();
    for window in w.windows() {
        for first in (0..n_tok).step_by(MOST_COLUMNS) {
            let n = (n_tok - first).min(MOST_COLUMNS);
            let key = MatVec::choose(recorder, tuning, w.format(), n, window.rows.len());
            let how = if key.packed {
                Quantize::Q8
            } else {
                Quantize::F32
            };
            let columns = activations.laid_out(recorder, scratch, how)?;
            let params = params(w, window, y, first, add);
            let grid = flat(groups(window.rows.len(), key.rows.into()));
            let key = Key::MatVec(key);
            let (quants, scales) = (Bind::whole(&window.quants), Bind::whole(&window.scales));
            let values = Bind::whole(&columns.values);
            match &columns.scales {
                None => {
                    recorder.dispatch(key, &[quants, scales, y.bind(), values], &params, grid)?;
                }
                Some(x_scales) => {
                    let binds = [quants, scales, y.bind(), values, Bind::whole(x_scales)];
                    recorder.dispatch(key, &binds, &params, grid)?;
                }
            }
        }
    }
    Ok(())
}

fn params(w: &Matrix, window: &Window, y: &Tensor, first: usize, add: bool) -> [u32; 7] {
    [
        y.n_tok(),
        w.groups_per_row(),
        first,
        window.rows.start,
        window.rows.len(),
        w.n_out(),
        usize::from(add),
    ]
    .map(|n| n as u32)
}
