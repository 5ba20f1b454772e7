//! How much each column of a matrix matters: the mean of the squared activations that it is multiplied with.
//!
//! The error of `x · w` by a rounded `w` is, over a text, the sum over the columns of `mean(x²) · (rounding)²` as long as
//! columns are independent; so what is rounded with these weights is rounded where it hurts least. Files are those of
//! llama.cpp: GGUF with the tensors `NAME.in_sum2` (sums of squares, `[n_in, n_matrix]`) and `NAME.counts` (rows that were
//! summed, `[1, n_matrix]`) of each matrix `NAME`.

use std::collections::BTreeMap;
use std::path::Path;

use troika_base::DType;
use troika_gguf::{Array, Metadata, ModelFile, TensorInfo, Value, Writer};
use troika_kernels::quant::dequantize_row;

use crate::Error;

/// The sums of a matrix, or of a stack of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Sums of squared activations, `[n_matrix, n_in]`.
    pub sums: Vec<f32>,
    /// Rows of activations that were summed, for each matrix of the stack.
    pub counts: Vec<f32>,
}

impl Columns {
    /// The mean squared activation of each column, `[n_matrix, n_in]`. A matrix that nothing was multiplied with, as an
    /// expert that no token has chosen, counts the same in all columns.
    pub fn means(&self) -> Vec<f32> {
        let n_in = self.sums.len() / self.counts.len().max(1);
        let matrices = self.sums.chunks(n_in.max(1)).zip(&self.counts);
        let means = matrices.flat_map(|(sums, &count)| {
            sums.iter().map(move |sum| match count > 0.0 {
                true => sum / count,
                false => 1.0,
            })
        });
        means.collect()
    }
}

/// Where an importance comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file that it was read from.
    pub file: Option<String>,
    /// Names of the texts that were read.
    pub datasets: Vec<String>,
    /// Windows of text.
    pub chunk_count: u32,
    /// Tokens of a window.
    pub chunk_size: u32,
}

/// What the columns of a model's matrices count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// By the tensor's name.
    pub columns: BTreeMap<String, Columns>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The ends of tensors' names.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Importance {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or holds something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&ModelFile::open(path)?)
    }

    /// Takes it from an open file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(file: &ModelFile) -> Result<Self, Error> {
        let refuse = |reason: String| Error::NoImportance {
            file: file.name().to_owned(),
            reason,
        };
        let metadata = file.metadata();
        let mut columns = BTreeMap::new();
        for tensor in file.tensors() {
            let Some(name) = tensor.name.strip_suffix(SUMS) else {
                continue;
            };
            let counts = file.tensor(&format!("{name}{COUNTS}"));
            let counts = counts.ok_or_else(|| refuse(format!("`{name}` has no counts")))?;
            let read = Columns {
                sums: floats(file, tensor)?,
                counts: floats(file, counts)?,
            };
            let is_sound = |x: &f32| x.is_finite() && *x >= 0.0;
            if read.counts.len() as u64 != tensor.n_rows()
                || !read.sums.iter().chain(&read.counts).all(is_sound)
            {
                return Err(refuse(format!("the sums of `{name}` make no sense")));
            }
            columns.insert(name.to_owned(), read);
        }
        if columns.is_empty() {
            return Err(refuse(format!("no tensor is called NAME{SUMS}")));
        }
        let datasets = metadata
            .opt_strings("imatrix.datasets")?
            .unwrap_or_default();
        let origin = Origin {
            file: Some(file.name().to_owned()),
            datasets: datasets.to_vec(),
            chunk_count: metadata.opt_u32("imatrix.chunk_count")?.unwrap_or(0),
            chunk_size: metadata.opt_u32("imatrix.chunk_size")?.unwrap_or(0),
        };
        Ok(Self { columns, origin })
    }

    /// Writes a file, which appears whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(self.writer().write_file(path)?)
    }

    fn writer(&self) -> Writer<'_> {
        let mut metadata = Metadata::default();
        metadata.insert("general.type", "imatrix");
        metadata.insert(
            "imatrix.datasets",
            Value::Array(Array::String(self.origin.datasets.clone())),
        );
        metadata.insert("imatrix.chunk_count", self.origin.chunk_count);
        metadata.insert("imatrix.chunk_size", self.origin.chunk_size);
        let mut writer = Writer::new(metadata);
        for (name, columns) in &self.columns {
            let n_matrix = columns.counts.len();
            let shape = [
                (columns.sums.len() / n_matrix.max(1)) as u64,
                n_matrix as u64,
            ];
            for (end, shape, values) in [
                (SUMS, shape, &columns.sums),
                (COUNTS, [1, n_matrix as u64], &columns.counts),
            ] {
                writer.tensor(format!("{name}{end}"), DType::F32, &shape, move |out| {
                    for value in values {
                        out.write_all(&value.to_le_bytes())?;
                    }
                    Ok(())
                });
            }
        }
        writer
    }

    /// What the columns of a tensor count, `[n_matrix, n_in]`; `None` if it was not measured.
    ///
    /// # Errors
    /// [`Error::OtherColumns`] if what was measured has another shape.
    pub fn of(&self, tensor: &TensorInfo) -> Result<Option<Vec<f32>>, Error> {
        let Some(columns) = self.columns.get(&tensor.name) else {
            return Ok(None);
        };
        let means = columns.means();
        let want = tensor.row_len() * tensor.shape.iter().skip(2).product::<u64>();
        match means.len() as u64 == want {
            true => Ok(Some(means)),
            false => Err(Error::OtherColumns {
                tensor: tensor.name.clone(),
                want,
                have: means.len() as u64,
            }),
        }
    }
}

