//! Looking at a model that is elsewhere, and fetching it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use troika_gguf::ModelFile;
use troika_library::{Digest, Library, ModelName};

use crate::client::Client;
use crate::download::Download;
use crate::found::{Choice, Found, FoundFile};
use crate::part::{self, Part, Target, made_of};
use crate::progress::Pace;
use crate::store::{self, PIECE_BYTES, Store};
use crate::{
    Error, Patience, Progress, Reference, Sites, Stage, direct, header, hub, registry, space, trail,
};

/// How often those who watch are told.
const TICK: Duration = Duration::from_millis(100);

/// The disk is given work while bytes come, so that it has little left to do at the end.
const SYNC_BYTES: u64 = 64 << 20;

/// What somebody wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which model.
    pub from: Reference,
    /// Which file of a repository, in place of what the reference says.
    pub file: Option<String>,
    /// What it shall be called; as its file or its registry calls it if absent.
    pub name: Option<String>,
    /// What its bytes have to be, where its source says nothing.
    pub sha256: Option<String>,
}

impl Wish {
    /// A model as its source calls it.
    pub fn of(from: Reference) -> Self {
        Self {
            from,
            file: None,
            name: None,
            sha256: None,
        }
    }
}

/// What is known of a model that is elsewhere.
#[derive(Debug)]
pub struct Look {
    /// Which one, as a reference that finds it again.
    pub from: String,
    /// Where it is, for people.
    pub source: String,
    /// What it will be called.
    pub name: String,
    /// Its file there, the first of several.
    pub file: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// How many of them are here already.
    pub have_bytes: u64,
    /// What the file is, the first of several, if its source says so.
    pub digest: Option<Digest>,
    /// The licence, as far as card, registry or file name one.
    pub licence: Option<String>,
    /// How its weights are stored.
    pub quantization: Option<String>,
    /// Files that could be had in its place.
    pub choices: Vec<Choice>,
    /// Its metadata and tensors; `None` if its head was too long to look at.
    pub head: Option<ModelFile>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Bytes that are free where it would go; `None` where the system does not tell.
    pub disk_free_bytes: Option<u64>,
    /// Its files, in their order; at least one.
    parts: Vec<Part>,
}

impl Look {
    /// Its files, and how many bytes each has: more than one where the model is split.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.parts.iter().map(|part| (&*part.file, part.bytes()))
    }
}

/// Looks at models that are elsewhere, and fetches them into a library.
#[derive(Debug)]
pub struct Puller {
    client: Client,
    library: Arc<Library>,
    piece_bytes: u64,
}

impl Puller {
    /// Models come into this library. Nothing is asked of anybody yet.
    pub fn new(library: Arc<Library>, sites: Sites, patience: Patience) -> Self {
        Self {
            client: Client::new(sites, patience),
            library,
            piece_bytes: PIECE_BYTES,
        }
    }

    /// The same with pieces of another size, for tests and measurements.
    #[must_use]
    pub fn with_pieces_of(mut self, bytes: u64) -> Self {
        assert!(bytes > 0, "a piece has bytes");
        self.piece_bytes = bytes;
        self
    }

