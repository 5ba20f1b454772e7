//! What a checkpoint's tensors become: names, shapes, order of rows, formats.

use std::collections::BTreeSet;
use std::ops::Range;

use half::{bf16, f16};
use troika_base::DType;

use crate::Error;
use crate::mxfp4::Mxfp4;
use crate::source::{Entry, Source};

/// What happens to some rows on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Of each of so many heads, the rows of both halves alternate: pairs that were half a head apart become neighbours.
    Interleave(usize),
    /// 1 is added: to norms whose weights are kept as what they differ by.
    AddOne,
    /// Every `step`th column from the `first` on, and what were columns are rows then.
    Transposed {
        /// Where to begin.
        first: usize,
        /// How far the next one is.
        step: usize,
    },
    /// Every second value of a row from this one on.
    Alternate(usize),
}

/// Some rows of a tensor of the checkpoint.
#[derive(Debug)]
struct Piece {
    entry: Entry,
    rows: Range<usize>,
    change: Change,
}

/// A tensor of the GGUF file.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// In GGUF's order: row length first.
    pub(crate) shape: Vec<u64>,
    content: Content,
}

/// Where a tensor's bytes come from.
#[derive(Debug)]
enum Content {
    /// Rows of the checkpoint's tensors, one behind the other.
    Pieces(Vec<Piece>),
    /// The configuration.
    Values(Vec<f32>),
    Mxfp4(Mxfp4),
}

/// All tensors of the GGUF file, as they are found in the checkpoint.
pub(crate) struct Layout<'s> {
    source: &'s Source,
    /// What all names in the checkpoint begin with.
    prefix: String,
    used: BTreeSet<String>,
    pub(crate) made: Vec<Made>,
}

impl<'s> Layout<'s> {
    /// Nothing yet. Names are those of a model without a wrapper, which may be inside of one; `table` is the embedding
    /// table's.
    pub(crate) fn new(source: &'s Source, table: &str) -> Result<Self, Error> {
        let prefix = source.names().find_map(|name| name.strip_suffix(table));
        let prefix = prefix.ok_or_else(|| Error::Tensor {
            tensor: table.to_owned(),
            problem: "it is missing".to_owned(),
        })?;
        Ok(Self {
            prefix: prefix.to_owned(),
            ..Self::unnamed(source)
        })
    }

    /// Nothing yet, of tensors that are asked for by their whole names.
    pub(crate) fn unnamed(source: &'s Source) -> Self {
        Self {
            source,
            prefix: String::new(),
            used: BTreeSet::new(),
            made: Vec::new(),
        }
    }