fn floats(file: &ModelFile, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    let bytes = file.read_all(tensor)?;
    let mut values = vec![0.0; tensor.n_elements() as usize];
    let read = dequantize_row(tensor.dtype, &bytes, &mut values);
    read.map_err(|_| Error::NotComputed {
        tensor: tensor.name.clone(),
        dtype: tensor.dtype,
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Importance {
        let columns = Columns {
            sums: vec![4.0, 8.0, 0.0, 0.0],
            counts: vec![4.0, 0.0],
        };
        Importance {
            columns: BTreeMap::from([("blk.0.ffn_down_exps.weight".to_owned(), columns)]),
            origin: Origin {
                file: None,
                datasets: vec!["a text".to_owned()],
                chunk_count: 3,
                chunk_size: 512,
            },
        }
    }

    fn file(importance: &Importance) -> ModelFile {
        let mut bytes = Vec::new();
        importance
            .writer()
            .write_to(&mut bytes)
            .expect("is written");
        ModelFile::from_bytes("imatrix", bytes).expect("is read")
    }

    #[test]
    fn it_comes_back_from_its_file() {
        let back = Importance::read(&file(&some())).expect("is read");
        assert_eq!(back.columns, some().columns);
        assert_eq!(back.origin.chunk_size, 512);
        assert_eq!(back.origin.datasets, ["a text"]);
    }

    #[test]
    fn what_nothing_was_multiplied_with_counts_the_same() {
        let columns = &some().columns["blk.0.ffn_down_exps.weight"];
        assert_eq!(columns.means(), [1.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn another_shape_and_nonsense_are_refused() {
        let tensor = |shape: &[u64]| TensorInfo {
            name: "blk.0.ffn_down_exps.weight".to_owned(),
            dtype: DType::F32,
            shape: shape.to_vec(),
            offset: 0,
            bytes: 0,
        };
        assert!(some().of(&tensor(&[2, 7, 2])).expect("fits").is_some());
        assert!(some().of(&tensor(&[4, 7])).is_ok());
        for shape in [&[2, 7][..], &[4, 7, 2]] {
            let found = some().of(&tensor(shape));
            assert!(
                matches!(found, Err(Error::OtherColumns { .. })),
                "{found:?}"
            );
        }
        let mut broken = some();
        let columns = broken.columns.values_mut().next().expect("has one");
        columns.sums[0] = f32::NAN;
        let found = Importance::read(&file(&broken));
        assert!(
            matches!(found, Err(Error::NoImportance { .. })),
            "{found:?}"
        );
    }
}
