//! `hybrid.toml` as it is now: read again when it has changed, and kept as it was where it makes no sense any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Rules;
use crate::config::{Config, ConfigError};

/// How long what was read is taken to be what is there.
const FRESH: Duration = Duration::from_secs(1);

/// A file that was changed so shortly ago may be half written, and half of the rules may be TOML, too.
const SETTLED: Duration = Duration::from_millis(100);

/// A configuration and its rules, which belong together: a [`RemoteIndex`](super::RemoteIndex) of these rules is a place
/// in this configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What the owner says.
    pub config: Config,
    /// The judge of it.
    pub rules: Rules,
    /// Counts what was taken over, from 1; 0 where there is no file to read.
    pub generation: u64,
}

impl Loaded {
    /// Reads a text.
    ///
    /// # Errors
    /// If anything in it makes no sense: all mistakes, each with line and field.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config = Config::parse(text)?;
        let rules = Rules::new(&config).map_err(|error| error.in_text(text))?;
        Ok(Self {
            config,
            rules,
            generation: 0,
        })
    }

    /// No remotes and no rules: everything stays.
    pub fn empty() -> Self {
        let config = Config::default();
        let rules = Rules::new(&config).expect("nothing is wrong with nothing");
        Self {
            config,
            rules,
            generation: 0,
        }
    }
}

/// The file, which need not be there: without it, everything stays.
#[derive(Debug)]
pub struct HybridFile {
    /// `None` where no file is ever read.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    stamp: Option<Stamp>,
    loaded: Arc<Loaded>,
}

/// Which state of the file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl HybridFile {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is there and cannot be read, or anything in it makes no sense.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let path = path.into();
        // Before the text: what is changed between is read again.
        let stamp = stamp(&path);
        let loaded = read(&path)?;
        let state = State {
            looked: Instant::now(),
            stamp,
            loaded: Arc::new(Loaded {
                generation: 1,
                ..loaded
            }),
        };
        Ok(Self {
            path: Some(path),
            state: Mutex::new(state),
        })
    }

    /// No file at all, now and later: for a server that is to be offline.
    pub fn none() -> Self {
        let state = State {
            looked: Instant::now(),
            stamp: None,
            loaded: Arc::new(Loaded::empty()),
        };
        Self {
            path: None,
            state: Mutex::new(state),
        }
    }

    /// What holds now. The file is looked at once a second at most; what is wrong with a new one is logged once, and the
    /// old rules hold on. If the file is gone, everything stays.
    pub fn current(&self) -> Arc<Loaded> {
        self.current_at(Instant::now(), SystemTime::now())
    }

    fn current_at(&self, now: Instant, clock: SystemTime) -> Arc<Loaded> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = now.saturating_duration_since(state.looked) < FRESH;
        let Some(path) = self.path.as_ref().filter(|_| !is_fresh) else {
            return state.loaded.clone();
        };
        let found = stamp(path);
        // Not looked at again before a second has passed, unless it is being written.
        if found == state.stamp {
            state.looked = now;
            return state.loaded.clone();
        }
        let written = found.and_then(|found| found.modified);
        let since = written.and_then(|written| clock.duration_since(written).ok());
        if since.is_some_and(|since| since < SETTLED) {
            return state.loaded.clone();
        }
        state.looked = now;
        state.stamp = found;
        match read(path) {
            Ok(loaded) => {
                let generation = state.loaded.generation + 1;
                tracing::info!(generation, "new rules of what may leave this machine");
                state.loaded = Arc::new(Loaded {
                    generation,
                    ..loaded
                });
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the rules are not taken over; the old ones hold");
            }
        }
        state.loaded.clone()
    }
}