    /// What there is. Nothing is fetched but lists, texts and the file's head.
    ///
    /// # Errors
    /// If there is no such model, or nobody can be asked.
    pub async fn look(&self, wish: &Wish) -> Result<Look, Error> {
        let mut found = self.find(wish).await?;
        if let Some(digits) = &wish.sha256 {
            let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
            let digest = format!("sha256:{}", digits.to_ascii_lowercase()).parse::<Digest>()?;
            found.file.digest = Some(digest);
        }
        let name = wish.name.as_deref().unwrap_or(&found.name);
        let targets = part::targets(name, found.manifest, 1 + found.later.len())?;
        let (mut head, mut parts) = (None, Vec::new());
        for (target, file) in targets
            .into_iter()
            .zip(std::iter::once(found.file).chain(found.later))
        {
            let (own, part) = self.part(file, target).await?;
            head = joined(head, own, &parts, &part)?;
            parts.push(part);
        }
        let first = &parts[0];
        let mut notes = found.notes;
        if parts.iter().any(|part| part.digest.is_none()) {
            notes.push(
                "nobody says which digest the file must have: length and header alone are checked"
                    .to_owned(),
            );
        }
        if !first.fetched.has_ranges {
            notes.push(
                "its host gives it as a whole only: what breaks off is sent again from the start"
                    .to_owned(),
            );
        }
        let metadata = head.as_ref().map(ModelFile::metadata);
        let own = metadata.and_then(|it| it.opt_str("general.license").ok()?);
        Ok(Look {
            from: reference_to(wish),
            source: wish.from.source(),
            name: first.target.model().to_owned(),
            bytes: parts.iter().map(Part::bytes).sum(),
            have_bytes: parts.iter().map(|part| self.have(part)).sum(),
            licence: found.licence.or_else(|| own.map(str::to_owned)),
            quantization: quantization(head.as_ref(), &first.file),
            file: first.file.clone(),
            digest: first.digest.clone(),
            choices: found.choices,
            head,
            notes,
            disk_free_bytes: space::free(self.library.directory()),
            parts,
        })
    }

    /// Looks at one file: its head, and what it becomes.
    async fn part(
        &self,
        file: FoundFile,
        target: Target,
    ) -> Result<(Option<ModelFile>, Part), Error> {
        let head = header::read(&self.client, &file.uri, &file.name).await?;
        let mut fetched = head.source;
        if let Some(want) = file.bytes.filter(|&want| want != fetched.bytes) {
            return Err(Error::WrongLength {
                host: crate::sites::host(&file.uri),
                want,
                have: fetched.bytes,
            });
        }
        if file.digest.is_some() {
            // Its digest says what it is, and copies of it may have other tags.
            fetched.tag = None;
        }
        let part = Part {
            file: file.name,
            digest: file.digest,
            fetched,
            target,
        };
        Ok((head.model, part))
    }

    /// Fetches what was looked at, and gives the model's name. Those who watch are told how far it is. Dropped before its
    /// end, it stops, and goes on where it was when the same is pulled again.
    ///
    /// # Errors
    /// If it cannot be had; what came of it so far is kept, unless it is wrong.
    pub async fn pull(
        &self,
        look: &Look,
        watched: &watch::Sender<Progress>,
    ) -> Result<String, Error> {
        let told = |stage, done_bytes, bytes_per_second| {
            watched.send_replace(Progress {
                stage,
                bytes: look.bytes,
                done_bytes,
                bytes_per_second,
            });
        };
        told(Stage::Downloading, 0, 0.0);
        self.require_free_name(look)?;
        // The first part comes last: without it the others are no model that could be listed.
        let mut before = 0;
        for part in look.parts.iter().rev() {
            let told = |stage, done, pace| told(stage, before + done, pace);
            self.pull_part(part, &told).await?;
            before += part.bytes();
        }
        told(Stage::Done, look.bytes, 0.0);
        Ok(look.name.clone())
    }

    async fn pull_part(&self, part: &Part, told: &impl Fn(Stage, u64, f64)) -> Result<(), Error> {
        if self.is_here(part).await? {
            return Ok(());
        }
        let opened = self.open(part).await?;
        let over = CallOff(Arc::clone(&opened));
        // Whoever had it until now may have brought it to its end.
        if self.is_here(part).await? {
            opened.clear();
        } else {
            let digest = self.fetch(part, &opened, told).await?;
            self.finish(part, &opened, digest).await?;
        }
        drop(over);
        Ok(())
    }

    /// Refuses a model in several files beside one file of its name, before gigabytes have come.
    fn require_free_name(&self, look: &Look) -> Result<(), Error> {
        let file = self.library.file_of(&ModelName::new(&look.name)?);
        match look.parts.len() > 1 && file?.exists() {
            true => Err(taken(&look.name)),
            false => Ok(()),
        }
    }

    async fn find(&self, wish: &Wish) -> Result<Found, Error> {
        match &wish.from {
            Reference::Hub { owner, repo, want } => {
                let want = wish.file.as_deref().or(want.as_deref());
                hub::find(&self.client, owner, repo, want).await
            }
            Reference::Registry {
                namespace,
                name,
                tag,
            } => registry::find(&self.client, (namespace, name), tag).await,
            Reference::Url(uri) => direct::find(uri),
        }
    }

