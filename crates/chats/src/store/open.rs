//! Opening the file, whatever became of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageBackend};

use super::tables::{CHATS, META, NEWEST};
use super::{Result, Store, StoreError, database};

/// The format that is written here.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";

/// What the database keeps of the file in memory.
const CACHE_BYTES: usize = 32 << 20;

/// Text that a file has at most: a lifetime of it, and no disk full of somebody's mistake.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// Text that is kept in memory at most, where there is no file.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Names that a damaged file may get.
const ASIDE_MAX: u32 = 1000;

/// A store, and what there is to say about its file.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The file was damaged, and was put aside under this name; the store is empty.
    pub damaged: Option<PathBuf>,
}

impl Store {
    /// Opens a file, or makes it. All of it is checked, at the speed of the disk. One that is damaged is put aside under a name
    /// of its own, and a new one takes its place.
    ///
    /// # Errors
    /// If another process has it, a newer program made it, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Opened> {
        match Self::try_open(path) {
            Err(StoreError::Database(_) | StoreError::Record(_)) => {
                let aside = put_aside(path).map_err(|source| unusable(path, source))?;
                Ok(Opened {
                    store: Self::try_open(path)?,
                    damaged: Some(aside),
                })
            }
            store => Ok(Opened {
                store: store?,
                damaged: None,
            }),
        }
    }

    /// A store that lasts as long as the process.
    ///
    /// # Errors
    /// If memory is short.
    pub fn in_memory() -> Result<Self> {
        Self::over(InMemoryBackend::new(), MEMORY_BYTES_MAX)
    }

    fn try_open(path: &Path) -> Result<Self> {
        let file = open_file(path).map_err(|source| unusable(path, source))?;
        let backend = FileBackend::new(file).map_err(|error| refused(path, error))?;
        // The database checks what it reads; what it does not foresee in a damaged file, it panics about.
        let opened = AssertUnwindSafe(|| Self::over(backend, FILE_BYTES_MAX));
        match catch_unwind(opened) {
            Ok(Err(StoreError::Database(error))) => Err(in_io(path, *error)),
            Ok(opened) => opened,
            Err(_) => {
                let panicked = redb::StorageError::Corrupted("it cannot be read".to_owned());
                Err(database(panicked))
            }
        }
    }

    fn over(backend: impl StorageBackend, bytes_max: u64) -> Result<Self> {
        let mut builder = Database::builder();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true);
        let opened = builder.create_with_backend(backend);
        let store = Self {
            database: opened.map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
                error => database(error),
            })?,
            bytes_max,
        };
        store.check_format()?;
        store.write(|_| Ok(()))?;
        store.settle()?;
        // What every list begins with is read once here, so that a file that is of no use is known before anybody asks.
        store.check_records()?;
        Ok(store)
    }

    /// # Errors
    /// If a newer program made the file.
    fn check_format(&self) -> Result<()> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut meta = transaction.open_table(META).map_err(database)?;
            let found = meta
                .get(FORMAT_KEY)
                .map_err(database)?
                .map(|found| found.value());
            match found {
                Some(found) if found > FORMAT => {
                    let known = FORMAT;
                    return Err(StoreError::Newer { found, known });
                }
                Some(_) => return Ok(()),
                None => drop(meta.insert(FORMAT_KEY, FORMAT).map_err(database)?),
            }
        }
        transaction.commit().map_err(database)
    }

    fn check_records(&self) -> Result<()> {
        let read = self.database.begin_read().map_err(database)?;
        drop(read.open_table(NEWEST).map_err(database)?);
        let chats = read.open_table(CHATS).map_err(database)?;
        for entry in chats.iter().map_err(database)? {
            let (_, record) = entry.map_err(database)?;
            let _: super::Chat = serde_json::from_slice(record.value())?;
        }
        Ok(())
    }
}

/// Opens the file for this user alone.
fn open_file(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}

/// Gives the file a name that no other has.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    for n in 1..=ASIDE_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        let aside = PathBuf::from(name);
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::Unusable { path, source }
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
        error => in_io(path, error.into()),
    }
}

/// A disk that cannot be read says nothing about the file: it stays where it is. A file that ends too early is damaged.
fn in_io(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) if !is_of_contents(&source) => unusable(path, source),
        error => database(error),
    }
}

fn is_of_contents(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}
