//! Reading: how fast, and in which way it is fastest.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{thread_counts, together};
use crate::buffer::AlignedBuf;
use crate::pool::Pool;

/// Far more than any cache holds, so that every byte comes from memory.
const MEMORY_BYTES: usize = 1 << 30;

/// Bytes of a stream that are read at a time: four cache lines.
const PIECE: usize = 256;

/// Places of its part that a thread reads from in turn. One stream keeps only a few reads on their way.
const STREAMS: [usize; 6] = [1, 2, 3, 4, 8, 16];

/// How far ahead of a stream the cache is told; 0 leaves it to the processor.
const PREFETCH_BYTES: [usize; 4] = [0, 1024, 2048, 4096];

/// A way to read a stretch of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadWay {
    /// Threads that read: more than needed get in each other's way.
    pub threads: usize,
    /// Streams of each thread.
    pub streams: usize,
    /// How far ahead of a stream it prefetches.
    pub prefetch_bytes: usize,
}

impl ReadWay {
    /// Every way that is worth a try with so many threads.
    pub fn all(threads: usize) -> impl Iterator<Item = Self> {
        STREAMS.into_iter().flat_map(move |streams| {
            PREFETCH_BYTES.into_iter().map(move |prefetch_bytes| Self {
                threads,
                streams,
                prefetch_bytes,
            })
        })
    }
}

/// The fastest that memory was read, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Bytes per second, all threads together.
    pub bytes_per_s: f64,
    /// How.
    pub way: ReadWay,
}

/// A stretch of memory to read, on huge pages where the system grants them.
#[derive(Debug)]
pub struct ReadTest {
    memory: AlignedBuf,
}

impl ReadTest {
    /// Takes `bytes` of memory and writes to all of it.
    pub fn new(pool: &Pool, bytes: usize) -> Self {
        let mut memory = AlignedBuf::zeroed(bytes);
        // Memory that was never written is one page of zeros, and comes from the cache.
        pool.for_each_chunk(&mut memory, 2 << 20, |_, chunk| chunk.fill(1));
        Self { memory }
    }

    /// Reads all of it once, and returns the bytes per second.
    ///
    /// # Panics
    /// If the way has no threads, more than the pool, or no streams.
    pub fn pass(&self, pool: &Pool, way: ReadWay) -> f64 {
        self.read(pool, way, self.memory.len() / way.threads, 1)
    }

    /// Each of `threads` reads its own `part_bytes` over and over, `times` times, which a cache holds if they are few; returns
    /// the bytes per second. The parts are made smaller where the memory is.
    ///
    /// # Panics
    /// As [`pass`](Self::pass).
    pub fn cached(&self, pool: &Pool, threads: usize, part_bytes: usize, times: usize) -> f64 {
        let way = ReadWay {
            threads,
            streams: 1,
            prefetch_bytes: 0,
        };
        self.read(
            pool,
            way,
            part_bytes.min(self.memory.len() / threads),
            times,
        )
    }

