//! Weights in the layout that the kernels read: panels of 16 rows, interleaved by four bytes.
//!
//! A 512-bit register then holds the same four columns of 16 rows: one instruction multiplies them with four
//! broadcast activations and adds into 16 outputs, with no sum across lanes anywhere. The same bytes in the same
//! order are a tile of AMX (`[k/4][16][4]`), two 256-bit registers of AVX2, and a plain loop for the reference.
//! Packing moves bytes only: a panel takes what its 16 rows took in the file (rounded up to a cache line), and
//! nothing is lost.
//!
//! Layout of a panel by format, where `dword(r, i)` are bytes `4i..4i+4` of row `r`'s quants:
//!
//! | format | panel |
//! |---|---|
//! | F32, F16, BF16 | per column `[16]` |
//! | all others | in the files of [`panel`](crate::panel), beside what reads it |
//!
//! A panel is one stream that is read from front to back. Scales at its end would be a second stream, and on the
//! machines measured they cost a fifth of the bandwidth: neither the hardware's prefetcher nor ours keeps up with both.
//! Two blocks share a cache line of scales, so that everything behind it is aligned.

use troika_base::DType;

use crate::buffer::AlignedBuf;
use crate::panel::{PanelFormat, with_any_format};
use crate::pool::{Disjoint, Pool};
use crate::quant;

/// Rows in a panel.
pub const PANEL_ROWS: usize = 16;

/// A weight matrix `[n_out, n_in]` in panels.
#[derive(Debug)]
pub struct PackedMatrix {
    dtype: DType,
    n_out: usize,
    n_in: usize,
    panel_bytes: usize,
    /// Multiplies what is computed with the weights.
    scale: f32,
    data: AlignedBuf,
}

/// Bytes of one panel of 16 rows; `None` for formats that are not computed or rows that are not whole blocks.
pub fn panel_bytes(dtype: DType, n_in: usize) -> Option<usize> {
    quant::is_computed(dtype).then_some(())?;
    dtype
        .row_bytes(n_in)?
        .checked_mul(PANEL_ROWS)?
        .checked_next_multiple_of(64)
}

/// Memory that a matrix `[n_out, n_in]` takes in panels; `None` where [`panel_bytes`] is, or if that is more than there can be.
pub fn packed_bytes(dtype: DType, n_out: usize, n_in: usize) -> Option<usize> {
    panel_bytes(dtype, n_in)?.checked_mul(n_out.div_ceil(PANEL_ROWS))
}

impl PackedMatrix {
    /// Packs a matrix whose rows are produced by `read(first_row, bytes)`, which fills `bytes` with whole rows as
    /// they are in the file. Threads of the pool read and pack different panels at the same time.
    ///
    /// # Errors
    /// The first error that `read` returns.
    ///
    /// # Panics
    /// If the format is not computed or `n_in` is not whole blocks: the caller has checked with [`panel_bytes`].
    pub fn pack<E: Send>(
        pool: &Pool,
        dtype: DType,
        n_out: usize,
        n_in: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let panel_bytes =
            panel_bytes(dtype, n_in).expect("format and row length were checked by the caller");
        let row_bytes = dtype
            .row_bytes(n_in)
            .expect("checked with the panel's size");
        let n_panels = n_out.div_ceil(PANEL_ROWS);
        let mut data = AlignedBuf::zeroed(n_panels * panel_bytes);
        let panels = Disjoint::new(&mut data);
        let error = std::sync::Mutex::new(None);
        // Some reads per task, so that a task is worth its system call.
        let grain = (1usize << 20).div_ceil(panel_bytes);
        let tasks = crate::pool::Tasks::new(n_panels, grain);
        pool.run(|_| {
            let mut rows = Vec::new();
            while let Some(range) = tasks.next() {
                let first = range.start * PANEL_ROWS;
                let last = n_out.min(range.end * PANEL_ROWS);
                rows.resize((last - first) * row_bytes, 0);
                if let Err(failed) = read(first, &mut rows) {
                    error
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .get_or_insert(failed);
                    return;
                }
                for (index, rows) in range.zip(rows.chunks(PANEL_ROWS * row_bytes)) {
                    // SAFETY: every panel index is handed out once.
                    let panel = unsafe { panels.part(index * panel_bytes, panel_bytes) };
                    pack_panel(dtype, n_in, rows, panel);
                }
            }
        });
        match error
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => Ok(Self {
                dtype,
                n_out,
                n_in,
                panel_bytes,
                scale: 1.0,
                data,
            }),
        }
    }

    /// Packs a matrix that lies in memory, rows as in the file.
    ///
    /// # Panics
    /// As [`PackedMatrix::pack`], and if `rows` is not `n_out` rows.
    pub fn from_rows(pool: &Pool, dtype: DType, n_out: usize, n_in: usize, rows: &[u8]) -> Self {
        let row_bytes = dtype.row_bytes(n_in).expect("rows are whole blocks");
        assert_eq!(
            rows.len(),
            n_out * row_bytes,
            "rows disagree with the shape"
        );
        let Ok(packed) = Self::pack(pool, dtype, n_out, n_in, |first, out| {
            out.copy_from_slice(&rows[first * row_bytes..][..out.len()]);
            Ok::<(), std::convert::Infallible>(())
        });
        packed
    }

    /// The same weights, all of them multiplied by `scale`: what a file may keep beside a tensor whose blocks have small scales.
    #[must_use]
    pub fn scaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// What the packed weights are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// The format of the weights.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Output features (rows).
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Input features (columns).
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Memory that the matrix takes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn n_panels(&self) -> usize {
        self.n_out.div_ceil(PANEL_ROWS)
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// The bytes of `count` panels from panel `index` on.
    pub(crate) fn panels(&self, index: usize, count: usize) -> &[u8] {
        &self.data[index * self.panel_bytes..][..count * self.panel_bytes]
    }

    /// Dequantizes row `row` into `out` `[n_in]`: the embedding lookup.
    ///
    /// # Panics
    /// If `row` or `out` disagree with the shape.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_out, "row {row} of {}", self.n_out);
        assert_eq!(out.len(), self.n_in, "a row has n_in values");
        let mut bytes = vec![
            0;
            self.dtype
                .row_bytes(self.n_in)
                .expect("checked when packed")
        ];
        unpack_row(
            self.dtype,
            self.n_in,
            self.panels(row / PANEL_ROWS, 1),
            row % PANEL_ROWS,
            &mut bytes,
        );
        quant::dequantize_row(self.dtype, &bytes, out).expect("only computed formats are packed");
        out.iter_mut().for_each(|weight| *weight *= self.scale);
    }
}

