//! Products of matrices that are nobody's, timed on the GPU.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_base::Bytes;
use troika_device::Error;

use super::{Shape, Stopwatch};
use crate::matmul::{Tuning, multiply};
use crate::weights::Format;
use crate::{Buffer, Gpu, Matrix, Recorder, Scratch, Tensor};

/// Takes the time of products on one GPU.
#[derive(Debug)]
pub struct Products {
    gpu: Arc<Gpu>,
    recorder: Recorder,
    scratch: Scratch,
    /// Matrices of each shape: so many that none is in a cache when its turn comes.
    matrices: Vec<(Shape, Vec<Matrix>)>,
    begun: Instant,
    limit: Duration,
}

/// Weights that are read in turn before the first come again: more than any cache holds.
const WORKING_SET: u64 = 256 << 20;

/// A product is repeated until it has taken so long, so that what goes before and after does not count.
const LONG_ENOUGH: Duration = Duration::from_millis(4);

/// Times are the least of so many.
const ROUNDS: usize = 3;

impl Products {
    /// Makes matrices of these shapes. The search is over when `limit` has passed from now on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for one of each.
    pub fn new(gpu: &Arc<Gpu>, shapes: &[Shape], limit: Duration) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut recorder = Recorder::new(Arc::clone(gpu));
        let share = match gpu.caps().software {
            true => 0,
            false => WORKING_SET / shapes.len().max(1) as u64,
        };
        let mut matrices = Vec::new();
        for &shape in shapes {
            let mut alike = vec![noise_matrix(&mut recorder, shape)?];
            while (alike.len() as u64 + 1) * alike[0].bytes().0 <= share {
                match noise_matrix(&mut recorder, shape) {
                    Ok(another) => alike.push(another),
                    // A card that is nearly full is timed with what fits.
                    Err(Error::OutOfMemory { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
            matrices.push((shape, alike));
        }
        Ok(Self {
            gpu: Arc::clone(gpu),
            scratch: Scratch::new(Arc::clone(gpu)),
            recorder,
            matrices,
            begun,
            limit,
        })
    }

    /// Time since it was made.
    pub fn spent(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Memory of a matrix of this shape.
    ///
    /// # Panics
    /// If it is none of those that this was made with.
    pub fn bytes(&self, shape: &Shape) -> Bytes {
        self.matrices[self.of(shape)].1[0].bytes()
    }

    fn of(&self, shape: &Shape) -> usize {
        let of = self.matrices.iter().position(|(known, _)| known == shape);
        of.expect("the caller asks for the shapes that it gave")
    }

    /// The time of `n` products in a row, from the first word to the driver to the last answer.
    fn run(
        &mut self,
        tuning: &Tuning,
        of: usize,
        (x, y): (&Tensor, &Tensor),
        n: usize,
    ) -> Result<Duration, Error> {
        let begun = Instant::now();
        let (_, matrices) = &self.matrices[of];
        for w in matrices.iter().cycle().take(n) {
            multiply(&mut self.recorder, &self.scratch, tuning, x, w, y, false)?;
        }
        self.recorder.submit();
        self.gpu.wait()?;
        Ok(begun.elapsed())
    }

    fn least(&mut self, tuning: &Tuning, of: usize, n_tok: usize) -> Result<Duration, Error> {
        let (shape, _) = self.matrices[of];
        let x = Tensor::new(&self.scratch, n_tok, shape.n_in)?;
        let y = Tensor::new(&self.scratch, n_tok, shape.n_out)?;
        self.gpu.write(x.buffer(), 0, &vec![0x3c; x.bytes()]);
        // The first compiles.
        self.run(tuning, of, (&x, &y), 1)?;
        let mut n = 1;
        let mut time = self.run(tuning, of, (&x, &y), n)?;
        while time < LONG_ENOUGH && n < 1 << 12 {
            n *= 2;
            time = self.run(tuning, of, (&x, &y), n)?;
        }
        for _ in 1..ROUNDS {
            time = time.min(self.run(tuning, of, (&x, &y), n)?);
        }
        Ok(time / n as u32)
    }
}

impl Stopwatch for Products {
    fn time(
        &mut self,
        tuning: &Tuning,
        shape: &Shape,
        n_tok: usize,
    ) -> Result<Option<Duration>, Error> {
        let of = self.of(shape);
        match self.least(tuning, of, n_tok) {
            Ok(time) => Ok(Some(time)),
            // A kernel that this driver does not take is no way to go, and no harm either, as long as the GPU is well.
            Err(_) => self.gpu.check().map(|()| None),
        }
    }

    fn is_over(&self) -> bool {
        self.spent() >= self.limit
    }
}

/// Bytes that are made on the host; the rest is copied from them on the GPU.
const PIECE: usize = 1 << 20;

/// A matrix of weights that are nobody's: bits without a pattern that a GPU could profit from, and scales that are
/// small numbers.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn noise_matrix(recorder: &mut Recorder, shape: Shape) -> Result<Matrix, Error> {
    let gpu = Arc::clone(recorder.gpu());
    let matrix = Matrix::blank(&gpu, shape.format, shape.n_out, shape.n_in)?;
    let quants = gpu.buffer_with(&quants(shape.format), "tuning")?;
    // 0.01 as half precision, and as the exponent of a small power of two.
    let scales = gpu.buffer_with(&[0x1f, 0x21].repeat(PIECE / 2), "tuning")?;
    for window in matrix.windows() {
        fill(recorder, &quants, &window.quants);
        fill(recorder, &scales, &window.scales);
    }
    recorder.submit();
    Ok(matrix)
}

fn fill(recorder: &mut Recorder, from: &Buffer, to: &Buffer) {
    let n = usize::try_from(to.bytes().0).expect("it is in memory");
    for at in (0..n).step_by(PIECE) {
        recorder.copy(from, 0, to, at, PIECE.min(n - at));
    }
}

fn quants(format: Format) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    });
    // Floats get exponents of numbers about one: infinities would be numbers that no model has.
    let word = |word: u32| match format {
        Format::F32 => word & 0x807f_ffff | 0x3f00_0000,
        Format::BF16 => word & 0x807f_807f | 0x3f00_3f00,
        Format::F16 => word & 0x83ff_83ff | 0x3800_3800,
        _ => word,
    };
    let words = words.take(PIECE / 4);
    words.flat_map(|bits| word(bits).to_le_bytes()).collect()
}
