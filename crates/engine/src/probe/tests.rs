//! Devices that lie are found out, and those that do not are not.

use std::sync::Arc;

use troika_base::{Bytes, ModelSpec};
use troika_device::{Cancelled, KvShape, LoadProgress, Outputs, f16};
use troika_kernels::{Kernels, Pool};

use super::*;

/// The largest share by which a device's logits are off.
fn off(device: &dyn Device) -> f32 {
    let mut answers = known().answers.iter();
    let mut most = 0.0f32;
    ask(device, &known().file, &mut |_, have| {
        let want = answers.next().unwrap();
        for (want, have) in want.rows().zip(have.rows()) {
            let largest = want.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (want, have) in want.iter().zip(have) {
                most = most.max((want - have).abs() / largest);
            }
        }
        Ok(())
    })
    .unwrap();
    most
}

#[test]
fn every_kernel_set_knows_the_answer() {
    let sets: &'static [Kernels] = Box::leak(Kernels::all().into_boxed_slice());
    for kernels in sets {
        for threads in [1, 3] {
            let device = CpuDevice::with(kernels, Arc::new(Pool::new(threads)));
            let off = off(&device);
            assert!(probe(&device).is_ok(), "{}: {off}", kernels.name);
            // Some room is left, so that the next processor does not fail by a hair.
            assert!(off < 0.7 * ALLOWED, "{}: {off}", kernels.name);
        }
    }
}

type Lie = fn(&mut LyingResident, &Batch<'_>, Result<Outputs, Error>) -> Result<Outputs, Error>;

/// The CPU, with answers that are changed on their way.
struct Liar(Lie);

struct LyingResident {
    inner: Box<dyn Resident>,
    lie: Lie,
    steps: usize,
}

impl Device for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn description(&self) -> String {
        "a liar".to_owned()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let inner = CpuDevice::new(1).unwrap().load(file, options, progress)?;
        Ok(Box::new(LyingResident {
            inner,
            lie: self.0,
            steps: 0,
        }))
    }
}

impl Resident for LyingResident {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn n_page(&self) -> usize {
        self.inner.n_page()
    }

    fn weights_bytes(&self) -> Bytes {
        self.inner.weights_bytes()
    }

    fn kv_shape(&self) -> KvShape {
        self.inner.kv_shape()
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        let outputs = self.inner.step(batch);
        self.steps += 1;
        (self.lie)(self, batch, outputs)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.inner.copy_page(from, to);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: std::ops::Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.inner.read_kv(pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: std::ops::Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.inner.write_kv(pages, tokens, values)
    }
}

/// A device that does this has to be refused in these words.
#[track_caller]
fn refuse(lie: Lie, words: &str) {
    let error = probe(&Liar(lie)).expect_err(words).to_string();
    assert!(error.contains(words), "{words:?} in {error:?}");
}

fn failed(reason: &str) -> Error {
    Error::Failed {
        device: "liar".to_owned(),
        reason: reason.to_owned(),
    }
}

#[test]
fn the_truth_passes() {
    probe(&Liar(|_, _, outputs| outputs)).unwrap();
}

#[test]
fn one_wrong_logit_is_found() {
    refuse(
        |this, _, outputs| {
            let mut outputs = outputs?;
            if this.steps == 2 {
                outputs.logits.values[17] += 6.0;
            }
            Ok(outputs)
        },
        "writing a token: after token 34 of sequence A, the logit of token 17 is",
    );
}

#[test]
fn what_is_no_number_is_found() {
    refuse(
        |_, _, outputs| {
            let mut outputs = outputs?;
            outputs.logits.values[5 * 101 + 3] = f32::NAN;
            Ok(outputs)
        },
        "reading a prompt: after token 5 of sequence A, the logit of token 3 is NaN",
    );
}

#[test]
fn noise_is_found() {
    refuse(
        |_, _, outputs| {
            let mut outputs = outputs?;
            let values = outputs.logits.values.iter_mut().enumerate();
            values.for_each(|(i, x)| *x *= if i % 3 == 0 { 0.8 } else { 1.0 });
            Ok(outputs)
        },
        "reading a prompt",
    );
}

#[test]
fn rows_of_others_are_found() {
    refuse(
        |_, batch, outputs| {
            let mut outputs = outputs?;
            if batch.sequences.len() == 2 {
                outputs.logits.values.rotate_left(101);
            }
            Ok(outputs)
        },
        "writing a token beside a prompt: after token 3 of sequence B",
    );
}

/// A driver that computes every token as if nothing came before it.
#[test]
fn forgetting_the_past_is_found() {
    refuse(
        |this, batch, outputs| {
            if this.steps == 1 {
                return outputs;
            }
            let sequences: Vec<Sequence<'_>> = batch
                .sequences
                .iter()
                .map(|sequence| Sequence {
                    position: 0,
                    ..*sequence
                })
                .collect();
            this.inner.step(&Batch {
                sequences: &sequences,
            })
        },
        "writing a token: after token 34 of sequence A",
    );
}

/// A driver that takes pages as they come.
#[test]
fn mixing_pages_up_is_found() {
    refuse(
        |this, batch, _| {
            let sorted: Vec<Vec<usize>> = batch
                .sequences
                .iter()
                .map(|sequence| (0..sequence.pages.len()).collect())
                .collect();
            let sequences: Vec<Sequence<'_>> = batch
                .sequences
                .iter()
                .zip(&sorted)
                .map(|(sequence, pages)| Sequence { pages, ..*sequence })
                .collect();
            this.inner.step(&Batch {
                sequences: &sequences,
            })
        },
        "writing a token beside a prompt: after token 35 of sequence A",
    );
}

#[test]
fn too_few_logits_are_found() {
    refuse(
        |_, _, outputs| {
            let mut outputs = outputs?;
            outputs.logits.values.pop();
            Ok(outputs)
        },
        "reading a prompt: 3433 logits instead of 3434",
    );
}

#[test]
fn errors_are_passed_on() {
    refuse(
        |this, _, outputs| match this.steps {
            3 => Err(failed("device lost")),
            _ => outputs,
        },
        "writing a token beside a prompt: liar failed: device lost",
    );
}

/// Loads nothing.
struct Broken;

impl Device for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn description(&self) -> String {
        "broken".to_owned()
    }

    fn load(
        &self,
        _: &ModelFile,
        _: LoadOptions,
        _: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        Err(failed("no memory on the card"))
    }
}

#[test]
fn a_load_that_fails_is_told() {
    let error = probe(&Broken).unwrap_err().to_string();
    assert!(
        error.contains("does not load: liar failed: no memory"),
        "{error}"
    );
}
