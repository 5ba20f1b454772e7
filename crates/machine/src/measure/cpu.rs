//! The processor: its clock, what its threads read and multiply, what their meetings cost.
//!
//! It runs on as many threads as the engine does, one for each physical core, and with the engine's own kernels: what counts
//! is what a model will get, and not what another program could.

use std::time::{Duration, Instant};

use troika_base::{DType, Unit};
use troika_kernels::roofline::{
    MatrixTest, ReadTest, ReadWay, clock_hz, empty_step, thread_counts, wake,
};
use troika_kernels::{Kernels, Pool};

use super::theory::Macs;
use super::{Course, Findings, Measurable, Measurement, Quantity, Stopped};
use crate::meter::MeterSet;
use crate::model::{Machine, Unknown};

/// Parts of the time; what is left is for memory.
const LAUNCH_SHARE: f64 = 0.04;
const MATRIX_SHARE: f64 = 0.25;
const CACHE_SHARE: f64 = 0.1;

/// Times the last cache that are read, and how many bytes that are at least and at most: what is cached of it must not count,
/// and writing it all takes time. A guest may be told of a part of the cache alone.
const CACHES_READ: u64 = 8;
const READ_BYTES_MIN: u64 = 1 << 30;
const READ_BYTES_MAX: u64 = 8 << 30;

/// Others want memory too.
const READ_PART_OF_AVAILABLE: u64 = 4;

/// Samples of a quantity, at most and at least.
const SAMPLES_MAX: usize = 100;
const SAMPLES_MIN: usize = 3;

/// Ways to read that are looked at more closely.
const FINALISTS: usize = 3;

/// The processor of this machine.
#[derive(Debug)]
pub struct CpuTest<'m> {
    machine: &'m Machine,
    kernels: &'static Kernels,
    pool: Pool,
}

impl<'m> CpuTest<'m> {
    /// With the kernels and the number of threads that models run on.
    pub fn new(machine: &'m Machine, kernels: &'static Kernels, threads: usize) -> Self {
        Self {
            machine,
            kernels,
            pool: Pool::new(threads),
        }
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn measured(&self, quantity: Quantity, samples: Vec<f64>) -> Option<Measurement> {
        let measured = Measurement::of_samples(self.id(), quantity, samples)?;
        Some(Measurement {
            isa: Some(self.kernels.name.to_owned()),
            ..measured
        })
    }

    /// The clock of the thread that asks, which the other cores may share or exceed.
    fn clock(&self, course: &mut Course<'_, '_>) -> Result<Option<Measurement>, Stopped> {
        const SAMPLES: usize = 20;
        const TIME: Duration = Duration::from_millis(5);
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            course.tick("clock")?;
            samples.push(clock_hz(TIME) / 1e6);
        }
        Ok(self.measured(Quantity::ClockMhz, samples).map(|measured| {
            let threads = Some(1);
            Measurement {
                threads,
                ..measured
            }
        }))
    }

    /// Steps without work, in a row and after a rest.
    fn launch(
        &self,
        course: &mut Course<'_, '_>,
        time: Duration,
        found: &mut Findings,
    ) -> Result<(), Stopped> {
        const IN_A_ROW: u32 = 100;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (mut launch, mut waking) = (Vec::new(), Vec::new());
        let until = Instant::now() + time;
        while is_wanted(launch.len(), until) {
            course.tick("launch")?;
            launch.push(micros(empty_step(&self.pool, IN_A_ROW)));
            waking.push(micros(wake(&self.pool)));
        }
        let threads = Some(count(self.threads()));
        for (quantity, samples) in [(Quantity::LaunchUs, launch), (Quantity::WakeUs, waking)] {
            let measured = self.measured(quantity, samples);
            found
                .measurements
                .extend(measured.map(|measured| Measurement {
                    threads,
                    ..measured
                }));
        }
        Ok(())
    }

