//! What was found for a GPU, kept in a file: until the GPU, its driver, or a kernel is another.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::Tuned;
use crate::matmul::{Formats, Tuning};
use crate::{Found, Key};

/// Changes with the meaning of the file.
const VERSION: u32 = 1;

/// The file for one GPU.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    about: About,
}

/// What the answer holds for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct About {
    version: u32,
    gpu: String,
    driver: String,
    interface: String,
    /// SHA-256 of the text of all kernels.
    kernels: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Content {
    about: About,
    formats: Formats,
    tried: usize,
    complete: bool,
    tuning: Tuning,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Checked {
    content: Content,
    /// SHA-256 of `content` as it is written here.
    sha256: String,
}

impl Store {
    /// The file of this GPU in a folder, which need not exist.
    pub fn new(folder: &Path, found: &Found) -> Self {
        let about = About {
            version: VERSION,
            gpu: found.name.clone(),
            driver: found.driver.clone(),
            interface: found.interface.to_owned(),
            kernels: kernels().to_owned(),
        };
        let name = &sha256(&to_json(&about))[..16];
        Self {
            path: folder.join(format!("{name}.json")),
            about,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept; `None` if nothing is. A file that is damaged, or is about something else, is told of and passed over.
    pub fn load(&self) -> Option<Tuned> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return self.pass_over(&error.to_string()),
        };
        let checked: Checked = match serde_json::from_str(&text) {
            Ok(checked) => checked,
            Err(error) => return self.pass_over(&error.to_string()),
        };
        let content = checked.content;
        if sha256(&to_json(&content)) != checked.sha256 {
            return self.pass_over("its checksum is another");
        }
        if content.about != self.about {
            return self.pass_over("it is about another GPU");
        }
        Some(Tuned {
            tuning: content.tuning,
            formats: content.formats,
            tried: content.tried,
            complete: content.complete,
        })
    }

    fn pass_over(&self, why: &str) -> Option<Tuned> {
        let file = self.path.display();
        tracing::warn!(%file, why, "what was found for this GPU cannot be used, and is found anew");
        None
    }

    /// Keeps it. A failure is told of and is no more than that: the same is found again next time.
    pub fn save(&self, tuned: &Tuned) {
        if let Err(error) = self.write(tuned) {
            let file = self.path.display();
            tracing::warn!(%file, %error, "what was found for this GPU cannot be kept");
        }
    }

    fn write(&self, tuned: &Tuned) -> std::io::Result<()> {
        let content = Content {
            about: self.about.clone(),
            formats: tuned.formats,
            tried: tuned.tried,
            complete: tuned.complete,
            tuning: tuned.tuning,
        };
        let sha256 = sha256(&to_json(&content));
        let text = serde_json::to_string_pretty(&Checked { content, sha256 })?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // Beside the file, so that it takes its place in one step: two processes may find the same at once.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// SHA-256 of the text of all kernels, as a number that is written down.
fn kernels() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let mut hash = Sha256::new();
        for key in Key::all() {
            hash.update(key.kernel().source());
        }
        hex(&hash.finalize())
    })
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings can be written")
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
