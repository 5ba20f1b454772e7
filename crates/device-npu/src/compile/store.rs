//! The cache of compiled models: a directory for each, named by its [`Key`], within a limit of bytes.
//!
//! Below the root stand `HASH/` with a model's files and its manifest, `HASH.used`, which whoever runs the model has locked
//! and whose time says when it was last used, `HASH.draft/` and `HASH.making`, locked, while it is made, and `lock`. That
//! one is held whenever names are made, moved or removed, and never while anything long is done. A directory has its final
//! name only when it is whole and on the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use troika_base::Bytes;
use troika_device::Cancelled;

use super::key::Key;
use super::lock;
use super::loss::Loss;
use super::manifest::{self, Damage, Manifest};
use crate::Error;

/// How often is asked whether another process has finished.
const PATIENCE: Duration = Duration::from_millis(100);

/// The cache. Several processes may have it open.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    limit: Bytes,
}

/// What [`Store::slot`] finds.
#[derive(Debug)]
pub enum Slot {
    /// The model is there.
    Ready(Entry),
    /// It is to be made, and nobody else makes it.
    Empty(Draft),
}

/// A compiled model that is in use: it stays as long as this does.
#[derive(Debug)]
pub struct Entry {
    directory: PathBuf,
    manifest: Manifest,
    /// Locked together with others.
    _used: File,
}

/// A directory for a model that is being made. Gone when dropped, unless it was [published](Self::publish).
#[derive(Debug)]
pub struct Draft {
    store: Store,
    key: Key,
    directory: PathBuf,
    started: Instant,
    /// Locked alone.
    _making: File,
}

/// What is told of a model that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The file that it was made from, for people.
    pub model: String,
    /// What was lost, if somebody compared.
    pub loss: Option<Loss>,
}

/// A model in the cache, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its directory's name.
    pub hash: String,
    /// What is known of it; `None` if that is damaged.
    pub manifest: Option<Manifest>,
    /// When it was last opened.
    pub used_at: SystemTime,
    /// Whether some process has it open.
    pub in_use: bool,
}

/// What [`Store::clear`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Models that are gone.
    pub removed: usize,
    /// Their size.
    pub bytes: Bytes,
    /// Models that stay, since they are in use.
    pub in_use: usize,
}