    /// How much of a file is here.
    fn have(&self, part: &Part) -> u64 {
        let is_whole = match (&part.target, &part.digest) {
            (Target::File(name), Some(_)) => {
                let path = self.library.file_of(name);
                path.is_ok_and(|path| path.metadata().is_ok_and(|it| it.len() == part.bytes()))
            }
            (Target::Created(..), Some(digest)) => self.library.has_blob(digest),
            _ => false,
        };
        match is_whole {
            true => part.bytes(),
            false => {
                let models = self.library.directory();
                Store::have(models, &part.identity(), self.piece_bytes)
            }
        }
    }

    /// Whether the file is in the library already; then it has its settings by the end of this.
    ///
    /// # Errors
    /// If another model has the name.
    async fn is_here(&self, part: &Part) -> Result<bool, Error> {
        let library = Arc::clone(&self.library);
        let (digest, target, bytes) = (part.digest.clone(), part.target.clone(), part.bytes());
        // A file of gigabytes may be read: whoever gives up meanwhile does not wait for it.
        let stop = Stop::default();
        let stopped = Arc::clone(&stop.0);
        let here = blocking("look for the model", move || match (&target, &digest) {
            (Target::Created(name, manifest), Some(digest)) if library.has_blob(digest) => {
                let manifest = made_of(manifest, digest);
                library.create(name.as_str(), manifest)?;
                Ok(true)
            }
            (Target::File(name), _) => {
                let path = library.file_of(name)?;
                let Ok(about) = path.metadata() else {
                    return Ok(false);
                };
                let is_same = about.len() == bytes
                    && digest
                        .is_some_and(|it| digest_of(&path, &stopped).is_ok_and(|its| its == it));
                match is_same {
                    true => Ok(true),
                    false => Err(taken(name.as_str())),
                }
            }
            _ => Ok(false),
        });
        here.await
    }

    async fn open(&self, part: &Part) -> Result<Arc<Store>, Error> {
        // One that was just called off may take a moment to let go.
        const PATIENCE: u32 = 40;
        let models = self.library.directory().to_owned();
        let (identity, piece_bytes) = (part.identity(), self.piece_bytes);
        let opened = blocking("open a pull", move || {
            store::sweep(&models);
            for _ in 0..PATIENCE {
                match Store::open(&models, &identity, piece_bytes) {
                    Err(Error::Busy) => std::thread::sleep(Duration::from_millis(50)),
                    opened => return opened,
                }
            }
            Err(Error::Busy)
        });
        Ok(Arc::new(opened.await?))
    }

