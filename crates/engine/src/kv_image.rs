//! A sequence's keys and values in host memory, to go on with on another device or at another time.

use std::path::Path;

use troika_base::{Bytes, TokenId};
use troika_device::{PAGE_TOKENS, f16};

use crate::kv_file::{self, KvError, Origin, Page};
use crate::{Error, Model, Sequence};

/// The tokens of a sequence, with their keys and values in the layout of docs/formats/kv.md.
#[derive(Clone, Debug, PartialEq)]
pub struct KvImage {
    origin: Origin,
    tokens: Vec<TokenId>,
    values: Vec<f16>,
}

/// Of nobody's: an image has no namespace.
const NOBODY: [u8; 32] = [0; 32];

impl KvImage {
    /// The tokens.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Memory that the keys and values take.
    pub fn bytes(&self) -> Bytes {
        Bytes(size_of_val(&*self.values) as u64)
    }

    /// Forgets all but the first `n_tok` tokens.
    pub fn truncate(&mut self, n_tok: usize) {
        self.tokens.truncate(n_tok);
        self.values.truncate(self.origin.values(self.tokens.len()));
    }

    /// Writes it to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// If that fails.
    pub fn save(&self, path: &Path) -> Result<(), KvError> {
        let blocks = self.tokens.chunks(PAGE_TOKENS);
        let values = self.values.chunks(self.origin.values(PAGE_TOKENS));
        let pages: Vec<Page> = blocks
            .zip(values)
            .enumerate()
            .map(|(i, (tokens, values))| Page {
                namespace: NOBODY,
                parent: i.checked_sub(1),
                tokens: tokens.to_vec(),
                values: values.to_vec(),
            })
            .collect();
        kv_file::write(path, &self.origin, &pages)
    }

    /// Reads a file that [`Self::save`] wrote from a sequence of this model. No more than the model's cache could hold.
    ///
    /// # Errors
    /// If there is none, it is of another model, or it is damaged.
    pub fn open(path: &Path, model: &Model) -> Result<Self, KvError> {
        let origin = model.origin();
        let pages = kv_file::read(path, &origin, model.kv_file_bytes_max())?;
        let in_order = |(i, page): (usize, &Page)| page.parent == i.checked_sub(1);
        if !pages.iter().enumerate().all(in_order) || pages.iter().any(|p| p.namespace != NOBODY) {
            return Err(KvError::Damaged {
                path: path.to_owned(),
                problem: "it holds other than one sequence".to_owned(),
            });
        }
        let (mut tokens, mut values) = (Vec::new(), Vec::new());
        for page in &pages {
            tokens.extend_from_slice(&page.tokens);
            values.extend_from_slice(&page.values);
        }
        Ok(Self {
            origin,
            tokens,
            values,
        })
    }
}

impl Model {
    /// Copies a sequence's keys and values to host memory. The sequence stays as it is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn export(&mut self, sequence: &Sequence) -> Result<KvImage, Error> {
        let origin = self.origin();
        let tokens = sequence.tokens().to_vec();
        let mut values = vec![f16::ZERO; origin.values(tokens.len())];
        self.read_kv(&sequence.pages(), 0..tokens.len(), &mut values)?;
        Ok(KvImage {
            origin,
            tokens,
            values,
        })
    }

    /// A sequence that goes on from an image, which the same model has made, wherever it was loaded.
    ///
    /// # Errors
    /// If the image is another model's, the cache is full, or the device fails.
    pub fn import(&mut self, image: &KvImage) -> Result<Sequence, Error> {
        let mut sequence = Sequence::default();
        self.extend(&mut sequence, image)?;
        Ok(sequence)
    }

    /// Makes a sequence that holds a beginning of an image's tokens, such as one that a prefix cache has found, hold all
    /// of them. What it holds is not copied again.
    ///
    /// # Errors
    /// If the image is another model's or goes another way, the cache is full, or the device fails. The sequence is as
    /// before then.
    pub fn extend(&mut self, sequence: &mut Sequence, image: &KvImage) -> Result<(), Error> {
        let held = sequence.tokens().len();
        if image.origin != self.origin() || !image.tokens.starts_with(sequence.tokens()) {
            return Err(KvError::OtherModel.into());
        }
        let values = &image.values[image.origin.values(held)..];
        self.append(sequence, &image.tokens[held..], values)
    }
}
