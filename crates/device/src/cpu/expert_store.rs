//! Where experts' matrices are: all in memory, or in the file, from which they are read when tokens go to them. Of these,
//! those that were used last are kept, up to a limit in bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use troika_base::Bytes;
use troika_gguf::{ModelFile, TensorInfo, TensorReader};
use troika_kernels::{PackedMatrix, Pool, packed_bytes};

use super::scales;
use crate::Error;

/// A matrix `[n_out, n_in]` of every expert.
#[derive(Debug)]
pub struct ExpertMatrices {
    slices: Slices,
    /// All of them, or none if they stay in the file.
    resident: Vec<Arc<PackedMatrix>>,
}

/// A tensor `[n_expert, n_out, n_in]` in the file, expert by expert.
#[derive(Debug)]
struct Slices {
    reader: TensorReader,
    n_out: usize,
    n_in: usize,
    row_bytes: usize,
    /// Of a matrix in memory.
    packed_bytes: usize,
    /// What each expert's weights are multiplied by; empty if by nothing.
    scales: Vec<f32>,
}

impl Slices {
    /// The caller has checked that the format is computed.
    fn new(file: &ModelFile, tensor: &TensorInfo) -> Result<Self, Error> {
        let size = |n: u64| usize::try_from(n).expect("a checked tensor fits. This is a bug.");
        let (n_in, n_out) = (size(tensor.shape[0]), size(tensor.shape[1]));
        let checked = "the format was checked. This is a bug.";
        Ok(Self {
            reader: file.reader(tensor),
            n_out,
            n_in,
            row_bytes: tensor.dtype.row_bytes(n_in).expect(checked),
            packed_bytes: packed_bytes(tensor.dtype, n_out, n_in).expect(checked),
            scales: scales(file, tensor)?,
        })
    }

    fn read(&self, pool: &Pool, expert: usize) -> Result<PackedMatrix, Error> {
        let dtype = self.reader.tensor().dtype;
        let read = |first_row: usize, out: &mut [u8]| {
            let row = expert * self.n_out + first_row;
            self.reader.read((row * self.row_bytes) as u64, out)
        };
        let matrix = PackedMatrix::pack(pool, dtype, self.n_out, self.n_in, read)?;
        Ok(match self.scales.get(expert) {
            Some(&scale) => matrix.scaled(scale),
            None => matrix,
        })
    }
}

impl ExpertMatrices {
    /// Leaves them in the file.
    pub(super) fn in_file(file: &ModelFile, tensor: &TensorInfo) -> Result<Self, Error> {
        Ok(Self {
            slices: Slices::new(file, tensor)?,
            resident: Vec::new(),
        })
    }

    /// Reads all of them.
    pub(super) fn in_memory(
        pool: &Pool,
        file: &ModelFile,
        tensor: &TensorInfo,
    ) -> Result<Self, Error> {
        let slices = Slices::new(file, tensor)?;
        let n_expert = usize::try_from(tensor.shape[2]).unwrap_or(usize::MAX);
        let wanted: Vec<_> = (0..n_expert).map(|expert| (&slices, expert)).collect();
        let resident = read_all(pool, &wanted)?;
        Ok(Self { slices, resident })
    }

    /// Memory that they take for themselves.
    pub(super) fn bytes(&self) -> usize {
        self.resident.iter().map(|matrix| matrix.bytes()).sum()
    }

    /// Memory that one of them takes.
    pub(super) fn matrix_bytes(&self) -> usize {
        self.slices.packed_bytes
    }

    /// The tensor's name, and how many experts it has.
    pub(super) fn tensor(&self) -> (&str, usize) {
        let tensor = self.slices.reader.tensor();
        let n_expert = usize::try_from(tensor.shape[2]);
        (
            &tensor.name,
            n_expert.expect("a checked tensor fits. This is a bug."),
        )
    }

    pub(super) fn n_out(&self) -> usize {
        self.slices.n_out
    }
}

