//! On a clock that nobody waits for, around a device that computes nothing and takes its time.

use troika_base::ModelSpec;

use super::*;
use crate::conformance::small_model;
use crate::{Abilities, KvShape, Logits, Output, Sequence};

/// Passes when somebody sleeps, and when it is told to.
#[derive(Default)]
struct ManualClock {
    now: Mutex<Duration>,
    slept: Mutex<Duration>,
}

impl ManualClock {
    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    fn slept(&self) -> Duration {
        *self.slept.lock().unwrap()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
        *self.slept.lock().unwrap() += time;
    }
}

/// Takes 4 ms to load each of ten parts, and 3 ms for a step.
struct Slow(Arc<ManualClock>);

struct SlowResident {
    clock: Arc<ManualClock>,
    spec: ModelSpec,
    interrupt: Interrupt,
}

const WEIGHTS: u64 = 1000;
const SHAPE: KvShape = KvShape {
    n_layer: 1,
    n_head_kv: 1,
    head_dim: 16,
    kv_type: troika_base::KvType::F16,
};

impl Device for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn description(&self) -> String {
        "slow".to_owned()
    }

    fn load(
        &self,
        _: &ModelFile,
        _: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        for part in 1..=10 {
            self.0.pass(MS * 4);
            let done = Bytes(WEIGHTS / 10 * part);
            let total = Bytes(WEIGHTS);
            if let ControlFlow::Break(cancelled) = progress(LoadProgress { done, total }) {
                return Err(cancelled.into());
            }
        }
        Ok(Box::new(SlowResident {
            clock: Arc::clone(&self.0),
            spec: ModelSpec {
                architecture: "none".to_owned(),
                name: None,
                n_layer: 1,
                n_embd: 16,
                n_head: 1,
                n_head_kv: 1,
                head_dim: 16,
                n_ff: 16,
                n_vocab: 1,
                n_ctx: 64,
                norm_eps: 1e-5,
                experts: None,
                window: None,
                is_causal: true,
            },
            interrupt: Interrupt::default(),
        }))
    }
}

impl Resident for SlowResident {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn n_page(&self) -> usize {
        2
    }

    fn weights_bytes(&self) -> Bytes {
        Bytes(WEIGHTS)
    }

    fn kv_shape(&self) -> KvShape {
        SHAPE
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        if batch.sequences.is_empty() {
            let reason = "none".to_owned();
            return Err(Error::Batch { reason });
        }
        self.clock.pass(MS * 3);
        let logits = Logits {
            n_vocab: 1,
            values: vec![0.5; batch.n_tok()],
        };
        Ok(Outputs {
            logits,
            ..Outputs::default()
        })
    }

    fn copy_page(&mut self, _: usize, _: usize) {}

    fn read_kv(&mut self, _: &[usize], _: Range<usize>, _: &mut [f16]) -> Result<(), Error> {
        self.clock.pass(MS);
        Ok(())
    }

    fn write_kv(&mut self, _: &[usize], _: Range<usize>, _: &[f16]) -> Result<(), Error> {
        self.clock.pass(MS);
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        LIMITED
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.interrupt.clone())
    }
}

/// What the slow resident can do.
const LIMITED: Abilities = Abilities {
    kv: true,
    hidden: false,
    drafts: false,
};

const MS: Duration = Duration::from_millis(1);

fn paced(
    step: impl Fn(StepShape) -> Duration + Send + Sync + 'static,
) -> (Arc<ManualClock>, Paced) {
    let clock = Arc::new(ManualClock::default());
    let inner = Arc::new(Slow(Arc::clone(&clock)));
    let device = Paced::new(inner, "gpu0", "a card that is not there", step);
    let passing = Arc::clone(&clock) as Arc<dyn Clock>;
    (clock, device.with_clock(passing))
}

fn load(device: &Paced) -> Result<Box<dyn Resident>, Error> {
    device.load(&small_model(), LoadOptions::new(64), &mut |_| {
        ControlFlow::Continue(())
    })
}

fn step(resident: &mut dyn Resident, n_tok: usize, position: usize) -> Result<Outputs, Error> {
    let tokens = vec![troika_base::TokenId(0); n_tok];
    let sequence = Sequence {
        tokens: &tokens,
        position,
        pages: &[0, 1],
        output: Output::AllLogits,
    };
    resident.step(&Batch {
        sequences: &[sequence; 2],
    })
}

