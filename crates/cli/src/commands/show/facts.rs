//! What is worth knowing about a model file. A file that cannot run has facts too.

use troika_base::ModelSpec;
use troika_engine::chat::ChatTemplate;
use troika_engine::tokenizer::Tokenizer;
use troika_gguf::ModelFile;
use troika_kernels::quant;
use troika_library::{Formats, Manifest};

use crate::weights::Footprint;

/// Contexts that memory is told for when none is asked for; longer ones than the model's are left out.
const CONTEXTS: [usize; 4] = [4096, 8192, 32_768, 131_072];

/// A file's facts.
pub(super) struct Facts<'f> {
    pub(super) file: &'f ModelFile,
    /// Its settings, if it was created with some.
    pub(super) manifest: Option<&'f Manifest>,
    pub(super) formats: Formats,
    /// The shape, if the architecture is known and its hyperparameters make sense.
    pub(super) spec: Option<ModelSpec>,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) template: Option<&'f str>,
    /// Why the template cannot be used. The model runs without it.
    pub(super) template_error: Option<String>,
    /// Why the model does not run; empty if it does.
    pub(super) obstacles: Vec<String>,
    /// Memory at some lengths of context.
    pub(super) memory: Vec<Footprint>,
}

impl<'f> Facts<'f> {
    /// Looks at all of the file but the weights.
    pub(super) fn of(
        file: &'f ModelFile,
        manifest: Option<&'f Manifest>,
        contexts: &[usize],
    ) -> Self {
        let mut obstacles = Vec::new();
        if file.tensors().is_empty() {
            obstacles.push("the file has no weights: it is a vocabulary".to_owned());
        }
        let spec = or_obstacle(troika_engine::model_spec(file), &mut obstacles);
        let tokenizer = or_obstacle(Tokenizer::from_metadata(file.metadata()), &mut obstacles);
        let template = or_obstacle(
            file.metadata().opt_str("tokenizer.chat_template"),
            &mut obstacles,
        )
        .flatten();
        let given = manifest.and_then(|manifest| manifest.template.as_deref());
        let template = given.or(template);
        let template_error = template.and_then(|source| ChatTemplate::new(source).err());
        let uncomputed = |tensor: &&troika_gguf::TensorInfo| !quant::is_computed(tensor.dtype);
        if let Some(tensor) = file.tensors().iter().find(uncomputed) {
            obstacles.push(format!("format {} is not computed yet", tensor.dtype));
        }
        let memory = spec.as_ref().map_or_else(Vec::new, |spec| {
            let contexts = match contexts {
                [] => default_contexts(spec.n_ctx),
                asked => asked.to_vec(),
            };
            let footprint = |n_ctx| Footprint::of(file, spec, n_ctx);
            contexts.into_iter().filter_map(footprint).collect()
        });
        Self {
            file,
            manifest,
            formats: Formats::of(file),
            spec,
            tokenizer,
            template,
            template_error: template_error.map(|error| error.to_string()),
            obstacles,
            memory,
        }
    }

    /// The model's own name, or its file's.
    pub(super) fn name(&self) -> &str {
        let name = self.file.metadata().str("general.name");
        name.unwrap_or_else(|_| self.file.name())
    }

    pub(super) fn architecture(&self) -> Option<&str> {
        self.file.metadata().str("general.architecture").ok()
    }
}

/// Some lengths below the model's own, and that one.
fn default_contexts(n_ctx: usize) -> Vec<usize> {
    let below = CONTEXTS.into_iter().filter(|&context| context < n_ctx);
    below.chain([n_ctx]).collect()
}

fn or_obstacle<T>(
    result: Result<T, impl std::fmt::Display>,
    obstacles: &mut Vec<String>,
) -> Option<T> {
    result
        .map_err(|error| obstacles.push(error.to_string()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[test]
    fn contexts_end_with_the_models_own() {
        assert_eq!(default_contexts(512), [512]);
        assert_eq!(default_contexts(8192), [4096, 8192]);
        assert_eq!(default_contexts(40_960), [4096, 8192, 32_768, 40_960]);
    }

    #[test]
    fn the_built_in_model_runs() {
        let file = Source::BuiltIn.open().expect("opens");
        let facts = Facts::of(&file, None, &[]);
        assert_eq!(facts.obstacles, [""; 0]);
        assert_eq!(facts.memory.len(), 1);
    }
}