    /// Each format that is computed, on one thread and on all.
    fn matrix(
        &self,
        course: &mut Course<'_, '_>,
        time: Duration,
        clock_hz: Option<f64>,
        found: &mut Findings,
    ) -> Result<(), Stopped> {
        let tests: Vec<_> = DType::ALL
            .iter()
            .filter_map(|&dtype| Some((dtype, MatrixTest::new(self.kernels, dtype)?)))
            .collect();
        let counts = if self.threads() == 1 {
            vec![1]
        } else {
            vec![1, self.threads()]
        };
        let share = time / count(tests.len() * counts.len()).max(1);
        let sample = (share / count(SAMPLES_MIN)).min(Duration::from_millis(20));
        for threads in counts {
            for (dtype, test) in &tests {
                let what = format!("{dtype} on {threads} threads");
                let mut samples = Vec::new();
                let until = Instant::now() + share;
                while is_wanted(samples.len(), until) {
                    course.tick(&what)?;
                    samples.push(test.round(&self.pool, threads, sample) / 1e12);
                }
                let unit = if test.on_matrix_unit() {
                    Unit::Matrix
                } else {
                    Unit::Vector
                };
                let macs = Macs::of(self.kernels.name, &self.machine.cpu, *dtype, unit);
                let measured = self.measured(Quantity::MatrixTops, samples);
                found.measurements.extend(measured.map(|measured| {
                    Measurement {
                        of: Some(dtype.name().to_owned()),
                        unit: Some(unit),
                        threads: Some(count(threads)),
                        theory: macs
                            .zip(clock_hz)
                            .map(|(macs, hz)| macs.theory(hz, count(threads))),
                        ..measured
                    }
                }));
            }
        }
        Ok(())
    }

    /// Caches from the second level on: each thread reads its own half of what is its part.
    fn caches(
        &self,
        course: &mut Course<'_, '_>,
        test: &ReadTest,
        time: Duration,
        found: &mut Findings,
    ) -> Result<(), Stopped> {
        /// Long enough for a clock, short enough for many samples.
        const SAMPLE_BYTES: u64 = 256 << 20;
        let all = count(self.threads());
        let caches: Vec<_> = self
            .machine
            .cpu
            .caches
            .iter()
            .filter(|cache| cache.level > 1 && cache.kind != "instruction" && cache.bytes > 0)
            .collect();
        let share = time / count(caches.len()).max(1);
        for cache in caches {
            let sharers = all.div_ceil(cache.count.max(1));
            let part = cache.bytes / 2 / u64::from(sharers.max(1));
            let name = format!("L{}", cache.level);
            let mut samples = Vec::new();
            let until = Instant::now() + share;
            let times = (SAMPLE_BYTES / part.max(1)).max(1);
            while is_wanted(samples.len(), until) {
                course.tick(&format!("reading {name}"))?;
                let (part, times) = (size(part), size(times));
                samples.push(test.cached(&self.pool, self.threads(), part, times) / 1e9);
            }
            let measured = self.measured(Quantity::CacheGbs, samples);
            found
                .measurements
                .extend(measured.map(|measured| Measurement {
                    of: Some(name),
                    threads: Some(all),
                    streams: Some(1),
                    working_set_bytes: Some(part * u64::from(all)),
                    ..measured
                }));
        }
        Ok(())
    }

    /// Memory, by number of threads, each in the way that is best for it.
    fn memory(
        &self,
        course: &mut Course<'_, '_>,
        test: &ReadTest,
        bytes: u64,
        found: &mut Findings,
    ) -> Result<(), Stopped> {
        let counts: Vec<_> = thread_counts(self.threads()).collect();
        for (index, &threads) in counts.iter().enumerate() {
            let share = course.left() / count(counts.len() - index);
            let (way, samples) = self.best_way(course, test, threads, share)?;
            let measured = self.measured(Quantity::ReadGbs, samples);
            found
                .measurements
                .extend(measured.map(|measured| Measurement {
                    threads: Some(count(threads)),
                    streams: Some(count(way.streams)),
                    working_set_bytes: Some(bytes),
                    ..measured
                }));
        }
        Ok(())
    }

    /// Tries every way once, for half of the time at most, and the best of them again and again.
    fn best_way(
        &self,
        course: &mut Course<'_, '_>,
        test: &ReadTest,
        threads: usize,
        time: Duration,
    ) -> Result<(ReadWay, Vec<f64>), Stopped> {
        let what = format!("reading on {threads} threads");
        let started = Instant::now();
        let mut tried: Vec<(ReadWay, Vec<f64>)> = Vec::new();
        for way in ReadWay::all(threads) {
            course.tick(&what)?;
            if !tried.is_empty() && started.elapsed() > time / 2 {
                break;
            }
            tried.push((way, vec![test.pass(&self.pool, way) / 1e9]));
        }
        let best_of = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
        tried.sort_by(|a, b| best_of(&b.1).total_cmp(&best_of(&a.1)));
        tried.truncate(FINALISTS);
        let until = started + time;
        while is_wanted(tried[0].1.len(), until) {
            for (way, samples) in &mut tried {
                course.tick(&what)?;
                samples.push(test.pass(&self.pool, *way) / 1e9);
            }
        }
        let best = tried
            .into_iter()
            .max_by(|a, b| best_of(&a.1).total_cmp(&best_of(&b.1)));
        Ok(best.expect("at least one way was tried. This is a bug."))
    }