    fn read(&self, pool: &Pool, way: ReadWay, part_bytes: usize, times: usize) -> f64 {
        let ReadWay {
            threads,
            streams,
            prefetch_bytes,
        } = way;
        assert!(
            (1..=pool.threads()).contains(&threads) && streams > 0,
            "{way:?} of {pool:?}"
        );
        // An odd number of pieces: streams that are a power of two apart would fight for the same lines of the cache.
        let per_stream = match part_bytes / streams / PIECE {
            pieces if pieces > 1 && pieces.is_multiple_of(2) => pieces - 1,
            pieces => pieces,
        };
        let len = per_stream * streams * PIECE;
        let read = AtomicUsize::new(0);
        let time = together(pool, |thread| {
            if thread < threads {
                let part = &self.memory[thread * part_bytes / PIECE * PIECE..][..len];
                for _ in 0..times {
                    black_box(sum(black_box(part), streams, prefetch_bytes));
                }
                read.fetch_add(len * times, Ordering::Relaxed);
            }
        });
        read.into_inner() as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Searches for the fastest way to read memory: threads, streams per thread, prefetch distance. Takes seconds, and a
/// gigabyte of memory.
pub fn read_bandwidth(pool: &Pool) -> Bandwidth {
    search(pool, &ReadTest::new(pool, MEMORY_BYTES))
}

/// Tries every way once, and the best few of them again.
fn search(pool: &Pool, test: &ReadTest) -> Bandwidth {
    const FINALISTS: usize = 4;
    const ROUNDS: usize = 5;
    let mut tried: Vec<Bandwidth> = thread_counts(pool.threads())
        .flat_map(ReadWay::all)
        .map(|way| Bandwidth {
            bytes_per_s: test.pass(pool, way),
            way,
        })
        .collect();
    tried.sort_by(|a, b| b.bytes_per_s.total_cmp(&a.bytes_per_s));
    tried.truncate(FINALISTS);
    for _ in 0..ROUNDS {
        for best in &mut tried {
            best.bytes_per_s = best.bytes_per_s.max(test.pass(pool, best.way));
        }
    }
    tried
        .into_iter()
        .max_by(|a, b| a.bytes_per_s.total_cmp(&b.bytes_per_s))
        .expect("at least one way was tried. This is a bug.")
}

/// Sums 64-bit words from `streams` places in turn, in the widest registers that there are: memory is slower than any loop,
/// but caches are not.
fn sum(part: &[u8], streams: usize, prefetch_bytes: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just found.
            return unsafe { sum_avx512(part, streams, prefetch_bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just found.
            return unsafe { sum_avx2(part, streams, prefetch_bytes) };
        }
    }
    sum_in_turn(part, streams, prefetch_bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(part: &[u8], streams: usize, prefetch_bytes: usize) -> u64 {
    sum_in_turn(part, streams, prefetch_bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(part: &[u8], streams: usize, prefetch_bytes: usize) -> u64 {
    sum_in_turn(part, streams, prefetch_bytes)
}

/// The loop, compiled for each width of registers.
#[inline(always)]
fn sum_in_turn(part: &[u8], streams: usize, prefetch_bytes: usize) -> u64 {
    const WORDS: usize = PIECE / 8;
    let words: &[u64] = bytemuck::cast_slice(part);
    let pieces = words.as_chunks::<WORDS>().0;
    let per_stream = pieces.len() / streams;
    // A chain of additions for each line of a piece: one would wait for itself.
    let mut sums = [0u64; WORDS];
    for index in 0..per_stream {
        for stream in 0..streams {
            let piece = &pieces[stream * per_stream + index];
            if prefetch_bytes > 0 {
                prefetch(piece, prefetch_bytes);
            }
            for (sum, word) in sums.iter_mut().zip(piece) {
                *sum = sum.wrapping_add(*word);
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
    #[cfg(target_arch = "aarch64")]
    for line in (0..PIECE).step_by(64) {
        let start: *const u8 = piece.as_ptr().cast();
        crate::aarch64::prefetch(start.wrapping_add(ahead + line));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (piece, ahead);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        let mut memory = AlignedBuf::zeroed(16 * PIECE * 3);
        for (i, byte) in memory.iter_mut().enumerate() {
            *byte = (i % 251) as u8;
        }
        let want: u64 = bytemuck::cast_slice::<u8, u64>(&memory)
            .iter()
            .fold(0, |sum, &word| sum.wrapping_add(word));
        for way in ReadWay::all(1) {
            assert_eq!(sum(&memory, way.streams, way.prefetch_bytes), want);
            assert_eq!(sum_in_turn(&memory, way.streams, way.prefetch_bytes), want);
        }
    }

    #[test]
    fn a_way_to_read_is_found() {
        let pool = Pool::new(2);
        let found = search(&pool, &ReadTest::new(&pool, 1 << 20));
        assert!(found.bytes_per_s.is_finite() && found.bytes_per_s > 0.0);
        assert!(ReadWay::all(found.way.threads).any(|way| way == found.way));
    }

    #[test]
    fn parts_are_no_larger_than_the_memory() {
        let pool = Pool::new(3);
        let test = ReadTest::new(&pool, 10_000);
        for part_bytes in [PIECE, 1000, 1 << 20] {
            assert!(test.cached(&pool, 3, part_bytes, 2) > 0.0);
        }
    }
}
