//! What this machine could do at best: bytes read from memory per second, and operations per second of the kernels'
//! inner loops on operands that lie in the cache.
//!
//! Measurements and not kernels: no step runs any of this. Reports hold what a step reached against it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use troika_base::DType;

use crate::activations::{QuantizedActivations, TILE_TOKENS, Tile};
use crate::buffer::AlignedBuf;
use crate::dispatch::Kernels;
use crate::matmul::GEMM_PANELS;
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::Pool;
use crate::quant;
use crate::unpacked::Unpacked;

/// Far more than any cache holds, so that every byte comes from memory.
const MEMORY_BYTES: usize = 1 << 30;

/// Bytes of a stream that are read at a time.
const PIECE: usize = 256;

/// Places of its part that a thread reads from in turn. One stream keeps only a few reads on their way.
const STREAMS: [usize; 5] = [1, 2, 4, 8, 16];

/// How far ahead of a stream the cache is told; 0 leaves it to the processor.
const PREFETCH_BYTES: [usize; 4] = [0, 1024, 2048, 4096];

/// The fastest that memory was read, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Bytes per second, all threads together.
    pub bytes_per_s: f64,
    /// Threads that read: more than needed get in each other's way.
    pub threads: usize,
    /// Streams of each thread.
    pub streams: usize,
    /// How far ahead of a stream it prefetches.
    pub prefetch_bytes: usize,
}

/// Searches for the fastest way to read memory: threads, streams per thread, prefetch distance. Takes seconds, and a
/// gigabyte of memory on huge pages where the system grants them.
pub fn read_bandwidth(pool: &Pool) -> Bandwidth {
    let mut memory = AlignedBuf::zeroed(MEMORY_BYTES);
    // Memory that was never written is one page of zeros, and comes from the cache.
    pool.for_each_chunk(&mut memory, 2 << 20, |_, chunk| chunk.fill(1));
    search(pool, &memory)
}

/// Tries every way once, and the best few of them again.
fn search(pool: &Pool, memory: &[u8]) -> Bandwidth {
    const FINALISTS: usize = 4;
    const ROUNDS: usize = 5;
    let mut tried: Vec<Bandwidth> = Vec::new();
    for threads in thread_counts(pool.threads()) {
        for streams in STREAMS {
            for prefetch_bytes in PREFETCH_BYTES {
                tried.push(read_once(pool, memory, threads, streams, prefetch_bytes));
            }
        }
    }
    tried.sort_by(|a, b| b.bytes_per_s.total_cmp(&a.bytes_per_s));
    tried.truncate(FINALISTS);
    for _ in 0..ROUNDS {
        for best in &mut tried {
            let again = read_once(
                pool,
                memory,
                best.threads,
                best.streams,
                best.prefetch_bytes,
            );
            best.bytes_per_s = best.bytes_per_s.max(again.bytes_per_s);
        }
    }
    tried
        .into_iter()
        .max_by(|a, b| a.bytes_per_s.total_cmp(&b.bytes_per_s))
        .expect("at least one way was tried. This is a bug.")
}

/// 1, 2, 4, ... and all.
fn thread_counts(all: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |n| Some(n * 2));
    powers.take_while(move |&n| n < all).chain([all])
}

