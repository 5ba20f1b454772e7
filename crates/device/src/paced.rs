//! A device that is not there: another one computes its answers, and they come when it would have had them.
//!
//! So a machine that nobody has can be tried, with answers that are real. What cannot be had is more speed than the
//! device that computes: a step that takes it longer is late, and [`Paced::lag`] tells by how much.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use half::f16;
use troika_base::{Bytes, KvType};
use troika_gguf::ModelFile;

use crate::{
    Around, Batch, Cancelled, Device, Error, Interrupt, LoadOptions, LoadProgress, Outputs,
    Resident,
};

/// What a step has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepShape {
    /// Tokens that are computed.
    pub tokens: usize,
    /// Tokens of the past that are read for them, over all sequences.
    pub past: usize,
    /// Sequences that take part.
    pub sequences: usize,
}

impl StepShape {
    /// Of a batch.
    pub fn of(batch: &Batch<'_>) -> Self {
        Self {
            tokens: batch.n_tok(),
            past: batch.sequences.iter().map(|s| s.position).sum(),
            sequences: batch.sequences.len(),
        }
    }
}

/// What time it is, and how it passes.
pub trait Clock: Send + Sync {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;

    /// Returns after so long.
    fn sleep(&self, time: Duration);
}

/// The computer's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// By how much a device is late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Steps so far.
    pub steps: u64,
    /// Of them, those that came too late.
    pub late: u64,
    /// How much too late they came, together.
    pub behind: Duration,
}

type Pace<T> = Arc<dyn Fn(T) -> Duration + Send + Sync>;

/// A device with the answers of another one and a speed and a memory of its own.
pub struct Paced {
    inner: Arc<dyn Device>,
    name: String,
    description: String,
    shared: Arc<Shared>,
    load: Option<Pace<Bytes>>,
}

/// What a device and its residents have in common.
struct Shared {
    clock: Arc<dyn Clock>,
    step: Pace<StepShape>,
    copy: Option<Pace<Bytes>>,
    memory: Option<Bytes>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lag: Lag,
    /// What residents take.
    used: u64,
}

/// So often a load tells how far it is, and both loads and steps hear that they are broken off.
const TICK: Duration = Duration::from_millis(10);

