//! LoRA adapters by flag: files and directories, each with its scale.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use troika_engine::{Adapter, with_adapters};
use troika_gguf::ModelFile;

/// Adapters over the model.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AdapterArgs {
    /// Apply a LoRA adapter, times SCALE: a .gguf file, or the directory that PEFT has saved; may be given several times
    #[arg(long = "lora", value_name = "PATH[:SCALE]", value_parser = lora)]
    adapters: Vec<Lora>,
}

/// One adapter, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Lora {
    path: PathBuf,
    scale: f32,
}

impl AdapterArgs {
    /// The model with these adapters.
    ///
    /// # Errors
    /// If one is damaged or for another model.
    pub(crate) fn apply(&self, model: ModelFile) -> anyhow::Result<ModelFile> {
        let adapters = self.adapters.iter().map(|lora| {
            Ok(Adapter {
                file: open(&lora.path, &model)?,
                scale: lora.scale,
            })
        });
        let adapters = adapters.collect::<anyhow::Result<Vec<_>>>()?;
        with_adapters(model, &adapters).context("cannot apply the adapter")
    }
}

/// An adapter's file, or what it would be for a directory of PEFT's.
fn open(path: &Path, model: &ModelFile) -> anyhow::Result<ModelFile> {
    let file = match path.is_dir() {
        true => troika_import::adapter(path, model).map_err(anyhow::Error::from),
        false => ModelFile::open(path).map_err(anyhow::Error::from),
    };
    file.with_context(|| format!("cannot open the adapter {}", path.display()))
}

/// `PATH`, or `PATH:SCALE` where what is behind the last colon is a number.
fn lora(text: &str) -> Result<Lora, String> {
    let scaled = text
        .rsplit_once(':')
        .and_then(|(path, scale)| Some((path, scale.parse::<f32>().ok()?)));
    let (path, scale) = scaled.unwrap_or((text, 1.0));
    match (path.is_empty(), scale.is_finite()) {
        (true, _) => Err("expected a path before the scale".to_owned()),
        (_, false) => Err("the scale must be a finite number".to_owned()),
        _ => Ok(Lora {
            path: path.into(),
            scale,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_behind_the_last_colon() {
        let of = |path: &str, scale| {
            Ok(Lora {
                path: path.into(),
                scale,
            })
        };
        assert_eq!(lora("a.gguf"), of("a.gguf", 1.0));
        assert_eq!(lora("a.gguf:0.5"), of("a.gguf", 0.5));
        assert_eq!(lora("a.gguf:-1"), of("a.gguf", -1.0));
        assert_eq!(lora("C:\\a"), of("C:\\a", 1.0));
        assert_eq!(lora("dir:with:2"), of("dir:with", 2.0));
        assert!(lora(":2").is_err());
        assert!(lora("a:inf").is_err());
    }
}