    /// Fetches all pieces and has them read; gives the digest of what came.
    async fn fetch(
        &self,
        part: &Part,
        store: &Arc<Store>,
        told: &impl Fn(Stage, u64, f64),
    ) -> Result<[u8; 32], Error> {
        let (findings, mut found) = mpsc::unbounded_channel();
        let read = Arc::clone(store);
        tokio::task::spawn_blocking(move || trail::follow(&read, &findings));
        let download = Download::new(&self.client, &part.fetched, Arc::clone(store));
        let stage = AtomicBool::new(false);
        let work = async {
            loop {
                download.run().await?;
                stage.store(true, Ordering::Relaxed);
                match found.recv().await {
                    Some(trail::Found::Whole(digest)) => return Ok(digest),
                    Some(trail::Found::Failed(error)) => return Err(error),
                    Some(trail::Found::Damaged) => stage.store(false, Ordering::Relaxed),
                    None => return Err(Error::BadDisk),
                }
            }
        };
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        let mut pace = Pace::from(download.done_bytes());
        let mut flusher = Flusher::of(store);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let bytes = download.done_bytes();
                    let stage = match stage.load(Ordering::Relaxed) {
                        true => Stage::Verifying,
                        false => Stage::Downloading,
                    };
                    told(stage, bytes.min(part.bytes()), pace.at(bytes));
                    flusher.tick();
                }
            }
        }
    }

    /// Holds the digest against what was announced, brings the file to disk and gives it to the library.
    async fn finish(&self, part: &Part, store: &Arc<Store>, have: [u8; 32]) -> Result<(), Error> {
        let have = Digest::of(&have);
        if let Some(want) = part.digest.as_ref().filter(|want| **want != have) {
            // Each piece is as it came, so its source sent something else. Which bytes are wrong, nobody can tell.
            store.clear();
            return Err(Error::WrongDigest {
                want: want.to_string(),
                have: have.to_string(),
            });
        }
        let (library, store) = (Arc::clone(&self.library), Arc::clone(store));
        let (target, file) = (part.target.clone(), part.file.clone());
        let put = move || {
            store.sync()?;
            let path = store.data_path();
            ModelFile::open(&path).map_err(|source| Error::NotAModel {
                name: file,
                source: Box::new(source),
            })?;
            // What was pulled days ago is not what was forgotten for days.
            let touched = File::options().write(true).open(&path);
            let touched = touched.and_then(|it| it.set_modified(SystemTime::now()));
            touched.map_err(Error::io("bring a file to the disk"))?;
            match &target {
                Target::File(name) => library.admit_file(&path, name)?,
                Target::Created(name, manifest) => {
                    library.admit_blob(&path, &have)?;
                    library.create(name.as_str(), made_of(manifest, &have))?;
                }
            }
            store.clear();
            Ok(())
        };
        blocking("give the model to the library", put).await
    }
}

/// Ends whatever waits for pieces, when the pull ends.
struct CallOff(Arc<Store>);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

/// Ends what reads a whole file, when nobody waits for it any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has the disk take what has come, now and then and one such at a time.
struct Flusher {
    store: Arc<Store>,
    synced: u64,
    busy: Arc<AtomicBool>,
}

impl Flusher {
    fn of(store: &Arc<Store>) -> Self {
        Self {
            store: Arc::clone(store),
            synced: store.done_bytes(),
            busy: Arc::default(),
        }
    }

    fn tick(&mut self) {
        let done = self.store.done_bytes();
        if done < self.synced.saturating_add(SYNC_BYTES) || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.synced = done;
        let (store, busy) = (Arc::clone(&self.store), Arc::clone(&self.busy));
        tokio::task::spawn_blocking(move || {
            // It is asked again at the end, and told then if it fails.
            let _ = store.sync();
            busy.store(false, Ordering::Release);
        });
    }
}

/// The head of a model whose parts so far have the first one, and which goes on with this one.
fn joined(
    head: Option<ModelFile>,
    next: Option<ModelFile>,
    before: &[Part],
    part: &Part,
) -> Result<Option<ModelFile>, Error> {
    if before.is_empty() {
        return Ok(next);
    }
    let (Some(mut head), Some(next)) = (head, next) else {
        return Ok(None);
    };
    let joined = head.append(before.len() + 1, next);
    joined.map_err(|source| Error::NotAModel {
        name: part.file.clone(),
        source: Box::new(source),
    })?;
    Ok(Some(head))
}

fn taken(name: &str) -> Error {
    Error::Library(troika_library::Error::Conflict(format!(
        "there is another model {name:?} already; delete it first, or choose another name"
    )))
}

/// The reference with the file that was asked for.
fn reference_to(wish: &Wish) -> String {
    match (&wish.from, &wish.file) {
        (Reference::Hub { owner, repo, .. }, Some(file)) => format!("hf:{owner}/{repo}:{file}"),
        (from, _) => from.to_string(),
    }
}

/// How the weights are stored: as most of a file's bytes are, or as its name says.
fn quantization(head: Option<&ModelFile>, file: &str) -> Option<String> {
    let own = head.map(|head| troika_library::Summary::of(head).quantization);
    let own = own.filter(|it| !it.is_empty());
    own.or_else(|| crate::found::quantization(file))
}

/// The digest of a file that is here.
fn digest_of(path: &Path, stop: &AtomicBool) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::of(&sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}

/// Does on a thread of its own what waits for the disk.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::io(action)(std::io::Error::other(error)))?
}