#[test]
fn steps_take_as_long_as_they_would() {
    let (clock, device) = paced(|shape| {
        let want = StepShape {
            tokens: 10,
            past: 14,
            sequences: 2,
        };
        assert_eq!(shape, want);
        MS * 25
    });
    assert_eq!(
        (device.name(), &*device.description()),
        ("gpu0", "a card that is not there")
    );
    let mut resident = load(&device).unwrap();
    for i in 1..=3 {
        let start = clock.now();
        let outputs = step(&mut *resident, 5, 7).unwrap();
        assert_eq!(outputs.logits.values.len(), 10);
        assert_eq!((clock.now() - start, clock.slept()), (MS * 25, MS * 22 * i));
    }
    let want = Lag {
        steps: 3,
        ..Lag::default()
    };
    assert_eq!(device.lag(), want);
}

#[test]
fn it_can_do_no_more_than_what_computes_its_answers() {
    let (_, device) = paced(|_| MS);
    assert_eq!(load(&device).unwrap().abilities(), LIMITED);
}

#[test]
fn what_comes_too_late_is_told() {
    let (clock, device) = paced(|shape| MS * shape.tokens as u32);
    let mut resident = load(&device).unwrap();
    for n_tok in [1, 1, 2, 0] {
        step(&mut *resident, n_tok, 0).unwrap();
    }
    // 2, 2, 4 and 0 ms, where it takes 3.
    let want = Lag {
        steps: 4,
        late: 3,
        behind: MS * 5,
    };
    assert_eq!((device.lag(), clock.slept()), (want, MS));
    // What does not run takes no time.
    assert!(resident.step(&Batch { sequences: &[] }).is_err());
    assert_eq!(device.lag(), want);
}

#[test]
fn a_step_that_sleeps_can_be_broken_off() {
    let (clock, device) = paced(|_| MS * 1000);
    let mut resident = load(&device).unwrap();
    let interrupt = resident.interrupt().unwrap();
    interrupt.raise();
    let broken = step(&mut *resident, 1, 0);
    assert!(matches!(broken, Err(Error::Interrupted)));
    assert_eq!(clock.slept(), TICK);
    step(&mut *resident, 1, 0).unwrap();
    assert_eq!(clock.slept(), TICK + MS * 997);
}

#[test]
fn loads_take_as_long_as_they_would() {
    for (virtual_ms, want_ms, words) in [(200, 200, 27), (40, 40, 10), (1, 40, 10)] {
        let (clock, device) = paced(|_| MS);
        let device = device.with_load(move |_| MS * virtual_ms);
        let mut heard = Vec::new();
        device
            .load(&small_model(), LoadOptions::new(64), &mut |progress| {
                heard.push(progress.done.0);
                assert_eq!(progress.total, Bytes(WEIGHTS));
                ControlFlow::Continue(())
            })
            .map(drop)
            .unwrap();
        assert_eq!(clock.now(), MS * want_ms);
        assert!(
            heard.is_sorted() && heard.last() == Some(&WEIGHTS),
            "{heard:?}"
        );
        assert!(heard.len().abs_diff(words) <= 1, "{heard:?}");
    }
}

#[test]
fn a_load_that_sleeps_can_be_cancelled() {
    let (clock, device) = paced(|_| MS);
    let device = device.with_load(|_| MS * 500).with_memory(Bytes(1 << 20));
    let cancelled = device.load(
        &small_model(),
        LoadOptions::new(64),
        &mut |progress| match progress.done.0 < WEIGHTS / 2 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(Cancelled),
        },
    );
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!((clock.now(), device.used()), (MS * 250, Bytes(0)));
}

#[test]
fn memory_is_the_device_s_own() {
    let (_, device) = paced(|_| MS);
    let weights: u64 = small_model()
        .tensors()
        .iter()
        .map(|tensor| tensor.bytes)
        .sum();
    let one = WEIGHTS + 2 * SHAPE.page_bytes() as u64;
    // The file is larger than what the device that computes makes of it.
    let device = device.with_memory(Bytes(weights + one));
    let first = load(&device).unwrap();
    assert_eq!(device.used(), Bytes(one));
    let second = load(&device).unwrap();
    match load(&device) {
        Err(Error::OutOfMemory { need, free, .. }) => {
            assert_eq!((need, free), (Bytes(weights), Bytes(weights - one)));
        }
        other => panic!("{:?}", other.map(drop)),
    }
    drop((first, second));
    assert_eq!(device.used(), Bytes(0));
    load(&device).unwrap();
}

#[test]
fn copies_take_as_long_as_they_would() {
    let (clock, device) = paced(|_| MS);
    let device = device.with_copy(|bytes| MS * u32::try_from(bytes.0).unwrap());
    let mut resident = load(&device).unwrap();
    let start = clock.now();
    resident.read_kv(&[0], 0..1, &mut [f16::ZERO; 8]).unwrap();
    resident.write_kv(&[0], 0..1, &[f16::ZERO; 4]).unwrap();
    assert_eq!(clock.now() - start, MS * 24);
    assert_eq!(device.lag(), Lag::default());
}