fn read(path: &Path) -> Result<Loaded, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::empty()),
        Err(source) => {
            let path = path.to_owned();
            return Err(ConfigError::Unreadable { path, source });
        }
    };
    let mut loaded = Loaded::parse(&text).map_err(|error| error.in_file(path))?;
    // Lists stand beside the file that names them, wherever the program was started.
    let directory = path.parent().unwrap_or(Path::new(""));
    for file in &mut loaded.config.redact.files {
        *file = directory.join(&file);
    }
    Ok(loaded)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const REMOTE: &str = "[[remote]]\nname = 'it'\nurl = 'https://it.example'\napi = 'ollama'\nmodels = { a = 'b' }\n";

    /// A file, and a clock that passes as it is told.
    struct Play {
        home: tempfile::TempDir,
        start: Instant,
        seconds: u64,
    }

    impl Play {
        fn new() -> Self {
            Self {
                home: tempfile::tempdir().unwrap(),
                start: Instant::now(),
                seconds: 0,
            }
        }

        fn path(&self) -> PathBuf {
            self.home.path().join("hybrid.toml")
        }

        /// The moment of the wall that the play began at; its second is whole.
        fn clock(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + self.seconds)
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
            let file = File::options().write(true).open(self.path()).unwrap();
            file.set_modified(self.clock()).unwrap();
        }

        /// Looks two seconds later.
        fn later(&mut self, file: &HybridFile) -> Arc<Loaded> {
            self.seconds += 2;
            let now = self.start + Duration::from_secs(60 + self.seconds);
            file.current_at(now, self.clock())
        }
    }

    #[test]
    fn a_file_that_is_not_there_lets_nothing_go() {
        let mut play = Play::new();
        let file = HybridFile::open(play.path()).unwrap();
        assert_eq!(file.current().generation, 1);
        assert_eq!(file.current().config, Config::default());
        play.write(REMOTE);
        let loaded = play.later(&file);
        assert_eq!((loaded.generation, loaded.config.remote.len()), (2, 1));
        play.write("redact.files = ['names.txt', '/lists/words.txt']");
        let files = &play.later(&file).config.redact.files;
        let beside = play.home.path().join("names.txt");
        assert_eq!(*files, [beside, PathBuf::from("/lists/words.txt")]);
        fs::remove_file(play.path()).unwrap();
        let loaded = play.later(&file);
        assert_eq!((loaded.generation, loaded.config.remote.len()), (4, 0));
    }

    #[test]
    fn changes_are_taken_over_and_mistakes_are_not() {
        let mut play = Play::new();
        play.write(REMOTE);
        let file = HybridFile::open(play.path()).unwrap();
        let first = play.later(&file);
        assert_eq!(first.config.remote[0].name, "it");
        assert!(
            Arc::ptr_eq(&first, &play.later(&file)),
            "nothing has changed"
        );
        // As long as before: what tells it is when.
        play.write(&REMOTE.replace("'it'", "'ti'"));
        let second = play.later(&file);
        assert_eq!(
            (second.generation, &*second.config.remote[0].name),
            (2, "ti")
        );
        play.write("[[remote]]\nname = ");
        assert!(
            Arc::ptr_eq(&second, &play.later(&file)),
            "the old rules hold"
        );
        assert!(Arc::ptr_eq(&second, &play.later(&file)));
        play.write(REMOTE);
        assert_eq!(play.later(&file).generation, 3);
    }

    #[test]
    fn a_file_is_looked_at_once_a_second_and_when_it_has_settled() {
        let mut play = Play::new();
        let file = HybridFile::open(play.path()).unwrap();
        let old = play.later(&file);
        play.write(REMOTE);
        let now = play.start + Duration::from_secs(60 + play.seconds);
        let soon = now + Duration::from_millis(900);
        let clock = play.clock();
        assert!(Arc::ptr_eq(&old, &file.current_at(soon, clock + SETTLED)));
        let late = now + FRESH;
        let half = clock + SETTLED / 2;
        assert!(
            Arc::ptr_eq(&old, &file.current_at(late, half)),
            "it is being written"
        );
        assert_eq!(
            file.current_at(late, clock + SETTLED).generation,
            2,
            "and not a second later"
        );
        // A clock that was put back says nothing about when.
        play.write(&REMOTE.replace("'it'", "'its'"));
        let back = clock - Duration::from_secs(3600);
        assert_eq!(file.current_at(late + FRESH, back).generation, 3);
    }

    #[test]
    fn without_a_file_nothing_is_ever_read() {
        let file = HybridFile::none();
        let later = Instant::now() + Duration::from_secs(60);
        let loaded = file.current_at(later, SystemTime::now());
        assert_eq!((loaded.generation, loaded.config.remote.len()), (0, 0));
    }

    #[test]
    fn a_wrong_file_stops_a_start() {
        let play = Play::new();
        play.write("[hybird]");
        let error = HybridFile::open(play.path()).unwrap_err().to_string();
        assert!(error.contains("hybrid.toml: line 1, hybird: "), "{error}");
        let error = HybridFile::open(play.home.path()).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    }
}
