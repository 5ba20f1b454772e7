//! What the GPU could do at best: bytes read per second by working set, operations per second of each kind of
//! arithmetic, what a dispatch and a submission cost, how fast bytes come and go.
//!
//! Measurements and not kernels: no step runs any of this. Plans and reports hold what a step reached against it.

mod course;
mod stopwatch;
mod transfer;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use troika_base::Bytes;
use troika_device::{Cancelled, Error};

use crate::kernels::Roof;
use crate::{Buffer, Gpu, Tile};

use course::Course;
use stopwatch::{Stopwatch, Work};

/// Samples of one quantity, in the order in which they were taken. There is at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// All of them.
    pub fn samples(&self) -> &[f64] {
        &self.0
    }

    /// Half of the samples are above.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Multiply-adds of f32.
    F32,
    /// Multiply-adds of f16.
    F16,
    /// Dot products of four signed bytes, summed up in 32 bits.
    Dot4,
    /// Cooperative matrices.
    Tile(Tile),
}

/// What a GPU showed.
#[derive(Clone, Debug)]
pub struct Roofline {
    /// 10⁹ bytes a second read again and again, by working set: the small ones lie in a cache, the largest does not.
    pub read_gbs: Vec<(Bytes, Series)>,
    /// 10⁹ bytes a second of a copy within its memory, what is read and what is written together.
    pub copy_gbs: Series,
    /// 10⁹ bytes a second where 64 bytes are read here and there.
    pub gather_gbs: Series,
    /// 10¹² operations a second; a multiply-add counts as two.
    pub tops: Vec<(Arithmetic, Series)>,
    /// Microseconds from a dispatch of next to nothing to the next one, which waits for it.
    pub dispatch_us: Series,
    /// Microseconds until a submission of next to nothing is known to be done.
    pub submit_us: Series,
    /// Microseconds that the CPU needs to record a dispatch and to hand it over.
    pub record_us: Series,
    /// 10⁹ bytes a second from the host.
    pub upload_gbs: Series,
    /// 10⁹ bytes a second to the host.
    pub download_gbs: Series,
    /// Whether the GPU's own clock told the times of kernels; the host's otherwise, less what a submission takes.
    pub stamped: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// About how long all of it takes. Compiling kernels comes on top.
    pub time: Duration,
    /// The largest working set, where so much fits.
    pub bytes: Bytes,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            bytes: Bytes(1 << 30),
        }
    }
}

/// Told how far the work is (0 to 1) and what is being done; may stop it.
pub type Watch<'w> = dyn FnMut(f64, &str) -> ControlFlow<Cancelled> + 'w;

/// The smallest working set.
const SMALLEST: u64 = 1 << 20;

/// From one working set to the next.
const STEP: u64 = 4;

/// A program on the CPU reads as the CPU does: more than this tells no more.
const SOFTWARE_BYTES: u64 = 16 << 20;

/// Workgroups that fill any GPU several times over.
const GROUPS: u32 = 4096;
const SOFTWARE_GROUPS: u32 = 64;

