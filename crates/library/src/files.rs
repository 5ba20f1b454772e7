//! Files of models in a directory: each one file, or several that are one model together.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use troika_gguf::PartName;

use crate::name::is_model_path;
use crate::{Error, disk};

/// A model's file.
#[derive(Clone)]
pub(crate) struct FileState {
    pub(crate) file_name: String,
    pub(crate) path: PathBuf,
    /// Those of all its parts.
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
    /// The parts that follow, of a model in several files.
    pub(crate) later: Vec<PathBuf>,
}

/// The models that a directory has files of, by the files' names. Of a model in several files, that is the first; a later
/// part without it is no model.
pub(crate) fn models(directory: &Path) -> Result<Vec<FileState>, Error> {
    let mut models: Vec<FileState> = Vec::new();
    for (file_name, path, about) in disk::files(directory)? {
        if !is_model_path(Path::new(&file_name)) {
            continue;
        }
        let (bytes, modified) = (about.len(), modified(&about));
        match PartName::of(stem(&file_name)) {
            Some(part) if part.number > 1 => {
                // The files come by their names, so that its first part was here before.
                let first = PartName::write(part.base, 1, part.count);
                if let Some(model) = models.iter_mut().rfind(|it| stem(&it.file_name) == first) {
                    model.bytes += bytes;
                    model.modified = model.modified.max(modified);
                    model.later.push(path);
                }
            }
            _ => models.push(FileState {
                file_name,
                path,
                bytes,
                modified,
                later: Vec::new(),
            }),
        }
    }
    Ok(models)
}

/// The name of the model whose (first) file this is.
pub(crate) fn model_name(file_name: &str) -> &str {
    let stem = stem(file_name);
    PartName::of(stem).map_or(stem, |part| part.base)
}

fn stem(file_name: &str) -> &str {
    &file_name[..file_name.len() - ".gguf".len()]
}

/// When a file changed last.
pub(crate) fn modified(about: &Metadata) -> SystemTime {
    about.modified().unwrap_or(UNIX_EPOCH)
}
