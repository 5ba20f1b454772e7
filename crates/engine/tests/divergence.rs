//! Divergence of whole models.

mod common;

use std::ops::ControlFlow;

use common::{cpu, load, load_with, stories};
use troika_base::DType;
use troika_engine::{Divergence, Error, Model, divergence};
use troika_gguf::ModelFile;

fn compare(reference: &mut Model, other: &mut Model) -> Result<Divergence, Error> {
    let tokens = reference.calibration();
    divergence(reference, other, &tokens, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let (mut one, mut other) = (load(&stories(), &cpu(1)), load(&stories(), &cpu(2)));
    let found = compare(&mut one, &mut other).expect("both run");
    assert!(found.kl_mean < 1e-9 && found.agreement == 1.0, "{found:?}");
    assert!((300..=512).contains(&found.tokens), "{found:?}");
}

#[test]
fn fewer_bits_diverge_more() {
    let mut reference = load(&stories(), &cpu(2));
    let mut last = 0.0;
    for format in [DType::Q6_K, DType::Q4_0] {
        let bytes = common::requantize::requantize(&stories(), format);
        let file = ModelFile::from_bytes("stories", bytes).expect("opens");
        let found = compare(&mut reference, &mut load(&file, &cpu(2))).expect("both run");
        assert!(
            found.kl_mean > last && found.kl_max >= found.kl_mean,
            "{format}: {found:?}"
        );
        assert!(found.agreement > 0.5, "{format}: {found:?}");
        last = found.kl_mean;
    }
    assert!(last > 1e-3, "{last} nats of four bits");
}

#[test]
fn a_short_context_compares_what_fits_and_it_can_be_broken_off() {
    let mut one = load_with(&stories(), &cpu(1), 128);
    let mut other = load(&stories(), &cpu(1));
    let found = compare(&mut one, &mut other).expect("both run");
    assert_eq!(found.tokens, 128);
    let tokens = one.calibration();
    let broken = divergence(&mut one, &mut other, &tokens, &mut |_, _| {
        ControlFlow::Break(())
    });
    assert_eq!(broken.expect("both run").tokens, 64);
    let nothing = divergence(&mut one, &mut other, &[], &mut |_, _| {
        ControlFlow::Continue(())
    });
    assert!(matches!(nothing, Err(Error::EmptyPrompt)));
}
