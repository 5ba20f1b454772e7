//! Which model, and how precisely stored: a name, or the best that fits.

use crate::catalogue::{self, Catalogue, Unknown, shape};
use crate::model::ModelShape;
use crate::quantization::Quantization;

use super::PlanError;
use super::workload::{BEST, Task};

/// The forms from which `best` chooses, the most precise first.
pub(super) const LADDER: [&str; 6] = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M"];

/// The forms of weights that come into question, the most precise first.
pub(super) fn quantizations(name: &str) -> Result<Vec<Quantization>, PlanError> {
    let names = if name == BEST {
        &LADDER[..]
    } else {
        &[name][..]
    };
    names.iter().map(|name| quantization(name)).collect()
}

fn quantization(name: &str) -> Result<Quantization, PlanError> {
    Quantization::parse(name).map_err(|unknown| PlanError::Quantization(unknown.to_string()))
}

/// The catalogue's models for a task, the most capable first: by parameters, and of equals by those that a token uses.
pub(super) fn models_for(task: Task, catalogue: &Catalogue) -> Vec<ModelShape> {
    let wanted = match task {
        Task::Embed => catalogue::Task::Embed,
        Task::Transcribe => catalogue::Task::Asr,
        Task::Chat | Task::Code | Task::Agent | Task::Rag | Task::Vision | Task::Train => {
            catalogue::Task::Generate
        }
    };
    let rows = catalogue
        .models()
        .iter()
        .filter(|model| model.task == wanted);
    let mut shapes: Vec<_> = rows.map(shape).collect();
    shapes.sort_by(|a, b| {
        (b.params, b.params_active, &a.name).cmp(&(a.params, a.params_active, &b.name))
    });
    shapes
}

/// The shape of a model by its name in the catalogue.
///
/// # Errors
/// If there is none of this name; it says which are closest.
pub fn named(name: &str, catalogue: &Catalogue) -> Result<ModelShape, Unknown> {
    Ok(shape(catalogue.model(name)?.row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::catalogue;

    #[test]
    fn the_biggest_comes_first_and_tasks_have_their_own() {
        let catalogue = catalogue();
        let names: Vec<_> = models_for(Task::Chat, &catalogue)
            .into_iter()
            .map(|shape| shape.name)
            .collect();
        assert_eq!(
            names,
            ["big-70b", "mix-30b-a3b", "llama-3.1-8b", "small-1b"]
        );
        assert_eq!(models_for(Task::Embed, &catalogue).len(), 1);
        let mix = named("mix-30b-a3b", &catalogue).expect("is there");
        assert_eq!(mix.params_active, 3_300_000_000);
        let message = named("lama-3.1-8b", &catalogue)
            .expect_err("is none")
            .to_string();
        assert!(message.contains("llama-3.1-8b"), "{message}");
    }
}
