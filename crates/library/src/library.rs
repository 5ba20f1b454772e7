//! The directory of models and the models inside the program.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use troika_gguf::PartName;

use crate::blobs::{Blobs, Upload};
use crate::error::shortened;
use crate::files::{self, FileState, modified};
use crate::name::without_default_tag;
use crate::summary::Summaries;
use crate::{AdapterFile, Digest, Entry, Error, Lora, Manifest, ModelName, Source, disk};

/// A longer manifest is none of ours.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Models inside the program: names and bytes.
pub type BuiltIn = &'static [(&'static str, &'static [u8])];

/// The models that a person has. Methods touch the disk and block meanwhile.
///
/// What others put into the directory or take out of it is seen at the next call: nothing is remembered but summaries.
pub struct Library {
    directory: PathBuf,
    built_in: BuiltIn,
    blobs: Blobs,
    summaries: Arc<Summaries>,
    /// Held while something is created or deleted, so that nothing is deleted that is being made use of.
    changes: Mutex<()>,
}

/// What is in a library.
#[derive(Debug)]
pub struct Survey {
    /// The models, by name; those of the program last.
    pub entries: Vec<Entry>,
    /// Models that were created and cannot be used any more.
    pub damaged: Vec<Damaged>,
}

/// A model that was created and cannot be used any more. It can be deleted, or created anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// A name and what stands behind it.
struct Listed {
    name: String,
    what: What,
}

enum What {
    Created {
        manifest: PathBuf,
        modified: SystemTime,
    },
    File(FileState),
    BuiltIn(&'static [u8]),
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&self.directory).finish()
    }
}

impl Library {
    /// A library in this directory, which need not exist, beside the models inside the program.
    pub fn open(directory: PathBuf, built_in: BuiltIn) -> Self {
        Self {
            blobs: Blobs(directory.join("blobs")),
            directory,
            built_in,
            summaries: Arc::default(),
            changes: Mutex::default(),
        }
    }

