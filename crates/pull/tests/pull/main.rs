//! Pulls from a host on this machine that speaks as hub, registry and plain server do, and fails in every way it can.
#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod faults;
mod host;
mod killed;
mod names;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::Host;
use tempfile::TempDir;
use tokio::sync::watch;
use troika_library::Library;
use troika_pull::{Error, Look, Patience, Progress, Puller, Sites, Stage, Wish};

/// Bytes of a piece in tests.
const PIECE: u64 = 16 << 10;

/// A directory of models, and what pulls into it.
struct Place {
    home: TempDir,
    library: Arc<Library>,
    puller: Puller,
}

impl Place {
    fn new(host: &Host) -> Self {
        Self::with(host, &patience(), None)
    }

    fn with(host: &Host, patience: &Patience, token: Option<&str>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (library, puller) = open(home.path(), &host.url(""), patience, token);
        Self {
            home,
            library,
            puller,
        }
    }

    async fn look(&self, from: &str) -> Result<Look, Error> {
        self.puller.look(&Wish::of(from.parse()?)).await
    }

    async fn pull(&self, look: &Look) -> Result<String, Error> {
        let (told, watched) = watch::channel(Progress::default());
        let name = self.puller.pull(look, &told).await?;
        assert_eq!(watched.borrow().stage, Stage::Done);
        Ok(name)
    }

    /// Looks and pulls.
    async fn have(&self, from: &str) -> Result<String, Error> {
        let look = self.look(from).await?;
        self.pull(&look).await
    }

    fn names(&self) -> Vec<String> {
        let entries = self.library.list().unwrap().into_iter();
        entries.map(|it| it.name).collect()
    }

    /// The bytes of a model in the library.
    fn bytes_of(&self, name: &str) -> Vec<u8> {
        match self.library.find(name).unwrap().source {
            troika_library::Source::File(path) => std::fs::read(path).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Whether anything is left of pulls.
    fn has_rests(&self) -> bool {
        let folder = self.home.path().join("models/.pulls");
        std::fs::read_dir(folder).is_ok_and(|it| it.count() > 0)
    }
}

fn open(
    home: &Path,
    host: &str,
    patience: &Patience,
    token: Option<&str>,
) -> (Arc<Library>, Puller) {
    let library = Arc::new(Library::open(home.join("models"), &[]));
    let sites = Sites::from_variables(
        |name| match name {
            "HF_ENDPOINT" | "OLLAMA_REGISTRY" => Some(host.to_owned()),
            "HF_TOKEN" => token.map(str::to_owned),
            _ => None,
        },
        false,
    );
    let puller = Puller::new(Arc::clone(&library), sites.unwrap(), patience.clone());
    (library, puller.with_pieces_of(PIECE))
}

/// Hosts answer at once here, however busy the machine is; only those that stall on purpose are not waited for long.
fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(20),
        stall: Duration::from_secs(60),
        tries: 4,
        pause: Duration::from_millis(5),
    }
}
