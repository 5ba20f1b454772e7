//! The thread pool for steps: the same few threads meet at a barrier a hundred times per token.
//!
//! A region starts when the caller opens an epoch that the workers watch: they spin for some microseconds, since
//! the next region usually follows at once, then park. The caller is thread 0, so a pool of one has no threads at
//! all. Work inside a region is shared out by [`Tasks`] in small pieces, and the caller closes the region when there
//! are none left: a worker that the system gave no time to come in by then is not waited for. So on a busy machine
//! two threads are not slower than one.
//!
//! Not a general executor: one region at a time, no nesting, no return values.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// Spins before a waiting thread parks: about 50 µs, well above the gap between two regions of a step and
/// well below what a person or a battery would notice.
const SPINS: u32 = 2_000;

type Region<'a> = dyn Fn(usize) + Sync + 'a;

/// The state of regions in one word: the number of the current or last one in the upper half, whether workers may
/// come in, and how many are inside.
const EPOCH: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

struct Shared {
    state: AtomicU64,
    stop: AtomicBool,
    /// The current region. Written by the caller before it opens, read by workers that are inside.
    region: UnsafeCell<Option<*const Region<'static>>>,
    /// The caller's handle, to unpark it when the last worker leaves.
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `region` is written only while no region is open and nobody is inside, and read only by workers inside one;
// the release and acquire of `state` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `region` is to a `Sync` closure and is used only while its owner waits in `run`.
unsafe impl Send for Shared {}

/// A fixed set of threads that run one region at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One region at a time, also when two sessions share a pool.
    busy: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included (at least one).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            region: UnsafeCell::new(None),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("troika-cpu-{index}"))
                    .spawn(move || work(&shared, index))
                    .expect("the system can start a thread")
            })
            .collect();
        Self {
            shared,
            workers,
            busy: Mutex::new(()),
        }
    }

    /// Threads that take part in a region, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `region(thread)` on the calling thread (number 0) and on every worker that comes in before the caller is
    /// through with it, each once. So a region draws its work from [`Tasks`], and returns when they are handed out.
    ///
    /// # Panics
    /// With a worker's panic, after every thread has finished.
    pub fn run(&self, region: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return region(0);
        }
        let _busy = lock(&self.busy);
        let shared = &*self.shared;
        let erased: &Region<'_> = &region;
        *lock(&shared.caller) = Some(std::thread::current());
        // SAFETY: only the lifetime is erased; this call does not return before every worker is done with it.
        let erased: *const Region<'static> =
            unsafe { std::mem::transmute(std::ptr::from_ref(erased)) };
        // SAFETY: `busy` is held, the last region is closed and empty, so nobody reads the cell now.
        unsafe { *shared.region.get() = Some(erased) };
        let epoch = (shared.state.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // Sequentially consistent, as the workers' last look before they park.
        shared.state.store(epoch | OPEN, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| region(0)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        wait_until(|| shared.state.load(Ordering::Acquire) & INSIDE == 0);
        // SAFETY: the region is closed and empty, so nobody reads the cell now.
        unsafe { *shared.region.get() = None };
        let theirs = lock(&shared.panic).take();
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    /// Runs `task(i)` for every `i` in `0..count`, each on some thread, handing out `grain` at a time.
    pub fn for_each(&self, count: usize, grain: usize, task: impl Fn(usize) + Sync) {
        if count <= grain {
            return (0..count).for_each(task);
        }
        let tasks = Tasks::new(count, grain);
        self.run(|_| {
            while let Some(range) = tasks.next() {
                range.for_each(&task);
            }
        });
    }

    /// Runs `task(first, chunk)` for every chunk of `len` elements of `data` (the last may be shorter), each on some
    /// thread; `first` is the index of the chunk's first element.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (total, len) = (data.len(), len.max(1));
        let data = Disjoint::new(data);
        self.for_each(total.div_ceil(len), 1, |chunk| {
            let first = chunk * len;
            // SAFETY: each chunk is handed out once.
            task(first, unsafe { data.part(first, len.min(total - first)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches panics of its regions, so joining cannot fail in a way that matters here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

/// Hands out `0..count` in pieces to the threads of a region.
#[derive(Debug)]
pub struct Tasks {
    next: AtomicUsize,
    count: usize,
    grain: usize,
}

impl Tasks {
    /// Tasks `0..count`, `grain` (at least one) at a time.
    pub fn new(count: usize, grain: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            count,
            grain: grain.max(1),
        }
    }

    /// The next piece, or `None` when all are handed out.
    pub fn next(&self) -> Option<std::ops::Range<usize>> {
        let start = self.next.fetch_add(self.grain, Ordering::Relaxed);
        (start < self.count).then(|| start..self.count.min(start + self.grain))
    }
}

/// A worker's life: wait for an epoch, come in if its region is still open, run it, leave. An end is looked for whenever it
/// waits, since it may have come while the worker was looking for a region.
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    let is_over = || shared.stop.load(Ordering::SeqCst);
    loop {
        wait_until(|| is_over() || shared.state.load(Ordering::SeqCst) / EPOCH != seen);
        if is_over() {
            return;
        }
        let came_in = |state| (state & OPEN != 0).then_some(state + 1);
        let state = shared
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, came_in);
        seen = state.unwrap_or_else(|closed| closed) / EPOCH;
        if state.is_err() {
            continue;
        }
        // SAFETY: this worker is inside, and came in with acquire after the caller's write; the caller waits for it to
        // leave before it touches the cell or lets the closure go.
        let region = unsafe { (*shared.region.get()).map(|region| &*region) };
        let region = region.expect("a region is set before it opens. This is a bug.");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| region(index))) {
            *lock(&shared.panic) = Some(panic);
        }
        let last = shared.state.fetch_sub(1, Ordering::AcqRel) & (OPEN | INSIDE) == 1;
        // A caller that parks is still in this region, so the handle is its own; if it has gone on, waking whoever
        // called since then does no harm.
        if last && let Some(caller) = &*lock(&shared.caller) {
            caller.unpark();
        }
    }
}

/// Spins, then parks, until `done`. Whoever makes it true unparks the waiting thread.
fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..SPINS {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
    while !done() {
        std::thread::park();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Physical cores that this process may use: hyper-threads share the units that steps keep busy.
pub fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    siblings_per_core()
        .map_or(allowed, |siblings| allowed.div_ceil(siblings))
        .max(1)
}

/// Hardware threads per core as Linux tells it; `None` elsewhere.
fn siblings_per_core() -> Option<usize> {
    let list =
        std::fs::read_to_string("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
            .ok()?;
    let count = list
        .trim()
        .split(',')
        .map(|part| match part.split_once('-') {
            Some((low, high)) => {
                Some(high.parse::<usize>().ok()?.checked_sub(low.parse().ok()?)? + 1)
            }
            None => part.parse::<usize>().ok().map(|_| 1),
        })
        .sum::<Option<usize>>()?;
    (count > 0).then_some(count)
}

/// Lets the threads of one region write to their own parts of one slice.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    _slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: hands out parts only through the unsafe `part`, whose callers promise that parts do not overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            _slice: std::marker::PhantomData,
        }
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// No two parts that live at the same time overlap.
    ///
    /// # Panics
    /// If the part is out of bounds.
    #[expect(
        clippy::mut_from_ref,
        reason = "that is the purpose; the caller promises that parts are disjoint"
    )]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(
            start.checked_add(len).is_some_and(|end| end <= self.len),
            "part out of bounds"
        );
        // SAFETY: in bounds as asserted; disjoint as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_however_many_threads_come_in() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for round in 0..500 {
                let count = round % 7;
                let counts: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                let tasks = Tasks::new(count, 1);
                pool.run(|index| {
                    assert!(index < threads);
                    while let Some(range) = tasks.next() {
                        counts[range.start].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        }
    }

    #[test]
    fn a_worker_that_comes_late_is_not_waited_for() {
        // Eight threads on fewer cores: most regions are over before most workers have come in.
        let pool = Pool::new(8);
        let entered = AtomicUsize::new(0);
        for _ in 0..2000 {
            pool.run(|_| {
                entered.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!((2000..=16_000).contains(&entered.into_inner()));
    }

    #[test]
    fn a_worker_that_comes_late_hears_that_all_is_over() {
        for _ in 0..2000 {
            let pool = Pool::new(4);
            // Workers look for the region while it closes and the pool goes.
            pool.run(|_| {});
        }
    }

    #[test]
    fn for_each_covers_the_range_once() {
        let pool = Pool::new(3);
        for (count, grain) in [(0, 1), (1, 1), (7, 3), (1000, 16)] {
            let hits: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(count, grain, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn parked_workers_wake_up() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            // The caller stays until the worker has come in.
            pool.run(|index| {
                count.fetch_add(1, Ordering::Relaxed);
                while index == 0 && count.load(Ordering::Relaxed) % 2 == 1 {
                    std::thread::yield_now();
                }
            });
        }
        assert_eq!(count.into_inner(), 6);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let entered = AtomicUsize::new(0);
                pool.run(|index| {
                    entered.fetch_add(1, Ordering::Relaxed);
                    // All come in, so that the culprit does.
                    while entered.load(Ordering::Relaxed) < 3 {
                        std::thread::yield_now();
                    }
                    assert_ne!(index, culprit, "on purpose");
                });
            }));
            assert!(result.is_err());
        }
        pool.for_each(10, 1, |_| ());
    }
}
