//! Weight matrices on the GPU: repacked for wide reads, and in windows that a kernel can see at once.
//!
//! Blocks of 18 or 210 bytes, as files have them, defeat reads of 16. So quants and scales stand in planes of their own;
//! [`Format`] says how. Nothing is computed here, and nothing is rounded: the weights are those of the file.

mod embed;
mod format;
mod repack;

use std::ops::Range;
use std::sync::Arc;

use troika_base::{Bytes, DType};
use troika_device::Error;
use troika_gguf::{ModelFile, TensorInfo};

use crate::{Buffer, Gpu};

pub use embed::{Embed, embed};
pub(crate) use format::EIGHT;
pub use format::{Format, GROUP};

/// Some rows of a matrix, in buffers that one kernel can see.
#[derive(Debug)]
pub struct Window {
    /// Which rows of the matrix.
    pub rows: Range<usize>,
    /// The plane of quants.
    pub quants: Buffer,
    /// The plane of scales. For floats there are none, and this is small and never read.
    pub scales: Buffer,
}

/// A weight matrix `[n_out, n_in]`.
///
/// Group `k` of 32 weights of row `r` of a window has the number `r * groups_per_row + k`. The last group of a row of
/// floats is filled up with zeros.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    n_out: usize,
    n_in: usize,
    windows: Vec<Window>,
}

/// Bytes of a file that are read and repacked at a time.
const PIECE: usize = 16 << 20;

impl Matrix {
    /// Brings a tensor to the GPU. One of three dimensions is the matrices of all experts, one below the other. Its end may
    /// still be on its way: before anything that is recorded.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`], [`Error::Unsupported`] if rows are not whole vectors, [`Error::File`] if it cannot
    /// be read, [`Error::OutOfMemory`], and [`Error::Failed`].
    pub fn load(gpu: &Arc<Gpu>, file: &ModelFile, tensor: &TensorInfo) -> Result<Self, Error> {
        let caps = gpu.caps();
        Self::load_in_windows(gpu, file, tensor, caps.binding.min(caps.buffer))
    }

