//! Cached prefixes of models that are away: in memory as long as there is room, then in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use troika_base::Bytes;
use troika_engine::{Fingerprint, KvError, Model, Spilled};

use super::devices::{Memory, memory};
use super::models::lock;

/// Of the memory that is free, prefixes take one part in so many at most: it is for models first.
const FREE_SHARE: u64 = 4;
/// All files together; those that were written longest ago go first.
const DISK_MAX: u64 = 8 << 30;

/// Cached prefixes of models that are away.
#[derive(Debug)]
pub(super) struct Spills {
    /// Memory for them, at most.
    budget: Bytes,
    /// Where files go; without, what memory is too short for is forgotten.
    directory: Option<PathBuf>,
    /// What memory there is.
    memory: fn() -> Option<Memory>,
    kept: Mutex<Kept>,
}

impl Default for Spills {
    fn default() -> Self {
        Self::new(Bytes(0), None)
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which they came.
    by_age: BTreeMap<u64, (Fingerprint, Arc<Spilled>)>,
    /// How many came so far.
    count: u64,
    /// Whether a thread is putting away what memory is too short for.
    is_tidying: bool,
}

impl Kept {
    fn bytes(&self) -> Bytes {
        self.by_age
            .values()
            .map(|(_, spilled)| spilled.bytes())
            .sum()
    }
}

impl Spills {
    pub(super) fn new(budget: Bytes, directory: Option<PathBuf>) -> Self {
        Self {
            budget,
            directory,
            memory,
            kept: Mutex::default(),
        }
    }

    /// Memory that a model's prefixes may take.
    pub(super) fn budget(&self) -> Bytes {
        self.budget
    }

    /// Memory that is taken.
    pub(super) fn bytes(&self) -> Bytes {
        lock(&self.kept).bytes()
    }

    /// Keeps a model's prefixes, instead of those that were kept of it before.
    pub(super) fn keep(self: &Arc<Self>, model: Fingerprint, spilled: Spilled) {
        if spilled.n_page() == 0 {
            return;
        }
        let mut kept = lock(&self.kept);
        kept.by_age.retain(|_, (of, _)| *of != model);
        kept.count += 1;
        let age = kept.count;
        kept.by_age.insert(age, (model, Arc::new(spilled)));
        if kept.bytes() <= self.room() || kept.is_tidying {
            return;
        }
        kept.is_tidying = true;
        drop(kept);
        let spills = Arc::clone(self);
        let thread = std::thread::Builder::new().name("troika-spill".to_owned());
        if let Err(error) = thread.spawn(move || spills.tidy()) {
            tracing::warn!(%error, "cached prefixes stay in memory, since the system has no thread left");
            lock(&self.kept).is_tidying = false;
        }
    }

    /// What was kept of a model, which now has it again.
    pub(super) fn take(&self, model: &Model) -> Option<Arc<Spilled>> {
        let fingerprint = model.fingerprint();
        {
            let mut kept = lock(&self.kept);
            let found = kept.by_age.iter().find(|(_, (of, _))| *of == fingerprint);
            if let Some(age) = found.map(|(&age, _)| age) {
                return kept.by_age.remove(&age).map(|(_, spilled)| spilled);
            }
        }
        let directory = self.directory.as_deref()?;
        match Spilled::open(directory, model, model.kv_file_bytes_max()) {
            Ok(spilled) => spilled.map(Arc::new),
            Err(error) => {
                tracing::warn!(%error, "a model begins without the prefixes that were cached of it");
                None
            }
        }
    }

    /// Memory for prefixes as things are now.
    fn room(&self) -> Bytes {
        let free = (self.memory)().map(|memory| Bytes(memory.available / FREE_SHARE));
        free.map_or(self.budget, |free| free.min(self.budget))
    }

