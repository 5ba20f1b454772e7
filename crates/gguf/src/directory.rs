//! The tensor directory: every tensor inside the file, on the grid, apart from all others, with a name of its own.

use crate::parse::{Header, TensorEntry};
use crate::{Error, Place, Problem, TensorInfo};

/// A tensor directory that holds together.
pub(crate) struct Directory {
    /// In the order of the file; offsets count from the start of the file.
    pub(crate) tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, in order of the names.
    pub(crate) by_name: Vec<usize>,
}

impl Directory {
    /// Places the tensors of a header in a file of `file_bytes` bytes.
    pub(crate) fn new(header: &mut Header, file: &str, file_bytes: u64) -> Result<Self, Error> {
        let data_start = header.data_start();
        let mut entries = std::mem::take(&mut header.entries);
        for entry in &mut entries {
            let start = checked_start(&entry.info, data_start, header.alignment, file_bytes);
            entry.info.offset = start.map_err(|problem| malformed(entry, problem, file))?;
        }

        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by_key(|&i| (entries[i].info.offset, i));
        require_apart(&entries, &order, file)?;

        order.sort_unstable_by_key(|&i| (entries[i].info.name.as_str(), i));
        require_unique(&entries, &order, file)?;

        Ok(Self {
            tensors: entries.into_iter().map(|entry| entry.info).collect(),
            by_name: order,
        })
    }
}

/// Where a tensor starts in the file, once it is certain that it ends there too.
fn checked_start(
    info: &TensorInfo,
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<u64, Problem> {
    let (data_offset, bytes) = (info.offset, info.bytes);
    if !data_offset.is_multiple_of(alignment) {
        return Err(Problem::Misaligned {
            data_offset,
            alignment,
        });
    }
    let start = data_start.saturating_add(data_offset);
    match start.checked_add(bytes) {
        Some(end) if end <= file_bytes => Ok(start),
        _ => Err(Problem::OutsideFile {
            start,
            bytes,
            file_bytes,
        }),
    }
}

/// No two tensors share a byte; `order` is by offset.
fn require_apart(entries: &[TensorEntry], order: &[usize], file: &str) -> Result<(), Error> {
    for (before, entry) in pairs(entries, order) {
        let (start, other_end) = (entry.info.offset, before.info.offset + before.info.bytes);
        if start < other_end {
            let other = before.info.name.clone();
            return Err(malformed(
                entry,
                Problem::Overlap {
                    start,
                    other,
                    other_end,
                },
                file,
            ));
        }
    }
    Ok(())
}

/// No two tensors share a name; `order` is by name, then as in the file.
fn require_unique(entries: &[TensorEntry], order: &[usize], file: &str) -> Result<(), Error> {
    for (before, entry) in pairs(entries, order) {
        if before.info.name == entry.info.name {
            return Err(malformed(
                entry,
                Problem::Duplicate { first: before.at },
                file,
            ));
        }
    }
    Ok(())
}

/// Neighbours in the given order.
fn pairs<'a>(
    entries: &'a [TensorEntry],
    order: &'a [usize],
) -> impl Iterator<Item = (&'a TensorEntry, &'a TensorEntry)> {
    order
        .windows(2)
        .map(|pair| (&entries[pair[0]], &entries[pair[1]]))
}

fn malformed(entry: &TensorEntry, problem: Problem, file: &str) -> Error {
    Error::Malformed {
        place: Place::Tensor(entry.info.name.clone()),
        offset: entry.at,
        problem,
        file: file.to_owned(),
    }
}