    /// Whether the checkpoint has a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.get(&self.full(name)).is_some()
    }

    /// The matrix that reads scores stands beside the decoder, in its wrapper.
    fn full(&self, name: &str) -> String {
        let outside = name == "lm_head.weight" && self.source.get(name).is_some();
        match outside {
            true => name.to_owned(),
            false => format!("{}{name}", self.prefix),
        }
    }

    fn entry(&mut self, name: &str) -> Result<Entry, Error> {
        let full = self.full(name);
        let entry = self.source.get(&full).ok_or_else(|| Error::Tensor {
            tensor: full.clone(),
            problem: "it is missing".to_owned(),
        })?;
        self.used.insert(full);
        Ok(entry.clone())
    }

    /// A tensor whole, as it is or changed. Rows alone (norms, biases) become F32.
    pub(crate) fn whole(&mut self, name: &str, from: &str, change: Change) -> Result<(), Error> {
        let mut entry = self.entry(from)?;
        if matches!(change, Change::Interleave(_)) && entry.shape.len() == 1 {
            // A bias has the order of its matrix's rows.
            entry.shape.push(1);
        }
        let n_row = entry.rows().1;
        self.push(name, vec![(entry, 0..n_row)], change, None)
    }

    /// Lets go of a tensor that repeats another, if it is there.
    pub(crate) fn leave(&mut self, name: &str) {
        self.used.insert(self.full(name));
    }

    /// One tensor `[n, ..]` of `n` that are alike.
    pub(crate) fn stack(
        &mut self,
        name: &str,
        from: &[String],
        change: Change,
    ) -> Result<(), Error> {
        let entries: Result<Vec<_>, Error> = from.iter().map(|name| self.entry(name)).collect();
        let pieces = entries?.into_iter().map(|entry| {
            let n_row = entry.rows().1;
            (entry, 0..n_row)
        });
        self.push(name, pieces.collect(), change, Some(from.len()))
    }

    /// One tensor `[n, ..]` of a range of rows of each of the `n` parts of a tensor.
    pub(crate) fn parts(
        &mut self,
        name: &str,
        from: &str,
        rows: impl Fn(usize) -> Range<usize>,
        change: Change,
    ) -> Result<(), Error> {
        let entry = self.entry(from)?;
        let [n, n_row, _] = entry.shape[..] else {
            return Err(Error::Tensor {
                tensor: self.full(from),
                problem: format!(
                    "its shape is {:?}, and three dimensions are wanted",
                    entry.shape
                ),
            });
        };
        let rows = rows(n_row);
        let pieces = (0..n).map(|i| {
            let start = i * n_row;
            (entry.clone(), start + rows.start..start + rows.end)
        });
        self.push(name, pieces.collect(), change, Some(n))
    }

    /// A tensor that follows from the configuration.
    pub(crate) fn values(&mut self, name: &str, values: Vec<f32>) {
        self.made.push(Made {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: vec![values.len() as u64],
            content: Content::Values(values),
        });
    }

    /// One tensor `[n, ..]` of `n` experts that are in MXFP4 already, in `{from}_blocks` and `{from}_scales`: of each, rows from
    /// the first on, with so many from one to the next.
    pub(crate) fn mxfp4(
        &mut self,
        name: &str,
        from: &str,
        rows: (usize, usize),
    ) -> Result<(), Error> {
        let codes = self.entry(&format!("{from}_blocks"))?;
        let scales = self.entry(&format!("{from}_scales"))?;
        let made = Mxfp4::new(codes, scales, rows).map_err(|problem| Error::Tensor {
            tensor: self.full(from),
            problem,
        })?;
        self.made.push(Made {
            name: name.to_owned(),
            dtype: DType::MXFP4,
            shape: made.shape().to_vec(),
            content: Content::Mxfp4(made),
        });
        Ok(())
    }

    fn push(
        &mut self,
        name: &str,
        from: Vec<(Entry, Range<usize>)>,
        change: Change,
        stacked: Option<usize>,
    ) -> Result<(), Error> {
        let bad = |problem: String| Error::Tensor {
            tensor: name.to_owned(),
            problem,
        };
        let (first, rows) = from
            .first()
            .ok_or_else(|| bad("it has no parts".to_owned()))?;
        if first.dtype == DType::I8 {
            return Err(bad("its format is U8, and numbers are wanted".to_owned()));
        }
        let alike = from.iter().all(|(entry, range)| {
            entry.dtype == first.dtype
                && entry.rows().0 == first.rows().0
                && range.len() == rows.len()
        });
        if !alike {
            return Err(bad("its parts differ in shape or format".to_owned()));
        }
        let (width, n_row) = change.shape(first.rows().0, rows.len());
        if n_row == 0 || width == 0 {
            return Err(bad("it has no values".to_owned()));
        }
        if let Change::Interleave(n_head) = change
            && !n_row.is_multiple_of(2 * n_head)
        {
            return Err(bad(format!("its {n_row} rows are not {n_head} heads")));
        }
        let is_row = first.shape.len() < 2 || width == 1;
        let mut shape = match is_row {
            true => vec![(width * n_row) as u64],
            false => vec![width as u64, n_row as u64],
        };
        shape.extend(stacked.map(|n| n as u64));
        let dtype = first.dtype;
        // What is added and not multiplied, and routers, are F32 to other readers.
        let is_small = name.ends_with(".bias")
            || name.contains("ffn_gate_inp")
            || ["token_types.weight", "position_embd.weight"].contains(&name);
        let keeps_format = !is_row && !is_small;
        let pieces = from.into_iter().map(|(entry, rows)| Piece {
            entry,
            rows,
            change,
        });
        self.made.push(Made {
            name: name.to_owned(),
            dtype: if keeps_format { dtype } else { DType::F32 },
            shape,
            content: Content::Pieces(pieces.collect()),
        });
        Ok(())
    }

    /// Once all were taken: what is left would be computed with by the model, and is not here.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        /// What follows from the configuration, what sees and hears beside the decoder, and what guesses words and
        /// sentences beside an encoder.
        const LEFT_OUT: [&str; 7] = [
            "rotary_emb.inv_freq",
            "cls.predictions.",
            "cls.seq_relationship.",
            "vision_tower.",
            "vision_model.",
            "audio_tower.",
            "multi_modal_projector.",
        ];
        let is_stray = |name: &&str| {
            !self.used.contains(*name) && !LEFT_OUT.iter().any(|part| name.contains(part))
        };
        match self.source.names().find(is_stray) {
            None => Ok(()),
            Some(name) => Err(Error::Tensor {
                tensor: name.to_owned(),
                problem: "it is not part of this architecture as it is known here".to_owned(),
            }),
        }
    }
}