/// Where block `block` lies in a panel whose blocks go in pairs behind a cache line of scales: offsets of its 16 scales
/// and of its `body` bytes. Of an odd number of blocks the last has half of that line to itself.
#[inline(always)]
pub(crate) const fn in_pairs(block: usize, body: usize) -> (usize, usize) {
    let pair = block / 2 * (64 + 2 * body);
    (pair + block % 2 * 32, pair + 64 + block % 2 * body)
}

/// One field of a block in both forms: `bytes` at `file` in the row's block are, for `step`-byte units,
/// `[bytes/step][16][stride]` at `panel(block)`, of which they are the first `step`.
pub(crate) struct Field {
    /// Offset in the file's block.
    file: usize,
    bytes: usize,
    /// Unit of interleaving.
    step: usize,
    /// Bytes from a row's unit to that of the next.
    stride: usize,
    /// Offset in the panel, by block.
    panel: fn(usize) -> usize,
    change: Change,
}

/// What is done to the bytes of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// Flips the highest bit of every byte, which turns signed quants into unsigned ones.
    Flip,
    /// Bit `4 j + i` of a dword becomes bit `8 i + j`: of each four columns the bits come to lie in four bytes.
    Spread,
}

impl Change {
    fn of<const STEP: usize>(self, unit: [u8; STEP]) -> [u8; STEP] {
        match self {
            Self::Nothing => unit,
            Self::Flip => unit.map(|byte| byte ^ 0x80),
            Self::Spread => {
                let mut to = [0; STEP];
                for k in 0..32 {
                    to[k % 4] |= (unit[k / 8] >> (k % 8) & 1) << (k / 4);
                }
                to
            }
        }
    }

    /// The inverse of [`of`](Self::of).
    fn undo(self, unit: &mut [u8]) {
        match self {
            Self::Nothing => {}
            Self::Flip => unit.iter_mut().for_each(|byte| *byte ^= 0x80),
            Self::Spread => {
                let from = u32::from_le_bytes(unit.try_into().expect("a dword"));
                let bit = |k: usize| from >> (k % 4 * 8 + k / 4) & 1;
                let to = (0..32).fold(0, |to, k| to | bit(k) << k);
                unit.copy_from_slice(&to.to_le_bytes());
            }
        }
    }
}

impl Field {
    pub(crate) fn new(file: usize, bytes: usize, step: usize, panel: fn(usize) -> usize) -> Self {
        Self {
            file,
            bytes,
            step,
            stride: step,
            panel,
            change: Change::Nothing,
        }
    }

