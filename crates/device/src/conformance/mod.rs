//! The suite that every device passes: small models with random weights, and what has to hold for each.
//!
//! What a step gives must not depend on how its tokens came to it: alone or beside other sequences, in one piece or
//! several, on these pages of the cache or on those. What the shape of a batch may change (a matrix unit takes over
//! from so many tokens on) is bounded by a [`Tolerance`]; everything else is equal to the bit. Bad files and bad
//! batches are refused, and do no harm.
//!
//! [`check`] compares a device with itself, [`agree`] with another one. Whether what both compute is right, the suite
//! cannot know: that is for models with published results. What a resident [says](crate::Abilities) that it cannot do, it
//! must refuse as the contract says. What drives devices is tested with [`Stepped`] ones.

mod ahead;
mod loading;
mod models;
mod moves;
mod pages;
mod refusals;
mod stepped;
mod steps;
mod subject;

use std::ops::ControlFlow;

use troika_base::DType;
use troika_gguf::ModelFile;

pub use stepped::Stepped;

use crate::{Device, Error, LoadOptions};
use models::{FORMATS, N_CTX, Recipe, SHAPES};
use subject::Subject;

/// How far logits of the same tokens in batches of different shape may be apart, as a share of the row's largest, for
/// weights of a number format. 0 demands equal bits.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance(pub fn(DType) -> f32);

impl Tolerance {
    /// Equal bits in every format.
    pub const EXACT: Self = Self(|_| 0.0);
}

/// A device does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("{device}; {model}; {property}: {found}")]
pub struct Failure {
    /// The device's description.
    pub device: String,
    /// Architecture and number format.
    pub model: String,
    /// What should hold: a function of this module.
    pub property: &'static str,
    /// What was found instead.
    pub found: String,
}

type Outcome<T = ()> = Result<T, String>;

/// A property of a model's file, and one of a model that is loaded.
type OfFile = fn(&dyn Device, &Recipe) -> Outcome;
type OfSteps = fn(&mut Subject) -> Outcome;

/// Properties by their names.
macro_rules! properties {
    ($($module:ident :: $name:ident,)*) => { &[$((stringify!($name), $module::$name)),*] };
}

const OF_FILES: &[(&str, OfFile)] = properties![
    loading::the_shape_and_the_room_are_as_asked,
    loading::progress_rises_to_the_total,
    loading::loads_can_be_broken_off,
    refusals::bad_files_are_refused,
    moves::kv_moves,
];

const OF_STEPS: &[(&str, OfSteps)] = properties![
    steps::every_token_matters,
    steps::runs_repeat_to_the_bit,
    steps::batches_give_what_their_sequences_give_alone,
    steps::prompts_in_pieces_give_what_they_give_whole,
    steps::logits_come_for_the_tokens_asked_for,
    steps::hidden_states_come_beside_logits,
    pages::any_page_does_for_any_part,
    pages::sequences_share_the_pages_of_a_prefix,
    pages::a_copied_page_goes_its_own_way,
    ahead::what_is_begun_is_what_would_have_come,
    refusals::bad_batches_change_nothing,
    moves::bad_moves_change_nothing,
    moves::a_step_that_was_broken_off_can_be_run_again,
];

/// Number formats of experts: one that is computed as it is, and two that are rounded.
const FORMATS_OF_EXPERTS: [DType; 3] = [DType::F32, DType::Q8_0, DType::Q4_K];

/// Checks that a device does all that is asked of devices.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(device: &dyn Device, tolerance: Tolerance) -> Result<(), Failure> {
    for recipe in recipes() {
        let failed = |property| failure(device, &recipe, property);
        for (property, holds) in OF_FILES {
            holds(device, &recipe).map_err(failed(property))?;
        }
        let allowed = (tolerance.0)(recipe.dtype);
        steps_hold(device, &recipe, allowed)?;
    }
    Ok(())
}

fn steps_hold(device: &dyn Device, recipe: &Recipe, allowed: f32) -> Result<(), Failure> {
    let failed = |property| failure(device, recipe, property);
    // One cache for all of them: what one property leaves there must not matter to the next.
    let mut subject = Subject::load(device, recipe, allowed).map_err(failed("load"))?;
    for (property, holds) in OF_STEPS {
        holds(&mut subject).map_err(failed(property))?;
    }
    Ok(())
}

/// What mixtures of experts are to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mixtures {
    /// It computes them as the other one does.
    Agree,
    /// It refuses to load one, and this is why.
    Refused(String),
}