    /// The directory. A GGUF file that is put there is a model.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The models, by name; those of the program last. Their files are not opened, and may be damaged. Created models
    /// whose settings cannot be read or whose file is gone are left out: [`Library::survey`] tells them.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        Ok(self.survey()?.entries)
    }

    /// The models, and those that are damaged.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn survey(&self) -> Result<Survey, Error> {
        let all = self.listed()?;
        let mut survey = Survey {
            entries: Vec::new(),
            damaged: Vec::new(),
        };
        for listed in &all {
            match self.entry(listed, &all) {
                Ok(entry) => survey.entries.push(entry),
                Err(reason) => survey.damaged.push(Damaged {
                    name: listed.name.clone(),
                    reason,
                }),
            }
        }
        Ok(survey)
    }

    /// The model of this name: with or without `:latest`, and `.gguf` if it is a file. Case matters only between two
    /// that differ in nothing else.
    ///
    /// # Errors
    /// [`Error::NotFound`], which says what there is, or [`Error::Damaged`].
    pub fn find(&self, name: &str) -> Result<Entry, Error> {
        let all = self.listed()?;
        let listed = look_up(&all, name)?;
        self.entry(listed, &all).map_err(|reason| Error::Damaged {
            name: listed.name.clone(),
            reason,
        })
    }

    /// Creates a model, or gives a created one new settings. `manifest.from` is a model's name or an uploaded file's
    /// digest; a created model's settings are taken over where `manifest` says nothing.
    ///
    /// # Errors
    /// If the name is none or a file's, what it is made of is not there, or the settings make no sense.
    pub fn create(&self, name: &str, manifest: Manifest) -> Result<Entry, Error> {
        self.create_checked(name, manifest, |_| Ok(()))
    }

    /// Creates a model as [`Library::create`] does, if `check` finds that its adapters fit it.
    ///
    /// # Errors
    /// As [`Library::create`], and what `check` says.
    pub fn create_checked(
        &self,
        name: &str,
        manifest: Manifest,
        check: impl FnOnce(&Entry) -> Result<(), Error>,
    ) -> Result<Entry, Error> {
        let _changes = self.change();
        let mut entry = match manifest.from.parse::<Digest>() {
            Ok(digest) => self.entry_of_blob(&digest)?,
            Err(_) => self.find(&manifest.from)?,
        };
        manifest.check()?;
        let has_adapters = !manifest.adapters.is_empty();
        entry.manifest = manifest.over(&entry.manifest);
        if has_adapters {
            let adapters = entry.manifest.adapters.iter();
            let adapters = adapters.map(|adapter| {
                self.adapter(adapter).map_err(|missing| Error::BadSetting {
                    field: "adapters",
                    reason: format!("{missing}; upload it first"),
                })
            });
            entry.adapters = adapters.collect::<Result<_, _>>()?;
            check(&entry)?;
        }
        self.write(name, &entry.manifest)
    }

    /// Gives a model a second name.
    ///
    /// # Errors
    /// As [`Library::create`].
    pub fn copy(&self, from: &str, to: &str) -> Result<Entry, Error> {
        let _changes = self.change();
        let manifest = self.find(from)?.manifest;
        self.write(to, &manifest)
    }

    /// Removes a model, and returns the name it had in full. Of a created one the settings go, and with them each file that
    /// was uploaded and that no other model needs; of a file, the file. Neither has to be readable.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it is part of the program or created models need its file.
    pub fn delete(&self, name: &str) -> Result<String, Error> {
        let _changes = self.change();
        let all = self.listed()?;
        let listed = look_up(&all, name)?;
        match &listed.what {
            What::BuiltIn(_) => {
                return Err(Error::Conflict(format!(
                    "model {:?} is part of the program and cannot be deleted",
                    listed.name
                )));
            }
            What::File(file) => {
                let users = self.users(&all, &file.file_name);
                if !users.is_empty() {
                    return Err(Error::Conflict(format!(
                        "model {:?} cannot be deleted: {} made of it; delete that first",
                        listed.name,
                        users.join(", ") + if users.len() == 1 { " is" } else { " are" },
                    )));
                }
                // The first one first: the others are no model without it.
                disk::remove(&file.path)?;
                file.later.iter().try_for_each(|part| disk::remove(part))?;
            }
            What::Created { manifest, .. } => {
                let settings = read_manifest(manifest);
                disk::remove(manifest)?;
                for digest in settings.iter().flat_map(Manifest::uploads) {
                    if !self.is_needed(&digest)? {
                        disk::remove(&self.blobs.path(&digest))?;
                    }
                }
            }
        }
        Ok(listed.name.clone())
    }

    /// Whether the file with this digest was uploaded.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.path(digest).is_file()
    }

    /// Begins to take a file of at most `bytes_max`. It has no name until a model is created from its digest; after a
    /// day without, it is forgotten.
    ///
    /// # Errors
    /// If no file can be made.
    pub fn upload(&self, digest: Digest, bytes_max: u64) -> Result<Upload, Error> {
        {
            let _changes = self.change();
            // If that cannot be told, nothing is forgotten.
            self.blobs.sweep(|old| self.is_needed(old).unwrap_or(true));
        }
        self.blobs.begin(digest, bytes_max)
    }

    /// Takes a file that was written in the library's directory, checked and brought to disk, among the uploaded files, as
    /// the one with this digest. Its old name stays, for whoever wrote it to remove.
    ///
    /// # Errors
    /// The system's.
    pub fn admit_blob(&self, file: &Path, digest: &Digest) -> Result<(), Error> {
        let _changes = self.change();
        match disk::link(file, &self.blobs.path(digest)) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Ok(())
            }
            linked => linked,
        }
    }

    /// Takes such a file as the model `NAME.gguf`, or as the part of one that the name says it is. Its old name stays, for whoever wrote it to remove.
    ///
    /// # Errors
    /// [`Error::BadName`] if it cannot be the name of a file; [`Error::Conflict`] if there is a model of this name.
    pub fn admit_file(&self, file: &Path, name: &ModelName) -> Result<(), Error> {
        let _changes = self.change();
        let target = self.file_of(name)?;
        // A later part is a file beside the model's, and no model.
        let part = PartName::of(name.as_str());
        let model_name = part.map_or(name.as_str(), |it| it.base);
        let taken = || {
            Error::Conflict(format!(
                "there is a model {name:?} already; delete it first, or choose another name",
                name = model_name
            ))
        };
        let all = self.listed()?;
        let is_taken = |listed: &Listed| {
            !matches!(listed.what, What::BuiltIn(_)) && listed.name.eq_ignore_ascii_case(model_name)
        };
        let is_model = part.is_none_or(|it| it.number == 1);
        if is_model && all.iter().any(is_taken) {
            return Err(taken());
        }
        match disk::link(file, &target) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(taken())
            }
            linked => linked,
        }
    }

    /// Where the file of a model of this name is or would be.
    ///
    /// # Errors
    /// [`Error::BadName`] if it has parts: a file has a plain name.
    pub fn file_of(&self, name: &ModelName) -> Result<PathBuf, Error> {
        if name.as_str().contains(['/', ':']) {
            return Err(Error::BadName {
                name: shortened(name.as_str()),
                reason: "a file's name has neither `/` nor `:`",
            });
        }
        Ok(self.directory.join(format!("{name}.gguf")))
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    /// All names: created models, files, models of the program. A name that is taken by one before is that one's; a file
    /// then goes by the whole of its name.
    fn listed(&self) -> Result<Vec<Listed>, Error> {
        let mut all = Vec::new();
        for (file, manifest, about) in disk::files(&self.manifests())? {
            if let Some(name) = ModelName::from_manifest_file(&file) {
                all.push(Listed {
                    name: name.to_string(),
                    what: What::Created {
                        manifest,
                        modified: modified(&about),
                    },
                });
            }
        }
        for file in files::models(&self.directory)? {
            let stem = files::model_name(&file.file_name);
            let is_free = !all.iter().any(|listed| listed.name == stem);
            all.push(Listed {
                name: if is_free { stem } else { &*file.file_name }.to_owned(),
                what: What::File(file),
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for &(name, bytes) in self.built_in {
            if !all.iter().any(|listed| listed.name == name) {
                all.push(Listed {
                    name: name.to_owned(),
                    what: What::BuiltIn(bytes),
                });
            }
        }
        Ok(all)
    }

    /// The model behind a name, or what is wrong with it.
    fn entry(&self, listed: &Listed, all: &[Listed]) -> Result<Entry, String> {
        let plain = |from: &str| Manifest {
            from: from.to_owned(),
            ..Manifest::default()
        };
        let name = listed.name.clone();
        Ok(match &listed.what {
            What::BuiltIn(bytes) => {
                self.entry_of(name, Base::BuiltIn(bytes), plain(&listed.name), None)
            }
            What::File(file) => {
                let manifest = plain(&file.file_name);
                self.entry_of(name, Base::File(file.clone()), manifest, None)
            }
            What::Created { manifest, modified } => {
                let manifest = read_manifest(manifest)?;
                let base = self.base(&manifest.from, all)?;
                let adapters = manifest.adapters.iter();
                let adapters = adapters.map(|adapter| {
                    self.adapter(adapter).map_err(|_| {
                        let digest = &adapter.from;
                        format!(
                            "the adapter {digest} is gone; upload it again, or delete the model"
                        )
                    })
                });
                let adapters = adapters.collect::<Result<_, _>>()?;
                Entry {
                    adapters,
                    ..self.entry_of(name, base, manifest, Some(*modified))
                }
            }
        })
    }

    fn entry_of(
        &self,
        name: String,
        base: Base,
        manifest: Manifest,
        created: Option<SystemTime>,
    ) -> Entry {
        let (source, file_bytes, file_modified) = match base {
            Base::BuiltIn(bytes) => (Source::BuiltIn(bytes), bytes.len() as u64, program_time()),
            Base::File(file) => (Source::File(file.path), file.bytes, file.modified),
        };
        Entry {
            name,
            source,
            adapters: Vec::new(),
            manifest,
            is_created: created.is_some(),
            modified: created.unwrap_or(file_modified),
            file_bytes,
            file_modified,
            summaries: Arc::clone(&self.summaries),
        }
    }

    /// What a manifest says that its model is made of, or why that cannot be.
    fn base(&self, from: &str, all: &[Listed]) -> Result<Base, String> {
        if let Ok(digest) = from.parse::<Digest>() {
            let path = self.blobs.path(&digest);
            let about = std::fs::symlink_metadata(&path).ok();
            let about = about.filter(Metadata::is_file);
            return match about {
                Some(about) => Ok(Base::File(FileState {
                    file_name: digest.blob_file(),
                    path,
                    bytes: about.len(),
                    modified: modified(&about),
                    later: Vec::new(),
                })),
                None => Err(format!("the file with the digest {digest} is gone")),
            };
        }
        let file = all.iter().find_map(|listed| match &listed.what {
            What::File(file) if file.file_name == from => Some(file.clone()),
            _ => None,
        });
        let built_in = || self.built_in.iter().find(|(name, _)| *name == from);
        match file {
            Some(file) => Ok(Base::File(file)),
            None => match built_in() {
                Some((_, bytes)) => Ok(Base::BuiltIn(bytes)),
                None => Err(format!(
                    "it is made of {:?}, which is no file in the library",
                    shortened(from)
                )),
            },
        }
    }

    /// An adapter's file.
    fn adapter(&self, adapter: &Lora) -> Result<AdapterFile, Error> {
        let digest = adapter.from.parse()?;
        let path = self.blobs.path(&digest);
        let about = std::fs::symlink_metadata(&path).ok();
        let about = about
            .filter(Metadata::is_file)
            .ok_or_else(|| Error::NoBlob {
                digest: adapter.from.clone(),
            })?;
        Ok(AdapterFile {
            path,
            digest: digest.to_string(),
            bytes: about.len(),
            scale: adapter.scale,
        })
    }

    /// An uploaded file, which must be a model.
    fn entry_of_blob(&self, digest: &Digest) -> Result<Entry, Error> {
        let manifest = Manifest {
            from: digest.to_string(),
            ..Manifest::default()
        };
        let Ok(base) = self.base(&manifest.from, &[]) else {
            return Err(Error::NoBlob {
                digest: manifest.from,
            });
        };
        let entry = self.entry_of(manifest.from.clone(), base, manifest, None);
        entry.open()?;
        Ok(entry)
    }

    /// Writes a created model's settings.
    fn write(&self, name: &str, manifest: &Manifest) -> Result<Entry, Error> {
        let name = ModelName::new(name)?;
        let all = self.listed()?;
        let same = |listed: &&Listed| listed.name.eq_ignore_ascii_case(name.as_str());
        let file = match all.iter().find(same) {
            None => name.manifest_file(),
            // The same name in other letters is the same model, on file systems of either kind.
            Some(Listed {
                name,
                what: What::Created { .. },
            }) => ModelName::new(name)?.manifest_file(),
            Some(Listed { name, .. }) => {
                return Err(Error::Conflict(format!(
                    "model {name:?} is a file or part of the program, and keeps its settings; choose another name"
                )));
            }
        };
        manifest.check()?;
        let bytes =
            serde_json::to_vec_pretty(manifest).expect("a manifest is JSON. This is a bug.");
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Error::BadSetting {
                field: "system, template, messages, license",
                reason: "together they are longer than 4 MiB".to_owned(),
            });
        }
        disk::write(&self.manifests(), &file, &bytes)?;
        self.find(name.as_str())
    }

    /// The created models that are made of this.
    fn users(&self, all: &[Listed], from: &str) -> Vec<String> {
        let uses = |listed: &&Listed| match &listed.what {
            What::Created { manifest, .. } => {
                read_manifest(manifest).is_ok_and(|manifest| manifest.is_made_of(from))
            }
            _ => false,
        };
        let users = all.iter().filter(uses);
        users.map(|listed| format!("{:?}", listed.name)).collect()
    }

    fn is_needed(&self, digest: &Digest) -> Result<bool, Error> {
        let all = self.listed()?;
        Ok(!self.users(&all, &digest.to_string()).is_empty())
    }
}

/// Where weights are, with what is known of the file.
enum Base {
    BuiltIn(&'static [u8]),
    File(FileState),
}

/// The one that a name means: in these letters, or else in others.
fn look_up<'l>(all: &'l [Listed], name: &str) -> Result<&'l Listed, Error> {
    let word = without_default_tag(name);
    let find = |same: fn(&str, &str) -> bool| {
        all.iter().find(|listed| {
            let file_name = match &listed.what {
                What::File(file) => Some(&*file.file_name),
                _ => None,
            };
            same(&listed.name, word) || file_name.is_some_and(|file_name| same(file_name, word))
        })
    };
    find(|a, b| a == b)
        .or_else(|| find(str::eq_ignore_ascii_case))
        .ok_or_else(|| Error::NotFound {
            name: shortened(name),
            known: known(all),
        })
}

/// Some names, with commas.
fn known(all: &[Listed]) -> String {
    const NAMES_SHOWN: usize = 8;
    if all.is_empty() {
        return "none at all".to_owned();
    }
    let names: Vec<_> = all
        .iter()
        .take(NAMES_SHOWN)
        .map(|listed| shortened(&listed.name))
        .collect();
    let more = match all.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.join(", ") + &more
}

fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let bytes = disk::read(path, MANIFEST_BYTES_MAX)
        .map_err(|error| format!("its settings cannot be read: {error}"))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| format!("its settings are no manifest: {error}"))?;
    manifest.check().map_err(|error| error.to_string())?;
    Ok(manifest)
}

/// When the program was installed.
fn program_time() -> SystemTime {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    program.map_or(UNIX_EPOCH, |about| modified(&about))
}

#[cfg(test)]
mod tests;
