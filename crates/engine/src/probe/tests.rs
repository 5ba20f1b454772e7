//! Devices that lie are found out, and those that do not are not.

use std::sync::Arc;

use troika_device::conformance::Stepped;
use troika_device::{Cancelled, LoadProgress, Outputs};
use troika_kernels::{Kernels, Pool};

use super::*;
use crate::CpuDevice;

/// The scalar reference on one thread: slow, and obviously right.
fn reference() -> CpuDevice {
    let sets: &'static [Kernels] = Box::leak(Kernels::all().into_boxed_slice());
    CpuDevice::with(&sets[0], Arc::new(Pool::new(1)))
}

fn write_answers() {
    let mut bytes = Vec::new();
    ask(
        &reference(),
        &small_model(),
        &mut |_| {},
        &mut |_, logits| {
            bytes.extend(logits.values.iter().flat_map(|x| x.to_le_bytes()));
            Ok(())
        },
    )
    .unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe/answers.f32");
    std::fs::write(path, bytes).unwrap();
}

/// After a change of the question, `TROIKA_UPDATE_FIXTURES=1 cargo test -p troika-engine --lib known_answers` writes the
/// answers anew; they are part of the program, so the next run compares.
#[test]
fn the_reference_gives_the_known_answers() {
    if std::env::var_os("TROIKA_UPDATE_FIXTURES").is_some() {
        return write_answers();
    }
    let off = off(&reference());
    // Rotations and exponentials may differ in the last bit from one system's library to another's.
    assert!(off < 1e-4, "{off}");
}

/// The largest share by which a device's logits are off.
fn off(device: &dyn Device) -> f32 {
    let known = known();
    let mut answers = known.answers.iter();
    let mut most = 0.0f32;
    ask(device, &known.file, &mut |_| {}, &mut |_, have| {
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

/// Takes a device's step, which is the so manieth, from 1 on, in its place.
type Lie = fn(&mut dyn Resident, &Batch<'_>, usize) -> Result<Outputs, Error>;

/// The CPU, with answers that are changed on their way.
struct Liar(Lie);

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
        let (lie, mut steps) = (self.0, 0);
        Ok(Box::new(Stepped::new(inner, move |inner, batch| {
            steps += 1;
            lie(inner, batch, steps)
        })))
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
    probe(&Liar(|inner, batch, _| inner.step(batch))).unwrap();
}

#[test]
fn one_wrong_logit_is_found() {
    refuse(
        |inner, batch, step| {
            let mut outputs = inner.step(batch)?;
            if step == 3 {
                outputs.logits.values[2 * 101 + 17] += 6.0;
            }
            Ok(outputs)
        },
        "writing a token beside a prompt: after token 2 of sequence B, the logit of token 17 is",
    );
}

#[test]
fn what_is_no_number_is_found() {
    refuse(
        |inner, batch, _| {
            let mut outputs = inner.step(batch)?;
            outputs.logits.values[3] = f32::NAN;
            Ok(outputs)
        },
        "reading a prompt: after token 33 of sequence A, the logit of token 3 is NaN",
    );
}

#[test]
fn noise_is_found() {
    refuse(
        |inner, batch, _| {
            let mut outputs = inner.step(batch)?;
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
        |inner, batch, _| {
            let mut outputs = inner.step(batch)?;
            if batch.sequences.len() == 2 {
                outputs.logits.values.rotate_left(101);
            }
            Ok(outputs)
        },
        "writing a token beside a prompt: after token 0 of sequence B",
    );
}

/// A driver that computes every token as if nothing came before it.
#[test]
fn forgetting_the_past_is_found() {
    refuse(
        |inner, batch, step| {
            if step == 1 {
                return inner.step(batch);
            }
            let sequences: Vec<Sequence<'_>> = batch
                .sequences
                .iter()
                .map(|sequence| Sequence {
                    position: 0,
                    ..*sequence
                })
                .collect();
            inner.step(&Batch {
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
        |inner, batch, _| {
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
            inner.step(&Batch {
                sequences: &sequences,
            })
        },
        "writing a token beside a prompt: after token 35 of sequence A",
    );
}

#[test]
fn too_few_logits_are_found() {
    refuse(
        |inner, batch, _| {
            let mut outputs = inner.step(batch)?;
            outputs.logits.values.pop();
            Ok(outputs)
        },
        "reading a prompt: 100 logits instead of 101",
    );
}

#[test]
fn errors_are_passed_on() {
    refuse(
        |inner, batch, step| match step {
            3 => Err(failed("device lost")),
            _ => inner.step(batch),
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