    /// How much memory to read, or why none.
    fn read_bytes(&self) -> Result<u64, Unknown> {
        let memory = &self.machine.memory;
        let available = memory.available_bytes.unwrap_or(memory.total_bytes / 2);
        read_bytes(self.last_cache_bytes(), available)
    }

    /// All instances of the last level.
    fn last_cache_bytes(&self) -> u64 {
        let caches = self.machine.cpu.caches.iter();
        let last = caches.max_by_key(|cache| cache.level);
        last.map_or(0, |cache| {
            cache.bytes.saturating_mul(u64::from(cache.count))
        })
    }
}

impl Measurable for CpuTest<'_> {
    fn id(&self) -> &str {
        "cpu0"
    }

    fn measure(&self, meters: &MeterSet, course: &mut Course<'_, '_>) -> Result<Findings, Stopped> {
        let mut found = Findings::default();
        let time = course.left();
        let clock = self.clock(course)?;
        let clock_hz = clock.as_ref().map(|clock| clock.value * 1e6);
        found.measurements.extend(clock);
        let span = meters.span();
        let share = time.mul_f64(MATRIX_SHARE);
        self.matrix(course, share, clock_hz, &mut found)?;
        found.add_power(Quantity::BusyW, Some("matrix"), &span.finish());
        // After work on all threads, when the system has given each a core of its own.
        self.launch(course, time.mul_f64(LAUNCH_SHARE), &mut found)?;

        match self.read_bytes() {
            Err(unknown) => found.unknown.push(unknown),
            Ok(bytes) => {
                course.tick("taking memory")?;
                let test = ReadTest::new(&self.pool, size(bytes));
                if self.machine.cpu.caches.is_empty() {
                    found.unknown.push(unknown_caches());
                }
                self.caches(course, &test, time.mul_f64(CACHE_SHARE), &mut found)?;
                let span = meters.span();
                self.memory(course, &test, bytes, &mut found)?;
                found.add_power(Quantity::BusyW, Some("reading"), &span.finish());
            }
        }
        Ok(found)
    }
}

/// Whether another sample is, after so many.
fn is_wanted(samples: usize, until: Instant) -> bool {
    samples < SAMPLES_MIN || (samples < SAMPLES_MAX && Instant::now() < until)
}

/// Many times the caches, within a part of what is free.
fn read_bytes(cache_bytes: u64, available_bytes: u64) -> Result<u64, Unknown> {
    let wanted = cache_bytes
        .saturating_mul(CACHES_READ)
        .clamp(READ_BYTES_MIN, READ_BYTES_MAX);
    let bytes = wanted.min(available_bytes / READ_PART_OF_AVAILABLE);
    // Of less than this, much would come from the cache.
    if bytes < cache_bytes.saturating_mul(2).max(64 << 20) {
        return Err(Unknown {
            what: "cpu0.bandwidth_measured_gbs".to_owned(),
            why: format!(
                "a quarter of the free memory, {}, is too little beside caches of {}",
                troika_base::Bytes(available_bytes / READ_PART_OF_AVAILABLE),
                troika_base::Bytes(cache_bytes),
            ),
            remedy: "close some programs and measure again".to_owned(),
        });
    }
    Ok(bytes)
}

fn unknown_caches() -> Unknown {
    Unknown {
        what: "cpu0.cache_gbs".to_owned(),
        why: "the system does not tell the sizes of the caches".to_owned(),
        remedy: String::new(),
    }
}

/// Threads, streams and the like, which are few.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// What is in memory is counted by its addresses.
fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_far_beyond_the_caches_and_within_what_is_free() {
        const GIB: u64 = 1 << 30;
        for (cache, available, want) in [
            (32 << 20, 20 * GIB, Some(GIB)),
            (512 << 20, 64 * GIB, Some(4 * GIB)),
            (4 * GIB, 256 * GIB, Some(8 * GIB)),
            (32 << 20, GIB, Some(GIB / 4)),
            (0, 20 * GIB, Some(GIB)),
            // Nothing that could be told from the cache.
            (512 << 20, 2 * GIB, None),
            (0, 100 << 20, None),
        ] {
            let bytes = read_bytes(cache, available);
            assert_eq!(bytes.as_ref().ok(), want.as_ref(), "{bytes:?}");
        }
    }
}
