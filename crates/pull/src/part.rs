//! One file of a model that is fetched: most have one, large ones several.

use troika_gguf::PartName;
use troika_library::{Digest, Manifest, ModelName};

use crate::Error;
use crate::download::Source;
use crate::error::shortened;
use crate::store::Identity;

/// A file, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is called where it is.
    pub(crate) file: String,
    /// What its bytes have to be, where its source says so.
    pub(crate) digest: Option<Digest>,
    pub(crate) fetched: Source,
    pub(crate) target: Target,
}

/// What becomes of a file.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// `NAME.gguf`, with the name of a part where it is one of several.
    File(ModelName),
    /// A file without a name of its own, and settings over it.
    Created(ModelName, Box<Manifest>),
}

impl Part {
    pub(crate) fn bytes(&self) -> u64 {
        self.fetched.bytes
    }

    /// What pieces of it are known by.
    pub(crate) fn identity(&self) -> Identity {
        let uri = &self.fetched.uri;
        let what = match (&self.digest, &self.fetched.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => format!("{uri} {tag}"),
            (None, None) => uri.to_string(),
        };
        Identity {
            what,
            bytes: self.bytes(),
        }
    }
}

impl Target {
    /// The name of the model that it is, or is a part of.
    pub(crate) fn model(&self) -> &str {
        match self {
            Self::File(name) => PartName::of(name.as_str()).map_or(name.as_str(), |part| part.base),
            Self::Created(name, _) => name.as_str(),
        }
    }
}

/// What becomes of the `count` files of a model under this name.
///
/// # Errors
/// If it is no name, or none that files can have and there are several.
pub(crate) fn targets(
    name: &str,
    manifest: Option<Manifest>,
    count: usize,
) -> Result<Vec<Target>, Error> {
    let plain = ModelName::new(name)?;
    let is_plain = !plain.as_str().contains(['/', ':']);
    if count == 1 {
        return Ok(vec![match manifest {
            None if is_plain => Target::File(plain),
            manifest => Target::Created(plain, Box::new(manifest.unwrap_or_default())),
        }]);
    }
    if !is_plain {
        return Err(Error::Library(troika_library::Error::BadName {
            name: shortened(name),
            reason: "a model in several files has neither `/` nor `:` in its name",
        }));
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let part = |number| {
        Ok(Target::File(ModelName::new(&PartName::write(
            name, number, count,
        ))?))
    };
    (1..=count).map(part).collect()
}

/// Settings over the file with this digest.
pub(crate) fn made_of(manifest: &Manifest, digest: &Digest) -> Manifest {
    Manifest {
        from: digest.to_string(),
        ..manifest.clone()
    }
}