/// Checks that a device holds for mixtures of experts what [`check`] asks of steps, and computes what another one does. A
/// device may refuse them.
///
/// # Errors
/// The first thing that does not hold, or the first difference.
pub fn mixtures(
    device: &dyn Device,
    reference: &dyn Device,
    tolerance: Tolerance,
) -> Result<Mixtures, Failure> {
    for dtype in FORMATS_OF_EXPERTS {
        let (recipe, allowed) = (Recipe::mixture(dtype), (tolerance.0)(dtype));
        let options = LoadOptions::new(N_CTX);
        let loaded = device.load(&recipe.file(), options, &mut |_| ControlFlow::Continue(()));
        if let Err(Error::Unsupported { reason, .. }) = loaded {
            return Ok(Mixtures::Refused(reason));
        }
        drop(loaded);
        steps_hold(device, &recipe, allowed)?;
        recipe_agrees([device, reference], &recipe, allowed)?;
    }
    Ok(Mixtures::Agree)
}

/// Checks that a device computes what another one does, and that sequences which one has begun the other goes on with.
///
/// # Errors
/// The first difference.
pub fn agree(
    device: &dyn Device,
    reference: &dyn Device,
    tolerance: Tolerance,
) -> Result<(), Failure> {
    for recipe in recipes() {
        let allowed = (tolerance.0)(recipe.dtype);
        recipe_agrees([device, reference], &recipe, allowed)?;
    }
    Ok(())
}

fn recipe_agrees(
    [device, reference]: [&dyn Device; 2],
    recipe: &Recipe,
    allowed: f32,
) -> Result<(), Failure> {
    let run = |device| {
        let mut subject = Subject::load(device, recipe, allowed)?;
        let logits = subject.whole(&steps::text(1, 50))?;
        let hidden = match subject.resident.abilities().hidden {
            true => Some(subject.hidden(&steps::text(2, 40))?),
            false => None,
        };
        Ok((subject, logits, hidden))
    };
    let moves = run(reference)
        .and_then(|(of_reference, logits, hidden)| {
            let (subject, have_logits, have_hidden) = run(device)?;
            subject.close(logits.rows(), have_logits.rows())?;
            if let (Some(want), Some(have)) = (hidden, have_hidden) {
                subject.close(want.rows(), have.rows())?;
            }
            let both = [&of_reference, &subject];
            Ok(both.iter().all(|side| side.resident.abilities().kv))
        })
        .map_err(failure(device, recipe, "agree"))?;
    if !moves {
        return Ok(());
    }
    for [from, to] in [[device, reference], [reference, device]] {
        let moved = sequences_move(from, to, recipe, allowed);
        moved.map_err(failure(device, recipe, "sequences_move"))?;
    }
    Ok(())
}

/// What `from` has read, `to` goes on with as if it had read it itself.
fn sequences_move(from: &dyn Device, to: &dyn Device, recipe: &Recipe, allowed: f32) -> Outcome {
    let tokens = steps::text(1, moves::N_MOVED + 9);
    let (moved, next) = tokens.split_at(moves::N_MOVED);
    let mut from = Subject::load(from, recipe, allowed)?;
    let mut to = Subject::load(to, recipe, allowed)?;
    let (there, here) = ([0, 1, 2], [4, 1, 3]);
    from.run(moved, 0, &there, crate::Output::Nothing)?;
    let want = to.whole(&tokens)?;
    let values = from.kv(&there, moved.len())?;
    let written = to.resident.write_kv(&here, 0..moved.len(), &values);
    written.map_err(|error| error.to_string())?;
    let have = to.goes_on(next, moved.len(), &here)?;
    to.close(want.rows().skip(moved.len()), have.rows())
}

/// A model of two layers with random weights, the same on every machine: of the llama architecture, with its large
/// matrices in three formats that models are handed out in, and without a tokenizer.
pub fn small_model() -> ModelFile {
    Recipe::mixed(None).file()
}

/// As [`small_model`], of so many layers: compilers of graphs look for what repeats.
pub fn deep_model(n_layer: usize) -> ModelFile {
    Recipe::mixed(Some(n_layer)).file()
}

/// Every shape in every format.
fn recipes() -> impl Iterator<Item = Recipe> {
    SHAPES
        .iter()
        .flat_map(|shape| FORMATS.iter().map(|&dtype| Recipe::new(shape, dtype)))
}

fn failure(
    device: &dyn Device,
    recipe: &Recipe,
    property: &'static str,
) -> impl FnOnce(String) -> Failure {
    move |found| Failure {
        device: device.description(),
        model: recipe.name(),
        property,
        found,
    }
}