impl Store {
    /// The cache in this directory, which need not exist yet. It holds no more than `limit`, but for models in use.
    pub fn new(root: impl Into<PathBuf>, limit: Bytes) -> Self {
        Self {
            root: root.into(),
            limit,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that it may hold.
    pub fn limit(&self) -> Bytes {
        self.limit
    }

    /// Whether a model is there, without looking at its files.
    pub fn contains(&self, key: &Key) -> bool {
        self.path(key.hash(), "").join(manifest::FILE).is_file()
    }

    /// What is known of a model, if it is there, without looking at its files.
    pub fn manifest(&self, key: &Key) -> Option<Manifest> {
        let manifest = Manifest::read(&self.path(key.hash(), "")).ok()?;
        (manifest.key == key.text()).then_some(manifest)
    }

    /// The model of this key, if it is there; every byte is checked.
    ///
    /// # Errors
    /// [`Error::Corrupted`] if it was damaged; it is gone then. [`Error::Io`] if the directory cannot be used.
    pub fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let directory = self.path(key.hash(), "");
        if !directory.is_dir() {
            return Ok(None);
        }
        let used = {
            let _guard = self.guard()?;
            // It may have been evicted while we waited.
            if !directory.is_dir() {
                return Ok(None);
            }
            self.use_of(key.hash())?
        };
        let sound = Manifest::read(&directory)
            .and_then(|manifest| manifest.verify(&directory, key).map(|()| manifest));
        match sound {
            Ok(manifest) => Ok(Some(Entry {
                directory,
                manifest,
                _used: used,
            })),
            Err(Damage(reason)) => {
                let _guard = self.guard()?;
                self.remove(key.hash())?;
                Err(Error::Corrupted { reason })
            }
        }
    }

    /// The model of this key, or the right to make it. While another process makes it, `wait` is called again and again,
    /// and may end that.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be used, [`Error::Cancelled`] if `wait` breaks.
    pub fn slot(
        &self,
        key: &Key,
        wait: &mut dyn FnMut() -> ControlFlow<Cancelled>,
    ) -> Result<Slot, Error> {
        loop {
            match self.get(key) {
                Ok(Some(entry)) => return Ok(Slot::Ready(entry)),
                Ok(None) => {}
                Err(error @ Error::Corrupted { .. }) => {
                    tracing::warn!(key = key.hash(), "{error}");
                }
                Err(error) => return Err(error),
            }
            let guard = self.guard()?;
            // Somebody may have published it between the two.
            if !self.contains(key)
                && let Some(draft) = self.draft(key)?
            {
                self.sweep()?;
                return Ok(Slot::Empty(draft));
            }
            drop(guard);
            if wait().is_break() {
                return Err(Error::Cancelled);
            }
            thread::sleep(PATIENCE);
        }
    }

    /// A draft, unless somebody else has one. The guard is held.
    fn draft(&self, key: &Key) -> Result<Option<Draft>, Error> {
        let path = self.path(key.hash(), "making");
        let making = lock::try_exclusive(&path).map_err(io_error(&path))?;
        let Some(making) = making else {
            return Ok(None);
        };
        let directory = self.path(key.hash(), "draft");
        // What a process has left that was killed.
        remove_all(&directory)?;
        fs::create_dir(&directory).map_err(io_error(&directory))?;
        Ok(Some(Draft {
            store: self.clone(),
            key: key.clone(),
            directory,
            started: Instant::now(),
            _making: making,
        }))
    }

    /// Every model in the cache, the one that was used last first.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        if !self.root.is_dir() {
            return Ok(Vec::new());
        }
        let _guard = self.guard()?;
        self.listed()
    }

    /// Removes every model that is not in use.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be removed.
    pub fn clear(&self) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        if !self.root.is_dir() {
            return Ok(cleared);
        }
        let _guard = self.guard()?;
        self.sweep()?;
        for listed in self.listed()? {
            if listed.in_use {
                cleared.in_use += 1;
                continue;
            }
            self.remove(&listed.hash)?;
            cleared.removed += 1;
            cleared.bytes.0 += listed.bytes();
        }
        Ok(cleared)
    }

    /// The same as [`Self::list`]; the guard is held.
    fn listed(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for name in self.names()? {
            if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            let path = self.path(&name, "used");
            let free = lock::try_exclusive(&path).map_err(io_error(&path))?;
            let touched = fs::metadata(&path).and_then(|facts| facts.modified());
            listed.push(Listed {
                manifest: Manifest::read(&self.path(&name, "")).ok(),
                in_use: free.is_none(),
                used_at: touched.unwrap_or(UNIX_EPOCH),
                hash: name,
            });
        }
        listed.sort_by(|a, b| (b.used_at, &b.hash).cmp(&(a.used_at, &a.hash)));
        Ok(listed)
    }

    /// Removes those that were not used for longest until the limit holds, and none that is in use. The guard is held.
    fn evict(&self) -> Result<(), Error> {
        let listed = self.listed()?;
        let mut total: u64 = listed.iter().map(Listed::bytes).sum();
        for oldest in listed.iter().rev() {
            if total <= self.limit.0 {
                break;
            }
            if !oldest.in_use {
                tracing::info!(key = oldest.hash, "a compiled model makes room for others");
                self.remove(&oldest.hash)?;
                total -= oldest.bytes();
            }
        }
        Ok(())
    }

    /// Removes drafts whose makers are gone. The guard is held.
    fn sweep(&self) -> Result<(), Error> {
        for name in self.names()? {
            let Some(hash) = name.strip_suffix(".draft") else {
                continue;
            };
            let path = self.path(hash, "making");
            if let Some(_making) = lock::try_exclusive(&path).map_err(io_error(&path))? {
                remove_all(&self.path(hash, "draft"))?;
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes a model. The guard is held.
    fn remove(&self, hash: &str) -> Result<(), Error> {
        let directory = self.path(hash, "");
        // Half removed, it must not look whole.
        remove_file(&directory.join(manifest::FILE))?;
        remove_all(&directory)?;
        remove_file(&self.path(hash, "used"))
    }

    /// Notes that a model is used from now on. The guard is held.
    fn use_of(&self, hash: &str) -> Result<File, Error> {
        let path = self.path(hash, "used");
        let failed = io_error(&path);
        let file = lock::open(&path).map_err(&failed)?;
        file.lock_shared().map_err(&failed)?;
        // The order of use is a help, not a need.
        let _ = file.set_modified(SystemTime::now());
        Ok(file)
    }

    /// The lock of the whole store, and its directory.
    fn guard(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        let locked = fs::create_dir_all(&self.root).and_then(|()| {
            let file = lock::open(&path)?;
            file.lock()?;
            Ok(file)
        });
        locked.map_err(io_error(&path))
    }

    fn path(&self, hash: &str, ending: &str) -> PathBuf {
        self.root.join(match ending {
            "" => hash.to_owned(),
            ending => format!("{hash}.{ending}"),
        })
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = io_error(&self.root);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            names.extend(name.into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Listed {
    /// Bytes of its files, as its manifest tells.
    pub fn bytes(&self) -> u64 {
        self.manifest.as_ref().map_or(0, Manifest::bytes)
    }
}

impl Entry {
    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl Draft {
    /// An empty directory, in which the model is to be made.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives the model its final name. Everything is on the disk by then; whatever fails, nothing is left.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no files, [`Error::Io`] if the disk refuses.
    pub fn publish(self, facts: Facts) -> Result<Entry, Error> {
        self.publish_with(facts, |path| File::create_new(path))
    }

    /// The same, with the file for the manifest made by the caller.
    pub(super) fn publish_with<W>(
        self,
        facts: Facts,
        create: impl FnOnce(&Path) -> io::Result<W>,
    ) -> Result<Entry, Error>
    where
        W: Write + Durable,
    {
        let files = manifest::take_stock(&self.directory)?;
        if files.is_empty() {
            return Err(Error::Invalid {
                what: self.directory.display().to_string(),
                reason: "the backend has written nothing".to_owned(),
            });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let manifest = Manifest {
            key: self.key.text().to_owned(),
            model: facts.model,
            files,
            loss: facts.loss,
            made_at: now.map_or(0, |since| since.as_secs()),
            seconds: self.started.elapsed().as_secs_f64(),
        };
        let path = self.directory.join(manifest::FILE);
        create(&path)
            .and_then(|mut out| {
                manifest.write(&mut out)?;
                out.sync()
            })
            .map_err(io_error(&path))?;
        sync_directory(&self.directory);

        let store = &self.store;
        let directory = store.path(self.key.hash(), "");
        let _guard = store.guard()?;
        // One that somebody found damaged, and could not remove.
        remove_all(&directory)?;
        fs::rename(&self.directory, &directory).map_err(io_error(&directory))?;
        sync_directory(&store.root);
        let used = store.use_of(self.key.hash())?;
        if let Err(error) = store.evict() {
            tracing::warn!("the cache of compiled models stays above its limit: {error}");
        }
        Ok(Entry {
            directory,
            manifest,
            _used: used,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let cleaned = remove_all(&self.directory).and_then(|()| {
            // Who has the guard finds either no such file, or one that is locked.
            let _guard = self.store.guard()?;
            remove_file(&self.store.path(self.key.hash(), "making"))
        });
        if let Err(error) = cleaned {
            tracing::warn!("a half-made model stays behind: {error}");
        }
    }
}

/// What can be made to reach the disk.
pub(super) trait Durable {
    fn sync(&self) -> io::Result<()>;
}

impl Durable for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Makes names in a directory survive a loss of power, where the system lets directories be opened.
fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

fn remove_all(directory: &Path) -> Result<(), Error> {
    gone(fs::remove_dir_all(directory), directory)
}

fn remove_file(path: &Path) -> Result<(), Error> {
    gone(fs::remove_file(path), path)
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), Error> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        path: path.clone(),
        source,
    }
}