impl Paced {
    /// A device whose answers `inner` computes, and whose steps take as long as `step` says.
    pub fn new(
        inner: Arc<dyn Device>,
        name: impl Into<String>,
        description: impl Into<String>,
        step: impl Fn(StepShape) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            name: name.into(),
            description: description.into(),
            shared: Arc::new(Shared {
                clock: Arc::new(SystemClock::default()),
                step: Arc::new(step),
                copy: None,
                memory: None,
                state: Mutex::default(),
            }),
            load: None,
        }
    }

    /// Loading so many bytes of weights takes as long as `load` says, rather than as long as it does.
    #[must_use]
    pub fn with_load(mut self, load: impl Fn(Bytes) -> Duration + Send + Sync + 'static) -> Self {
        self.load = Some(Arc::new(load));
        self
    }

    /// Copying so many bytes of keys and values from or to the device takes as long as `copy` says.
    #[must_use]
    pub fn with_copy(self, copy: impl Fn(Bytes) -> Duration + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.copy = Some(Arc::new(copy)))
    }

    /// The device has so much memory for weights and caches.
    #[must_use]
    pub fn with_memory(self, memory: Bytes) -> Self {
        self.with(|shared| shared.memory = Some(memory))
    }

    /// Time passes by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|shared| shared.clock = clock)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        let shared = Arc::get_mut(&mut self.shared);
        change(shared.expect("nothing is loaded while it is made. This is a bug."));
        self
    }

    /// By how much its steps came too late so far, since the device that computes is slower.
    pub fn lag(&self) -> Lag {
        self.shared.state().lag
    }

    /// Memory that its residents take.
    pub fn used(&self) -> Bytes {
        Bytes(self.shared.state().used)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers are whole after every operation, so a panic elsewhere does no harm to them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what there is no memory for.
    fn check(&self, state: &State, need: Bytes) -> Result<(), Error> {
        let free = self
            .memory
            .map(|all| Bytes(all.0.saturating_sub(state.used)));
        match free {
            Some(free) if need > free => Err(Error::OutOfMemory {
                need,
                free,
                purpose: "weights and KV cache on a virtual device".to_owned(),
                advice: "take a smaller model or a smaller context (`--ctx`)".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Copies keys and values in the time that it takes.
    fn copy(&self, bytes: usize, copy: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let start = self.clock.now();
        copy()?;
        if let Some(pace) = &self.copy {
            let took = self.clock.now().saturating_sub(start);
            let rest = pace(Bytes(bytes as u64)).saturating_sub(took);
            self.clock.sleep(rest);
        }
        Ok(())
    }
}

/// Memory of the device that is given back when this goes.
struct Claim {
    shared: Arc<Shared>,
    bytes: Bytes,
}

impl Claim {
    fn new(shared: &Arc<Shared>, bytes: Bytes) -> Result<Self, Error> {
        let mut state = shared.state();
        shared.check(&state, bytes)?;
        state.used += bytes.0;
        drop(state);
        Ok(Self {
            shared: Arc::clone(shared),
            bytes,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.state().used -= self.bytes.0;
    }
}

impl Device for Paced {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn keeps(&self, kv_type: KvType) -> bool {
        self.inner.keeps(kv_type)
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        // What the weights alone need is known before they are read.
        let total = Bytes(file.tensors().iter().map(|tensor| tensor.bytes).sum());
        self.shared.check(&self.shared.state(), total)?;
        let mut load = PacedLoad {
            clock: &*self.shared.clock,
            start: self.shared.clock.now(),
            time: self
                .load
                .as_ref()
                .map_or(Duration::ZERO, |pace| pace(total)),
            told: LoadProgress {
                done: Bytes(0),
                total,
            },
            progress,
        };
        let inner = self
            .inner
            .load(file, options, &mut |real| load.tell(real))?;
        let cache = inner.kv_shape().page_bytes().saturating_mul(inner.n_page());
        let bytes = inner.weights_bytes().0.saturating_add(cache as u64);
        let claim = Claim::new(&self.shared, Bytes(bytes))?;
        load.finish()?;
        Ok(Box::new(PacedResident { inner, claim }))
    }
}

/// A load's way of telling how far it is.
struct PacedLoad<'l> {
    clock: &'l dyn Clock,
    start: Duration,
    time: Duration,
    told: LoadProgress,
    progress: &'l mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
}

impl PacedLoad<'_> {
    /// Tells how far the load is that computes, or how far the virtual one is if that is less.
    fn tell(&mut self, real: LoadProgress) -> ControlFlow<Cancelled> {
        let passed = self.clock.now().saturating_sub(self.start);
        let share = match self.time.is_zero() {
            true => 1.0,
            false => (passed.as_secs_f64() / self.time.as_secs_f64()).min(1.0),
        };
        let virtually = Bytes((real.total.0 as f64 * share) as u64);
        self.told = LoadProgress {
            // Neither falls, but for rounding.
            done: real.done.min(virtually).max(self.told.done),
            total: real.total,
        };
        (self.progress)(self.told)
    }

    /// Waits for the virtual load's end once the other one has come to its own.
    fn finish(mut self) -> Result<(), Cancelled> {
        let all = LoadProgress {
            done: self.told.total,
            ..self.told
        };
        while self.told.done < all.done {
            let passed = self.clock.now().saturating_sub(self.start);
            let rest = self.time.saturating_sub(passed);
            self.clock.sleep(rest.min(TICK));
            if let ControlFlow::Break(cancelled) = self.tell(all) {
                return Err(cancelled);
            }
        }
        Ok(())
    }
}

struct PacedResident {
    inner: Box<dyn Resident>,
    claim: Claim,
}

impl Around for PacedResident {
    fn inner(&self) -> &dyn Resident {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Resident {
        &mut *self.inner
    }

    fn take_step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        let shared = &*self.claim.shared;
        let start = shared.clock.now();
        let outputs = self.inner.step(batch)?;
        let time = (shared.step)(StepShape::of(batch));
        let took = shared.clock.now().saturating_sub(start);
        {
            let lag = &mut shared.state().lag;
            lag.steps += 1;
            lag.late += u64::from(took > time);
            lag.behind += took.saturating_sub(time);
        }
        let interrupt = self.inner.interrupt();
        // By the clock rather than by what was slept: every sleep is a little too long.
        loop {
            let passed = shared.clock.now().saturating_sub(start);
            let rest = time.saturating_sub(passed);
            if rest.is_zero() {
                return Ok(outputs);
            }
            shared.clock.sleep(rest.min(TICK));
            interrupt.as_ref().map_or(Ok(()), Interrupt::check)?;
        }
    }

    fn give_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        let bytes = size_of_val(out);
        let inner = &mut self.inner;
        self.claim
            .shared
            .copy(bytes, || inner.read_kv(pages, tokens, out))
    }

    fn take_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        let bytes = size_of_val(values);
        let inner = &mut self.inner;
        self.claim
            .shared
            .copy(bytes, || inner.write_kv(pages, tokens, values))
    }
}

impl fmt::Debug for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Paced({}, {})", self.name, self.description)
    }
}

#[cfg(test)]
mod tests;