    /// Dwords of signed bytes, which become unsigned.
    pub(crate) fn flipped(file: usize, bytes: usize, panel: fn(usize) -> usize) -> Self {
        Self {
            change: Change::Flip,
            ..Self::new(file, bytes, 4, panel)
        }
    }

    /// Dwords of a bit for each column, which are spread: bit `j` of byte `i` is that of column `4 j + i`.
    pub(crate) fn bits(file: usize, bytes: usize, panel: fn(usize) -> usize) -> Self {
        Self {
            change: Change::Spread,
            ..Self::new(file, bytes, 4, panel)
        }
    }

    /// One byte, which shares a dword of its row with those of other blocks.
    pub(crate) fn lanes(file: usize, panel: fn(usize) -> usize) -> Self {
        Self {
            stride: 4,
            ..Self::new(file, 1, 1, panel)
        }
    }
}

/// Where each field of a block goes, and the blocks per row.
fn fields(dtype: DType, n_in: usize) -> (usize, Vec<Field>) {
    let blocks = n_in / dtype.block_len();
    let fields = match dtype {
        // One value is one block.
        DType::F32 => vec![Field::new(0, 4, 4, |block| block * 4 * PANEL_ROWS)],
        DType::F16 | DType::BF16 => vec![Field::new(0, 2, 2, |block| block * 2 * PANEL_ROWS)],
        _ => with_any_format!(dtype, F => F::fields()),
    };
    (blocks, fields)
}

/// Interleaves up to 16 rows into a panel; missing rows stay zero.
fn pack_panel(dtype: DType, n_in: usize, rows: &[u8], panel: &mut [u8]) {
    let row_bytes = dtype.row_bytes(n_in).expect("whole blocks");
    let (blocks, fields) = fields(dtype, n_in);
    for field in &fields {
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            for block in 0..blocks {
                let from = &row[block * dtype.block_bytes() + field.file..][..field.bytes];
                let to = &mut panel[(field.panel)(block)..];
                match field.step {
                    1 => move_units::<1>(from, to, r, field),
                    2 => move_units::<2>(from, to, r, field),
                    _ => move_units::<4>(from, to, r, field),
                }
            }
        }
    }
}

fn move_units<const STEP: usize>(from: &[u8], to: &mut [u8], r: usize, field: &Field) {
    for (unit, from) in from.as_chunks::<STEP>().0.iter().enumerate() {
        let at = (unit * PANEL_ROWS + r) * field.stride;
        to[at..at + STEP].copy_from_slice(&field.change.of(*from));
    }
}

/// The inverse of [`pack_panel`] for one row.
fn unpack_row(dtype: DType, n_in: usize, panel: &[u8], r: usize, row: &mut [u8]) {
    let (blocks, fields) = fields(dtype, n_in);
    for field in &fields {
        for block in 0..blocks {
            let to = &mut row[block * dtype.block_bytes() + field.file..][..field.bytes];
            let from = &panel[(field.panel)(block)..];
            for (unit, to) in to.chunks_exact_mut(field.step).enumerate() {
                let at = (unit * PANEL_ROWS + r) * field.stride;
                to.copy_from_slice(&from[at..at + field.step]);
                field.change.undo(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_moves_every_byte_and_loses_none() {
        let pool = Pool::new(2);
        for dtype in DType::ALL
            .iter()
            .copied()
            .filter(|&dtype| quant::is_computed(dtype))
        {
            for (n_out, blocks) in [(1, 1), (16, 2), (37, 3), (20, 4)] {
                let n_in = dtype.block_len() * blocks;
                let row_bytes = dtype.row_bytes(n_in).unwrap();
                let rows: Vec<u8> = (0..n_out * row_bytes)
                    .map(|i| (i * 37 % 251) as u8)
                    .collect();
                let packed = PackedMatrix::from_rows(&pool, dtype, n_out, n_in, &rows);
                let mut row = vec![0; row_bytes];
                for (r, want) in rows.chunks_exact(row_bytes).enumerate() {
                    unpack_row(
                        dtype,
                        n_in,
                        packed.panels(r / PANEL_ROWS, 1),
                        r % PANEL_ROWS,
                        &mut row,
                    );
                    assert_eq!(row, want, "{dtype} row {r} of {n_out}");
                }
            }
        }
    }

    #[test]
    fn a_failed_read_is_returned() {
        let pool = Pool::new(2);
        let result = PackedMatrix::pack(&pool, DType::F32, 4096, 1024, |first, _| {
            if first >= 2048 { Err(first) } else { Ok(()) }
        });
        assert!(result.unwrap_err() >= 2048);
    }
}