impl Change {
    /// Row length and rows of what comes of `[n_row, width]`.
    fn shape(self, width: usize, n_row: usize) -> (usize, usize) {
        match self {
            Self::Transposed { first, step } => {
                (n_row, (width.saturating_sub(first)).div_ceil(step))
            }
            Self::Alternate(first) => (width.saturating_sub(first).div_ceil(2), n_row),
            Self::None | Self::Interleave(_) | Self::AddOne => (width, n_row),
        }
    }
}

impl Made {
    /// The size of its data.
    pub(crate) fn n_bytes(&self) -> u64 {
        let n: u64 = self.shape.iter().product();
        n / self.dtype.block_len() as u64 * self.dtype.block_bytes() as u64
    }

    /// The tensor's bytes, piece by piece.
    pub(crate) fn bytes(&self) -> Box<dyn Iterator<Item = std::io::Result<Vec<u8>>> + '_> {
        match &self.content {
            Content::Pieces(pieces) => Box::new(pieces.iter().map(|piece| piece.bytes(self.dtype))),
            Content::Values(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                Box::new(std::iter::once(Ok(bytes.collect())))
            }
            Content::Mxfp4(experts) => Box::new(experts.bytes()),
        }
    }
}

impl Piece {
    fn bytes(&self, dtype: DType) -> std::io::Result<Vec<u8>> {
        let (width, size) = (self.entry.rows().0, self.entry.dtype.block_bytes());
        let row = width * size;
        let bytes = self
            .entry
            .read((self.rows.start * row) as u64, self.rows.len() * row)?;
        let value = |at: usize, column: usize| &bytes[at * row + column * size..][..size];
        let bytes = match self.change {
            Change::None | Change::AddOne => bytes,
            Change::Interleave(n_head) => {
                let half = self.rows.len() / n_head / 2;
                let pair = |i: usize| (i / half * 2 * half) + i % half;
                let rows = (0..n_head * half).flat_map(|i| [pair(i), pair(i) + half]);
                rows.flat_map(|at| &bytes[at * row..][..row])
                    .copied()
                    .collect()
            }
            Change::Transposed { first, step } => (first..width)
                .step_by(step)
                .flat_map(|column| (0..self.rows.len()).map(move |at| (at, column)))
                .flat_map(|(at, column)| value(at, column))
                .copied()
                .collect(),
            Change::Alternate(first) => (0..self.rows.len())
                .flat_map(|at| (first..width).step_by(2).map(move |column| (at, column)))
                .flat_map(|(at, column)| value(at, column))
                .copied()
                .collect(),
        };
        let add = if self.change == Change::AddOne {
            1.0
        } else {
            0.0
        };
        if dtype == self.entry.dtype && add == 0.0 {
            return Ok(bytes);
        }
        Ok(floats(self.entry.dtype, &bytes)
            .flat_map(|value| (value + add).to_le_bytes())
            .collect())
    }
}

/// The values of F32, F16 or BF16 numbers.
fn floats(dtype: DType, bytes: &[u8]) -> Box<dyn Iterator<Item = f32> + '_> {
    let words = || {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|word| u16::from_le_bytes(*word))
    };
    match dtype {
        DType::F16 => Box::new(words().map(|bits| f16::from_bits(bits).to_f32())),
        DType::BF16 => Box::new(words().map(|bits| bf16::from_bits(bits).to_f32())),
        _ => Box::new(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| f32::from_le_bytes(*word)),
        ),
    }
}