/// Reads all of `memory` once.
fn read_once(
    pool: &Pool,
    memory: &[u8],
    threads: usize,
    streams: usize,
    prefetch_bytes: usize,
) -> Bandwidth {
    let per_thread = memory.len() / threads / (streams * PIECE) * (streams * PIECE);
    let start = Instant::now();
    pool.run(|thread| {
        if thread < threads {
            let part = &memory[thread * per_thread..][..per_thread];
            black_box(match streams {
                1 => sum::<1>(part, prefetch_bytes),
                2 => sum::<2>(part, prefetch_bytes),
                4 => sum::<4>(part, prefetch_bytes),
                8 => sum::<8>(part, prefetch_bytes),
                _ => sum::<16>(part, prefetch_bytes),
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    Bandwidth {
        bytes_per_s: (per_thread * threads) as f64 / seconds,
        threads,
        streams,
        prefetch_bytes,
    }
}

/// Sums 64-bit words from `S` places in turn. The compiler's 16-byte loads are enough: memory is slower than any loop.
fn sum<const S: usize>(part: &[u8], prefetch_bytes: usize) -> u64 {
    const WORDS: usize = PIECE / 8;
    let words: &[u64] = bytemuck::cast_slice(part);
    let pieces = words.as_chunks::<WORDS>().0;
    let per_stream = pieces.len() / S;
    let mut sums = [0u64; 8];
    for index in 0..per_stream {
        for stream in 0..S {
            let piece = &pieces[stream * per_stream + index];
            if prefetch_bytes > 0 {
                prefetch(piece, prefetch_bytes);
            }
            for line in piece.as_chunks::<8>().0 {
                for (sum, word) in sums.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(*word);
                }
            }
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

/// Tells the cache of the piece that stands `ahead` bytes after this one.
#[inline(always)]
fn prefetch(piece: &[u64], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start: *const i8 = piece.as_ptr().cast();
        for line in (0..PIECE).step_by(64) {
            // SAFETY: a prefetch of any address is allowed, and every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(ahead + line)) }
        }
    }
    // Elsewhere the instruction is not stable in Rust.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (piece, ahead);
}

/// Columns of the matrix that is multiplied: it and a tile of activations lie in the cache nearest to the core.
const PEAK_N_IN: usize = 1024;

/// How long the inner loop runs at a time, and how often that is tried.
const PEAK_TIME: Duration = Duration::from_millis(20);
const PEAK_ROUNDS: usize = 5;

/// Operations per second (a multiplication and an addition are two) that the inner loop of this kernel set reaches
/// with weights of this format, on all threads, when everything lies in the cache. `None` if the format is not
/// computed.
pub fn matrix_peak(kernels: &Kernels, pool: &Pool, dtype: DType) -> Option<f64> {
    let rows = peak_rows(dtype)?;
    let w = PackedMatrix::from_rows(&Pool::new(1), dtype, PANEL_ROWS, PEAK_N_IN, &rows);
    let is_float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let loops = |for_at_least: Duration| match is_float {
        true => float_loops(kernels, &w, for_at_least),
        false => integer_loops(kernels, &w, for_at_least),
    };
    let ops_per_loop = (2 * PANEL_ROWS * TILE_TOKENS * PEAK_N_IN) as f64;
    let mut best = 0.0f64;
    for _ in 0..PEAK_ROUNDS {
        let rates = std::sync::Mutex::new(0.0);
        pool.run(|_| {
            let start = Instant::now();
            let loops = loops(PEAK_TIME);
            let rate = loops as f64 / start.elapsed().as_secs_f64();
            *rates
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) += rate;
        });
        let rate = rates
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        best = best.max(rate * ops_per_loop);
    }
    Some(best)
}

/// Values of all sizes, as weights have them.
fn wave(len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(|i| ((i * 31 % 97) as f32 - 48.0) / 48.0)
}

/// A panel's rows in the file's format.
fn peak_rows(dtype: DType) -> Option<Vec<u8>> {
    if !quant::is_computed(dtype) {
        return None;
    }
    let values: Vec<f32> = wave(PEAK_N_IN).collect();
    let mut row = vec![0; dtype.row_bytes(PEAK_N_IN)?];
    quant::quantize_row(dtype, &values, &mut row).ok()?;
    Some(row.repeat(PANEL_ROWS))
}

/// How often a panel taken apart was multiplied with a full tile.
fn integer_loops(kernels: &Kernels, w: &PackedMatrix, for_at_least: Duration) -> usize {
    let unpacked = [(); GEMM_PANELS].map(|()| {
        let mut unpacked = Unpacked::new(PEAK_N_IN, kernels.unpacked_weight_bytes);
        kernels.unpack(w.dtype(), w.panels(0, 1), PEAK_N_IN, &mut unpacked);
        unpacked
    });
    let mut x = QuantizedActivations::default();
    x.resize(TILE_TOKENS, PEAK_N_IN);
    for (q, value) in x.q.iter_mut().zip(wave(TILE_TOKENS * PEAK_N_IN)) {
        *q = (value * 127.0) as i8;
    }
    x.scale.fill(0.01);
    let tile = x.tile(Tile {
        start: 0,
        len: TILE_TOKENS,
    });
    let mut out = [0.0; GEMM_PANELS * TILE_TOKENS * PANEL_ROWS];
    GEMM_PANELS
        * count_until(for_at_least, || {
            kernels.gemm(w.dtype(), &unpacked, PEAK_N_IN, tile, &mut out);
            black_box(&mut out);
        })
}

/// How often a panel of floats was multiplied with a full tile.
fn float_loops(kernels: &Kernels, w: &PackedMatrix, for_at_least: Duration) -> usize {
    let x: Vec<f32> = wave(TILE_TOKENS * PEAK_N_IN).collect();
    let mut out = [0.0; TILE_TOKENS * PANEL_ROWS];
    count_until(for_at_least, || {
        let panel = w.panels(0, 1);
        kernels.product(w.dtype(), panel, 1, PEAK_N_IN, &x, TILE_TOKENS, &mut out);
        black_box(&mut out);
    })
}

/// Repeats `work`, and looks at the clock after every few times only.
fn count_until(time: Duration, mut work: impl FnMut()) -> usize {
    const BETWEEN_LOOKS: usize = 8;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        for _ in 0..BETWEEN_LOOKS {
            work();
        }
        count += BETWEEN_LOOKS;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        let memory: Vec<u8> = (0..16 * PIECE * 3).map(|i| (i % 251) as u8).collect();
        let mut aligned = AlignedBuf::zeroed(memory.len());
        aligned.copy_from_slice(&memory);
        let want: u64 = bytemuck::cast_slice::<u8, u64>(&aligned)
            .iter()
            .fold(0, |sum, &word| sum.wrapping_add(word));
        for ahead in PREFETCH_BYTES {
            assert_eq!(sum::<1>(&aligned, ahead), want);
            assert_eq!(sum::<8>(&aligned, ahead), want);
            assert_eq!(sum::<16>(&aligned, ahead), want);
        }
    }

    #[test]
    fn a_way_to_read_is_found() {
        let pool = Pool::new(2);
        let found = search(&pool, &AlignedBuf::zeroed(1 << 20));
        assert!(found.bytes_per_s.is_finite() && found.bytes_per_s > 0.0);
        assert!(STREAMS.contains(&found.streams));
        assert_eq!(thread_counts(1).collect::<Vec<_>>(), [1]);
        assert_eq!(thread_counts(6).collect::<Vec<_>>(), [1, 2, 4, 6]);
    }

    #[test]
    fn every_computed_format_has_a_peak() {
        let pool = Pool::new(1);
        let kernels = Kernels::all();
        let kernels = kernels.last().expect("the scalar set is always there");
        for &dtype in DType::ALL {
            let peak = matrix_peak(kernels, &pool, dtype);
            assert_eq!(peak.is_some(), quant::is_computed(dtype), "{dtype}");
            assert!(peak.is_none_or(|peak| peak > 0.0), "{dtype}");
        }
    }
}