    /// The same, with planes of at most so many bytes. A window has eight rows at least.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_in_windows(
        gpu: &Arc<Gpu>,
        file: &ModelFile,
        tensor: &TensorInfo,
        most: Bytes,
    ) -> Result<Self, Error> {
        let mut matrix = Self::shaped(gpu, file, tensor)?;
        let step = matrix.rows_within(most);
        for first in (0..matrix.n_out).step_by(step) {
            let rows = first..(first + step).min(matrix.n_out);
            let window = matrix.window(gpu, &tensor.name, rows)?;
            matrix.fill(gpu, file, tensor, &window)?;
            matrix.windows.push(window);
        }
        Ok(matrix)
    }

    /// A matrix of zeros, for measuring.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn blank(
        gpu: &Arc<Gpu>,
        format: Format,
        n_out: usize,
        n_in: usize,
    ) -> Result<Self, Error> {
        let mut matrix = Self {
            format,
            n_out,
            n_in,
            windows: Vec::new(),
        };
        let caps = gpu.caps();
        let step = matrix.rows_within(caps.binding.min(caps.buffer));
        for first in (0..n_out).step_by(step) {
            let rows = first..(first + step).min(n_out);
            let window = matrix.window(gpu, "measuring", rows)?;
            matrix.windows.push(window);
        }
        Ok(matrix)
    }

    /// Rows of a window whose planes have at most so many bytes: eight at least.
    fn rows_within(&self, most: Bytes) -> usize {
        // Windows begin with a whole eight of groups, so that each can be read on its own.
        let layout = self.format.layout();
        let plane = self.groups_per_row() * layout.quants().max(layout.scales);
        let most = usize::try_from(most.0).unwrap_or(usize::MAX);
        (most / plane).max(1) * EIGHT
    }

    /// How kernels read a tensor.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if they do not.
    pub fn computes(file: &ModelFile, tensor: &TensorInfo) -> Result<Format, Error> {
        let computed = || Format::ALL.iter().map(|format| format.dtype().name());
        Format::of(tensor.dtype).ok_or_else(|| Error::UnsupportedFormat {
            model: file.name().to_owned(),
            tensor: tensor.name.clone(),
            dtype: tensor.dtype,
            computed: computed().collect::<Vec<_>>().join(", "),
        })
    }

    /// Memory that a tensor of this format and shape takes on a GPU; `None` if its format is not computed.
    pub fn bytes_of(tensor: &TensorInfo) -> Option<Bytes> {
        let layout = Format::of(tensor.dtype)?.layout();
        let groups = tensor.row_len().div_ceil(GROUP as u64) * tensor.n_rows();
        let eights = groups.div_ceil(EIGHT as u64);
        Some(Bytes(eights * (layout.quants() + layout.scales) as u64))
    }

    /// The matrix without its windows.
    fn shaped(gpu: &Gpu, file: &ModelFile, tensor: &TensorInfo) -> Result<Self, Error> {
        let format = Self::computes(file, tensor)?;
        let refuse = |reason| Error::Unsupported {
            model: file.name().to_owned(),
            device: gpu.name().to_owned(),
            reason,
        };
        let size = |n: u64| {
            // Kernels count in 32 bits.
            u32::try_from(n)
                .map(|n| n as usize)
                .map_err(|_| refuse(format!("tensor `{}` is too large", tensor.name)))
        };
        let (n_out, n_in) = (size(tensor.n_rows())?, size(tensor.row_len())?);
        if n_in % 4 != 0 {
            return Err(refuse(format!(
                "rows of tensor `{}` have {n_in} values, and not whole fours",
                tensor.name
            )));
        }
        Ok(Self {
            format,
            n_out,
            n_in,
            windows: Vec::new(),
        })
    }

    fn window(&self, gpu: &Gpu, purpose: &str, rows: Range<usize>) -> Result<Window, Error> {
        let n_eight = (rows.len() * self.groups_per_row()).div_ceil(EIGHT);
        let layout = self.format.layout();
        Ok(Window {
            rows,
            quants: gpu.buffer(n_eight * layout.quants(), purpose)?,
            scales: gpu.buffer(n_eight * layout.scales, purpose)?,
        })
    }

    /// Has the rows of a window on their way from the file, a piece at a time.
    fn fill(
        &self,
        gpu: &Gpu,
        file: &ModelFile,
        tensor: &TensorInfo,
        window: &Window,
    ) -> Result<(), Error> {
        let layout = self.format.layout();
        let dtype = self.format.dtype();
        let row_bytes = dtype.row_bytes(self.n_in).expect("checked by the file");
        let padded_bytes = dtype
            .row_bytes(self.groups_per_row() * GROUP)
            .expect("floats, or whole blocks as above");
        let step = (PIECE / row_bytes / EIGHT).max(1) * EIGHT;
        let (mut raw, mut padded) = (Vec::new(), Vec::new());
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        for first in window.rows.clone().step_by(step) {
            let n_row = step.min(window.rows.end - first);
            raw.resize(n_row * row_bytes, 0);
            file.read(tensor, (first * row_bytes) as u64, &mut raw)?;
            let n_eight = (n_row * self.groups_per_row()).div_ceil(EIGHT);
            padded.clear();
            padded.resize(n_eight * repack::file_bytes(self.format), 0);
            for (to, from) in padded
                .chunks_mut(padded_bytes)
                .zip(raw.chunks_exact(row_bytes))
            {
                to[..row_bytes].copy_from_slice(from);
            }
            quants.resize(n_eight * layout.quants(), 0);
            scales.resize(n_eight * layout.scales, 0);
            repack::repack(self.format, &padded, &mut quants, &mut scales);
            let eights_before = (first - window.rows.start) * self.groups_per_row() / EIGHT;
            gpu.upload(&window.quants, eights_before * layout.quants(), &quants)?;
            gpu.upload(&window.scales, eights_before * layout.scales, &scales)?;
        }
        Ok(())
    }

    /// Number format in the file.
    pub fn dtype(&self) -> DType {
        self.format.dtype()
    }

    /// How kernels read it.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Weights of a row.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Groups of 32 in a row.
    pub fn groups_per_row(&self) -> usize {
        self.n_in.div_ceil(GROUP)
    }

    /// Its rows in order, by what a kernel can see at once.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Memory that it takes on the GPU.
    pub fn bytes(&self) -> Bytes {
        let bytes = self
            .windows
            .iter()
            .map(|window| window.quants.bytes().0 + window.scales.bytes().0);
        Bytes(bytes.sum())
    }
}
