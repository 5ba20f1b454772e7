//! Bringing a model to a device.

use std::ops::ControlFlow;

use super::Outcome;
use super::models::{N_CTX, Recipe};
use crate::{Cancelled, Device, Error, KvShape, LoadOptions, LoadProgress, PAGE_TOKENS, Resident};

fn load(
    device: &dyn Device,
    recipe: &Recipe,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
) -> Result<Box<dyn Resident>, Error> {
    device.load(&recipe.file(), LoadOptions::new(N_CTX), progress)
}

pub(super) fn the_shape_and_the_room_are_as_asked(device: &dyn Device, recipe: &Recipe) -> Outcome {
    let resident = load(device, recipe, &mut |_| ControlFlow::Continue(()));
    let resident = resident.map_err(|error| error.to_string())?;
    let kv_shape = KvShape::of(&recipe.spec);
    if *resident.spec() != recipe.spec || resident.kv_shape() != kv_shape {
        let (spec, kv_shape) = (resident.spec(), resident.kv_shape());
        return Err(format!("the model has {spec:?} and {kv_shape:?}"));
    }
    let n_page = resident.n_page();
    match n_page * PAGE_TOKENS >= N_CTX && resident.weights_bytes().0 > 0 {
        true => Ok(()),
        false => Err(format!(
            "{n_page} pages, {} of weights",
            resident.weights_bytes()
        )),
    }
}

pub(super) fn progress_rises_to_the_total(device: &dyn Device, recipe: &Recipe) -> Outcome {
    let mut heard = Vec::new();
    let loaded = load(device, recipe, &mut |progress| {
        heard.push((progress.done, progress.total));
        ControlFlow::Continue(())
    });
    loaded.map_err(|error| error.to_string())?;
    let one_total = heard.iter().all(|(_, total)| *total == heard[0].1);
    let arrives = heard.last().is_some_and(|(done, total)| done == total);
    match heard.is_sorted() && one_total && arrives {
        true => Ok(()),
        false => Err(format!("done and total were {heard:?}")),
    }
}

/// At the first word of progress, and at the last.
pub(super) fn loads_can_be_broken_off(device: &dyn Device, recipe: &Recipe) -> Outcome {
    for at_end in [false, true] {
        let loaded = load(device, recipe, &mut |progress| match at_end
            && progress.done < progress.total
        {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(Cancelled),
        });
        match loaded {
            Err(Error::Cancelled) => {}
            Err(other) => return Err(other.to_string()),
            Ok(_) => return Err("the model was loaded all the same".to_owned()),
        }
    }
    Ok(())
}