/// Measures a GPU that has nothing else to do. Medians count: clocks go up and down, and others may want it too.
///
/// # Errors
/// [`Error::Interrupted`] if `watch` says so, [`Error::OutOfMemory`] if not even a few MiB are free, and
/// [`Error::Failed`].
pub fn measure(gpu: &Arc<Gpu>, effort: Effort, watch: &mut Watch<'_>) -> Result<Roofline, Error> {
    let arithmetic = arithmetic(gpu);
    let mut sets = working_sets(gpu, effort.bytes);
    let stopwatch = Stopwatch::new(gpu)?;
    let memory = take(gpu, &mut sets)?;
    let n_part = sets.len() + arithmetic.len() + 7;
    let mut course = Course::new(effort.time, n_part, watch);
    let bench = Bench {
        gpu,
        stopwatch,
        groups: match gpu.caps().software {
            true => SOFTWARE_GROUPS,
            false => GROUPS,
        },
    };
    bench.fill(&memory)?;
    // Arithmetic comes first: it takes clocks up to where they stay.
    let tops = arithmetic
        .into_iter()
        .map(|kind| Ok((kind, bench.tops(kind, &memory, &mut course)?)))
        .collect::<Result<_, Error>>()?;
    let largest = *sets.last().expect("one set at least. This is a bug.");
    let read_gbs = sets
        .into_iter()
        .map(|set| Ok((set, bench.moved(Roof::Read, set, &memory, &mut course)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Roofline {
        tops,
        read_gbs,
        copy_gbs: bench.moved(Roof::Copy, largest, &memory, &mut course)?,
        gather_gbs: bench.moved(Roof::Gather, largest, &memory, &mut course)?,
        dispatch_us: bench.dispatch_us(&memory, &mut course)?,
        submit_us: bench.submit_us(&mut course)?,
        record_us: transfer::record_us(gpu, &memory.target, &mut course)?,
        upload_gbs: transfer::upload_gbs(gpu, &memory.source, &mut course)?,
        download_gbs: transfer::download_gbs(gpu, &memory.source, &mut course)?,
        stamped: bench.stopwatch.is_stamped(),
    })
}

/// What there is to compute with.
fn arithmetic(gpu: &Gpu) -> Vec<Arithmetic> {
    let caps = gpu.caps();
    let half = caps.f16.then_some(Arithmetic::F16);
    let tiles = caps.tiles.iter().copied().map(Arithmetic::Tile);
    [Arithmetic::F32]
        .into_iter()
        .chain(half)
        .chain([Arithmetic::Dot4])
        .chain(tiles)
        .collect()
}

/// Powers of two, the largest last: what a kernel can see of a buffer at once, and the caller wants.
fn working_sets(gpu: &Gpu, wanted: Bytes) -> Vec<Bytes> {
    let caps = gpu.caps();
    let software = if caps.software {
        SOFTWARE_BYTES
    } else {
        u64::MAX
    };
    let most = wanted
        .0
        .min(caps.binding.0)
        .min(caps.buffer.0)
        .min(software);
    let largest = 1 << most.max(SMALLEST).ilog2();
    let smaller = std::iter::successors(Some(SMALLEST), |set| Some(set * STEP));
    let smaller = smaller.take_while(|&set| set < largest);
    smaller.chain([largest]).map(Bytes).collect()
}

/// Buffers that are read and written.
struct Memory {
    source: Buffer,
    target: Buffer,
}

/// Takes as much as the largest working set needs, or as there is.
fn take(gpu: &Gpu, sets: &mut Vec<Bytes>) -> Result<Memory, Error> {
    loop {
        let largest = sets.last().map_or(SMALLEST, |set| set.0);
        let buffer = |bytes: u64| gpu.buffer(bytes as usize, "measuring");
        match (buffer(largest), buffer(largest / 2)) {
            (Ok(source), Ok(target)) => return Ok(Memory { source, target }),
            (Err(error), _) | (_, Err(error)) if sets.len() <= 1 => return Err(error),
            _ => sets.pop(),
        };
    }
}

struct Bench<'g> {
    gpu: &'g Arc<Gpu>,
    stopwatch: Stopwatch,
    groups: u32,
}

impl Bench<'_> {
    fn fill(&self, memory: &Memory) -> Result<(), Error> {
        for buffer in [&memory.source, &memory.target] {
            let n_vec = buffer.bytes().0 / 16;
            let groups = n_vec.div_ceil(Roof::SIZE) as u32;
            let work = Work {
                key: Roof::Fill,
                buffers: vec![buffer],
                params: vec![n_vec as u32],
                grid: crate::kernels::flat(groups),
            };
            self.stopwatch.time(&work, 1)?;
        }
        Ok(())
    }

    /// 10⁹ bytes a second of a kernel that goes through so many bytes of the source.
    fn moved(
        &self,
        key: Roof,
        set: Bytes,
        memory: &Memory,
        course: &mut Course<'_, '_>,
    ) -> Result<Series, Error> {
        // What is copied is read and written, and comes to the working set together.
        let (n_piece, what) = match key {
            Roof::Copy => (set.0 / 2 / Roof::PIECE, "copying".to_owned()),
            Roof::Gather => (set.0 / Roof::PIECE, "reading here and there".to_owned()),
            _ => (set.0 / Roof::PIECE, format!("reading {set}")),
        };
        let groups = self.groups;
        // Rounds in one dispatch: a small set is read in less time than a dispatch takes. Workgroups share all rounds, so
        // that a small set keeps the whole GPU busy as well.
        let once = |rounds: u32| {
            let visits = n_piece as u32 * rounds;
            let work = Work {
                key,
                buffers: vec![&memory.target, &memory.source],
                params: vec![visits, groups, n_piece as u32 - 1],
                grid: [groups, 1, 1],
            };
            self.stopwatch.time(&work, 1)
        };
        course.series(&what, once, |rounds, seconds| {
            set.0 as f64 * rounds / seconds / 1e9
        })
    }

    /// 10¹² operations a second.
    fn tops(
        &self,
        kind: Arithmetic,
        memory: &Memory,
        course: &mut Course<'_, '_>,
    ) -> Result<Series, Error> {
        let (key, what) = match kind {
            Arithmetic::F32 => (Roof::Fma { half: false }, "f32".to_owned()),
            Arithmetic::F16 => (Roof::Fma { half: true }, "f16".to_owned()),
            Arithmetic::Dot4 => (Roof::Dp4a, "dot products of bytes".to_owned()),
            Arithmetic::Tile(tile) => {
                let what = format!("matrices, {tile}");
                (Roof::Tile(tile), what)
            }
        };
        let once = |rounds: u32| {
            let work = Work {
                key,
                buffers: vec![&memory.target],
                params: vec![rounds],
                grid: [self.groups, 1, 1],
            };
            self.stopwatch.time(&work, 1)
        };
        once(1)?;
        let per_group = match kind {
            Arithmetic::Tile(tile) => {
                let n_subgroup = transfer::first_word(self.gpu, &memory.target)?;
                let product = 2 * u64::from(tile.size).pow(3);
                Roof::PRODUCTS_PER_ROUND * product * u64::from(n_subgroup)
            }
            _ => Roof::OPS_PER_ROUND * Roof::SIZE,
        };
        let per_round = (u64::from(self.groups) * per_group) as f64;
        course.series(&what, once, |rounds, seconds| {
            per_round * rounds / seconds / 1e12
        })
    }

    /// Microseconds from one dispatch to the next that waits for it.
    fn dispatch_us(&self, memory: &Memory, course: &mut Course<'_, '_>) -> Result<Series, Error> {
        let once = |rounds| {
            let work = step(memory);
            self.stopwatch.time(&work, rounds)
        };
        course.series("dispatches", once, micros)
    }

    /// Microseconds from a submission to the knowledge that it is done.
    fn submit_us(&self, course: &mut Course<'_, '_>) -> Result<Series, Error> {
        let once = |rounds: u32| {
            let each = (0..rounds).map(|_| self.stopwatch.empty());
            each.sum::<Result<Duration, Error>>()
        };
        course.series("submissions", once, micros)
    }
}

/// Next to nothing.
fn step(memory: &Memory) -> Work<'_> {
    Work {
        key: Roof::Step,
        buffers: vec![&memory.target],
        params: vec![1],
        grid: [1, 1, 1],
    }
}

/// Microseconds of a round.
fn micros(rounds: f64, seconds: f64) -> f64 {
    seconds / rounds * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_samples_are_above_the_median() {
        let median = |samples: &[f64]| Series(samples.to_vec()).median();
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), 3.0);
    }
}
