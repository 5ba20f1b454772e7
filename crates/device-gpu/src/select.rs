//! The largest values of rows, found on the GPU: a greedy token's id never leaves it, and a sampler's candidates are a
//! few bytes.

use troika_device::Error;

use crate::buffer::ScratchBuffer;
use crate::kernels::Select;
use crate::{Bind, Buffer, Key, Recorder, Scratch, Tensor};

/// What was chosen: `k` values of each row, largest first, the lower id first among equals. Values that are no number
/// come before all others.
#[derive(Debug)]
pub struct Top {
    /// Ids `[n_row, k]` u32, then values `[n_row, k]` f32.
    buffer: ScratchBuffer,
    n_row: usize,
    k: usize,
}

/// A value, and where in its row it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its place in the row.
    pub id: u32,
    /// The value.
    pub value: f32,
}

/// Values of a row that can be asked for, at most.
pub const TOP_MAX: usize = 64;

/// The `k` largest values of each row of `logits`.
///
/// # Errors
/// [`Error::OutOfMemory`], and [`Error::Failed`] if the kernel does not compile.
///
/// # Panics
/// If `k` is 0, above [`TOP_MAX`], or more than a row has.
pub fn top_k(
    recorder: &mut Recorder,
    scratch: &Scratch,
    logits: &Tensor,
    k: usize,
) -> Result<Top, Error> {
    assert!((1..=TOP_MAX.min(logits.width())).contains(&k), "k is {k}");
    let n_row = logits.n_tok();
    let mut n = logits.width();
    let mut top = choose(recorder, scratch, logits.bind(), false, [n, n_row, k])?;
    // What is left of each chunk is chosen from again, until one chunk holds it.
    while n > Select::CHUNK {
        n = n.div_ceil(Select::CHUNK) * k;
        let chosen = Bind::whole(&top.buffer);
        top = choose(recorder, scratch, chosen, true, [n, n_row, k])?;
    }
    Ok(top)
}

/// The largest value of each row of `logits`.
///
/// # Errors
/// As [`top_k`].
pub fn argmax(recorder: &mut Recorder, scratch: &Scratch, logits: &Tensor) -> Result<Top, Error> {
    top_k(recorder, scratch, logits, 1)
}

fn choose(
    recorder: &mut Recorder,
    scratch: &Scratch,
    values: Bind<'_>,
    chosen: bool,
    [n, n_row, k]: [usize; 3],
) -> Result<Top, Error> {
    let n_out = n_row * n.div_ceil(Select::CHUNK) * k;
    let buffer = scratch.take(2 * n_out * size_of::<u32>())?;
    let key = Key::Select(Select::on(recorder.gpu().caps(), chosen));
    let params = [n, n_row, k].map(|size| size as u32);
    let binds = [Bind::whole(&buffer), values];
    recorder.dispatch(key, &binds, &params, Select::grid(n_row, n))?;
    Ok(Top { buffer, n_row, k })
}

impl Top {
    /// The ids `[n_row, k]`, u32, from the beginning of this buffer on. With `k` = 1 they are the next step's tokens.
    pub fn ids(&self) -> &Buffer {
        &self.buffer
    }

    /// Brings them to the host, row by row.
    ///
    /// # Errors
    /// [`Error::Failed`] if the GPU failed in anything that led here.
    pub fn read(&self, recorder: &mut Recorder) -> Result<Vec<Vec<Chosen>>, Error> {
        let n = self.n_row * self.k;
        let bytes = recorder.read(&self.buffer, 0..2 * n * size_of::<u32>())?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        let (ids, values) = words.split_at(n);
        let chosen = |(&id, &bits): (&u32, &u32)| Chosen {
            id,
            value: f32::from_bits(bits),
        };
        let all: Vec<Chosen> = ids.iter().zip(values).map(chosen).collect();
        Ok(all.chunks(self.k).map(<[Chosen]>::to_vec).collect())
    }
}