/// Reads and packs matrices, a thread each.
fn read_all(pool: &Pool, wanted: &[(&Slices, usize)]) -> Result<Vec<Arc<PackedMatrix>>, Error> {
    let read: Vec<OnceLock<PackedMatrix>> = wanted.iter().map(|_| OnceLock::new()).collect();
    let failed = Mutex::new(None);
    let alone = Pool::new(1);
    pool.for_each(wanted.len(), 1, |index| {
        let (slices, expert) = wanted[index];
        match slices.read(&alone, expert) {
            Ok(matrix) => drop(read[index].set(matrix)),
            Err(error) => {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(read
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .map(Arc::new)
            .collect()),
    }
}

/// A tensor by its place in the file, and an expert's number.
type Key = (u64, usize);

/// The matrices that were used last.
#[derive(Debug)]
pub(super) struct ExpertCache {
    limit: usize,
    bytes: usize,
    /// Counts uses.
    clock: u64,
    /// With the time of its last use.
    kept: BTreeMap<Key, (u64, Arc<PackedMatrix>)>,
    by_use: BTreeMap<u64, Key>,
}

impl ExpertCache {
    /// Keeps at most `limit`.
    pub(super) fn new(limit: Bytes) -> Self {
        Self {
            limit: usize::try_from(limit.0).unwrap_or(usize::MAX),
            bytes: 0,
            clock: 0,
            kept: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    pub(super) fn limit(&self) -> Bytes {
        Bytes(self.limit as u64)
    }

    /// Makes sure that matrices are there, and gives them out. What else was there gives way to them before they are read,
    /// so that never more than the limit is in memory if they are no more than that together.
    fn take(
        &mut self,
        pool: &Pool,
        wanted: &[(&Slices, usize)],
    ) -> Result<Vec<Arc<PackedMatrix>>, Error> {
        let key = |(slices, expert): &(&Slices, usize)| (slices.reader.tensor().offset, *expert);
        let mut missing = Vec::new();
        for wanted in wanted {
            match self.kept.contains_key(&key(wanted)) {
                true => self.touch(key(wanted)),
                false => missing.push(*wanted),
            }
        }
        let need: usize = missing.iter().map(|(slices, _)| slices.packed_bytes).sum();
        while self.bytes + need > self.limit
            && let Some((_, oldest)) = self.by_use.pop_first()
            && let Some((_, matrix)) = self.kept.remove(&oldest)
        {
            self.bytes -= matrix.bytes();
        }
        for (wanted, matrix) in missing.iter().zip(read_all(pool, &missing)?) {
            self.bytes += matrix.bytes();
            self.kept.insert(key(wanted), (0, matrix));
            self.touch(key(wanted));
        }
        let all = wanted.iter().map(|wanted| {
            let (_, matrix) = &self.kept[&key(wanted)];
            Arc::clone(matrix)
        });
        Ok(all.collect())
    }

    /// Notes a use of what is there.
    fn touch(&mut self, key: Key) {
        let Some((used, _)) = self.kept.get_mut(&key) else {
            return;
        };
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, key);
    }
}

/// The matrices of some experts, from wherever they are: those of each expert behind each other.
pub(super) fn matrices<const N: usize>(
    pool: &Pool,
    cache: Option<&mut ExpertCache>,
    of: [&ExpertMatrices; N],
    experts: &[usize],
) -> Result<Vec<Arc<PackedMatrix>>, Error> {
    let wanted = experts
        .iter()
        .flat_map(|&expert| of.map(|matrices| (matrices, expert)));
    match cache {
        Some(cache) => {
            let wanted: Vec<_> = wanted.map(|(of, expert)| (&of.slices, expert)).collect();
            cache.take(pool, &wanted)
        }
        None => Ok(wanted
            .map(|(of, expert)| Arc::clone(&of.resident[expert]))
            .collect()),
    }
}

/// Cuts experts that are wanted into runs whose matrices, of `bytes` each, are within the cache's limit: one run if all are
/// in memory anyway.
pub(super) fn runs(
    cache: Option<&ExpertCache>,
    bytes: usize,
    count: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let len = match cache {
        Some(cache) => (cache.limit / bytes.max(1)).max(1),
        None => count.max(1),
    };
    (0..count)
        .step_by(len)
        .map(move |start| start..count.min(start + len))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use troika_base::DType;
    use troika_gguf::{Metadata, Writer};

    use super::*;

    /// A file of 8 experts of 16 by 32 in F32, each of 2 KiB and full of its number.
    fn file() -> ModelFile {
        let mut writer = Writer::new(Metadata::default());
        writer.tensor("e", DType::F32, &[32, 16, 8], |out: &mut dyn Write| {
            for expert in 0..8 {
                for _ in 0..32 * 16 {
                    out.write_all(&(expert as f32).to_le_bytes())?;
                }
            }
            Ok(())
        });
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).expect("memory does not fail");
        ModelFile::from_bytes("experts", bytes).expect("is sound")
    }

    #[test]
    fn those_used_last_are_kept_within_the_limit() {
        let file = file();
        let pool = Pool::new(2);
        let experts = ExpertMatrices::in_file(&file, &file.tensors()[0]).expect("has no scales");
        drop(file);
        assert_eq!((experts.bytes(), experts.matrix_bytes()), (0, 2048));
        let mut cache = ExpertCache::new(Bytes(3 * 2048));
        let mut ask = |wanted: &[usize]| {
            let have = matrices(&pool, Some(&mut cache), [&experts], wanted).expect("is read");
            let mut row = vec![0.0; 32];
            for (expert, matrix) in wanted.iter().zip(have) {
                matrix.row(15, &mut row);
                assert_eq!(row, [*expert as f32; 32]);
            }
            assert!(cache.bytes <= cache.limit);
            assert_eq!(cache.bytes, 2048 * cache.kept.len());
            let there = cache.by_use.values().map(|(_, expert)| *expert);
            there.collect::<Vec<_>>()
        };
        assert_eq!(ask(&[0, 1]), [0, 1]);
        assert_eq!(ask(&[2]), [0, 1, 2]);
        assert_eq!(ask(&[0]), [1, 2, 0]);
        assert_eq!(ask(&[5, 2]), [0, 2, 5]);
        assert_eq!(ask(&[7, 6, 1]), [7, 6, 1]);
    }

    #[test]
    fn runs_are_within_the_limit() {
        let cache = ExpertCache::new(Bytes(100));
        let ends = |cache, bytes| {
            runs(cache, bytes, 5)
                .map(|run| (run.start, run.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(ends(Some(&cache), 50), [(0, 2), (2, 4), (4, 5)]);
        assert_eq!(ends(Some(&cache), 20), [(0, 5)]);
        // What does not fit at all is taken one by one.
        assert_eq!(ends(Some(&cache), 1000).len(), 5);
        assert_eq!(ends(None, 50), [(0, 5)]);
    }
}
