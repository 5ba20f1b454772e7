//! A file's tensors, each asked for with the shape that the hyperparameters say.

use std::cell::RefCell;
use std::collections::BTreeSet;

use troika_gguf::{ModelFile, TensorInfo};

use crate::Error;

/// What tensors' names end with that some converters leave in the file, and that change nothing: what follows from the
/// hyperparameters, and by what activations would be divided before a device rounds them to 4 bits, which none here does.
const UNUSED: [&str; 2] = ["rotary_emb.inv_freq", ".input_scale"];

/// The name of what a tensor `NAME.weight` is multiplied by, if the file has it: one f32, or one for each expert. NVFP4 needs
/// it, whose blocks' scales reach no farther than 448.
///
/// Source: llama.cpp, docs/formats/fp4.md.
pub fn scale_name(tensor: &str) -> Option<String> {
    Some(format!("{}.scale", tensor.strip_suffix(".weight")?))
}

/// Hands out a file's tensors, and remembers which.
#[derive(Debug)]
pub struct Tensors<'f> {
    file: &'f ModelFile,
    architecture: &'f str,
    used: RefCell<BTreeSet<&'f str>>,
}

impl<'f> Tensors<'f> {
    /// Of a file with a model of this architecture.
    pub fn new(file: &'f ModelFile, architecture: &'f str) -> Self {
        Self {
            file,
            architecture,
            used: RefCell::default(),
        }
    }

    /// The file.
    pub fn file(&self) -> &'f ModelFile {
        self.file
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// A tensor of whatever shape, if the file has it.
    pub fn find(&self, name: &str) -> Option<&'f TensorInfo> {
        let tensor = self.file.tensor(name)?;
        self.used.borrow_mut().insert(&tensor.name);
        Some(tensor)
    }

    /// The tensor of this name and shape, row length first.
    ///
    /// # Errors
    /// If the file has none, or one of another shape.
    pub fn get(&self, name: &str, want: &[usize]) -> Result<&'f TensorInfo, Error> {
        let tensor = self.find(name).ok_or_else(|| Error::MissingTensor {
            model: self.file.name().to_owned(),
            tensor: name.to_owned(),
            architecture: self.architecture.to_owned(),
        })?;
        // Trailing ones are optional in the file.
        let have = tensor.shape.iter().copied().chain(std::iter::repeat(1));
        let longest = tensor.shape.len().max(want.len());
        let wanted = want.iter().map(|&n| n as u64).chain(std::iter::repeat(1));
        if have.take(longest).eq(wanted.take(longest)) {
            return Ok(tensor);
        }
        Err(Error::TensorShape {
            model: self.file.name().to_owned(),
            tensor: name.to_owned(),
            want: want.to_vec(),
            have: tensor.shape.clone(),
        })
    }

    /// Once all were taken: one that nobody asked for means that the model computes something which this architecture
    /// does not.
    ///
    /// # Errors
    /// If there is one.
    pub fn finish(&self) -> Result<(), Error> {
        let used = self.used.borrow();
        let stray = |tensor: &&TensorInfo| {
            let changes_nothing = UNUSED.iter().any(|end| tensor.name.ends_with(end));
            !used.contains(tensor.name.as_str()) && !changes_nothing
        };
        match self.file.tensors().iter().find(stray) {
            None => Ok(()),
            Some(tensor) => Err(Error::UnusedTensor {
                model: self.file.name().to_owned(),
                tensor: tensor.name.clone(),
                architecture: self.architecture.to_owned(),
            }),
        }
    }
}