    /// Puts away what memory is too short for, the oldest first.
    fn tidy(&self) {
        loop {
            let room = self.room();
            let mut kept = lock(&self.kept);
            let oldest = kept.by_age.first_key_value();
            let oldest = oldest.map(|(&age, (_, spilled))| (age, Arc::clone(spilled)));
            let Some((age, spilled)) = oldest.filter(|_| kept.bytes() > room) else {
                kept.is_tidying = false;
                return;
            };
            drop(kept);
            if let Some(directory) = &self.directory
                && let Err(error) = save(directory, &spilled)
            {
                tracing::warn!(%error, "cached prefixes of a model are forgotten");
            }
            // Until here, whoever wanted it has found it.
            lock(&self.kept).by_age.remove(&age);
        }
    }
}

/// Writes a file, and removes old ones where all of them are too many.
fn save(directory: &Path, spilled: &Spilled) -> Result<(), KvError> {
    let failed = |source| KvError::Io {
        action: "make",
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    spilled.save(directory)?;
    prune(directory, DISK_MAX);
    Ok(())
}

/// Removes the files that were written longest ago, until the rest is no more than `most` bytes.
fn prune(directory: &Path, most: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let files = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let path = entry.path();
        let metadata = entry.metadata().ok()?;
        let is_ours = metadata.is_file() && path.extension().is_some_and(|end| end == "kv");
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        is_ours.then_some((written, metadata.len(), path))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    let mut all: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if all <= most {
            return;
        }
        // One that stays is counted again the next time.
        if fs::remove_file(path).is_ok() {
            all -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use troika_device::LoadOptions;
    use troika_engine::{CpuDevice, PrefixCache};
    use troika_library::Library;

    use super::*;
    use crate::host::tests::STORIES;

    /// The story model with a prompt in its cache.
    fn cached() -> (Model, PrefixCache) {
        let directory = tempfile::tempdir().expect("a place for files");
        let library = Library::open(directory.path().to_owned(), &[("stories", STORIES)]);
        let file = library.find("stories").and_then(|entry| entry.open());
        let device = CpuDevice::batch_invariant(1);
        let options = LoadOptions::new(512);
        let mut progress = |_| std::ops::ControlFlow::Continue(());
        let model = Model::load(&file.expect("is there"), &device, options, &mut progress);
        let mut model = model.expect("loads");
        let tokens = vec![troika_base::TokenId(5); 100];
        let mut sequence = troika_engine::Sequence::default();
        let step = troika_engine::Step {
            sequence: &mut sequence,
            tokens: &tokens,
            output: troika_device::Output::Nothing,
        };
        model.step(&mut [step]).expect("is read");
        let mut prefixes = PrefixCache::default();
        prefixes.insert("somebody", &sequence);
        (model, prefixes)
    }

    #[test]
    fn what_memory_is_too_short_for_goes_to_the_disk() {
        let directory = tempfile::tempdir().expect("a place for files");
        let cache = directory.path().join("cache").join("kv");
        let (mut model, prefixes) = cached();
        let spilled = prefixes.spill(&mut model, Bytes(1 << 30)).expect("is read");
        let pages = spilled.n_page();
        assert!(pages > 0);
        let mut spills = Spills::new(Bytes(1 << 30), Some(cache.clone()));
        spills.memory = || {
            Some(Memory {
                total: 1 << 30,
                available: 0,
            })
        };
        let spills = Arc::new(spills);
        spills.keep(model.fingerprint(), spilled);
        let began = std::time::Instant::now();
        while spills.bytes() > Bytes(0) {
            assert!(began.elapsed() < Duration::from_secs(30), "it stays");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read_dir(&cache).expect("is there").count(), 1);
        // Another start finds it too.
        let spills = Spills::new(Bytes(1 << 30), Some(cache.clone()));
        let found = spills.take(&model).expect("is on the disk");
        assert_eq!(found.n_page(), pages);
        let mut empty = PrefixCache::default();
        assert_eq!(
            empty.restore(&mut model, &found).expect("is its own"),
            pages
        );
        // What is damaged is not used.
        let file = fs::read_dir(&cache).expect("is there").next();
        let path = file.expect("one").expect("is readable").path();
        let mut bytes = fs::read(&path).expect("is readable");
        *bytes.last_mut().expect("is long") ^= 1;
        fs::write(&path, bytes).expect("writes");
        assert!(spills.take(&model).is_none());
    }

    #[test]
    fn old_files_go_when_there_are_too_many() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = |name: &str| directory.path().join(name);
        for (age, name) in [(3, "a.kv"), (9, "b.kv"), (1, "c.kv"), (99, "notes.txt")] {
            let file = fs::File::create(path(name)).expect("writes");
            file.set_len(100).expect("grows");
            let written = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(written).expect("is older");
        }
        prune(directory.path(), 250);
        assert!(!path("b.kv").exists() && path("a.kv").exists());
        prune(directory.path(), 0);
        assert!(!path("a.kv").exists() && !path("c.kv").exists());
        assert!(path("notes.txt").exists(), "it is somebody else's");
    }
}
