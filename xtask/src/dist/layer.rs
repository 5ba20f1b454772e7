//! A layer of an image: a tar file that is the same for the same files, whoever makes it and when.

use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Whose a file is, and what may be done with it.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) id: u64,
    pub(super) mode: u32,
}

impl Owner {
    /// Root's, readable by everyone; a directory, or a program.
    pub(super) const OPEN: Self = Self { id: 0, mode: 0o755 };
    /// Root's, readable by everyone.
    pub(super) const FILE: Self = Self { id: 0, mode: 0o644 };
}

/// A layer that is being written.
pub(super) struct Layer {
    tar: Builder<Vec<u8>>,
    directories: Vec<String>,
}

/// A layer as it is stored.
pub(super) struct Packed {
    /// Compressed.
    pub(super) bytes: Vec<u8>,
    /// The digest of what is in it, which an image's configuration names.
    pub(super) diff_id: String,
}

impl Layer {
    pub(super) fn new() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
            directories: Vec::new(),
        }
    }

    /// Adds a directory, and those around it that are not there yet. The path is without a slash in front.
    pub(super) fn directory(&mut self, path: &str, owner: Owner) -> anyhow::Result<()> {
        if self.directories.iter().any(|there| there == path) {
            return Ok(());
        }
        self.around(path)?;
        self.directories.push(path.to_owned());
        self.entry(EntryType::Directory, &format!("{path}/"), &[], owner)
    }

    /// Adds a file, and the directories around it.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8], owner: Owner) -> anyhow::Result<()> {
        self.around(path)?;
        self.entry(EntryType::Regular, path, bytes, owner)
    }

    /// Adds a file of this system's.
    pub(super) fn copy(&mut self, from: &Path, path: &str, owner: Owner) -> anyhow::Result<()> {
        let bytes =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, &bytes, owner)
    }

    fn around(&mut self, path: &str) -> anyhow::Result<()> {
        match path.rsplit_once('/') {
            Some((directory, _)) => self.directory(directory, Owner::OPEN),
            None => Ok(()),
        }
    }

    fn entry(
        &mut self,
        kind: EntryType,
        path: &str,
        bytes: &[u8],
        owner: Owner,
    ) -> anyhow::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(owner.mode);
        header.set_uid(owner.id);
        header.set_gid(owner.id);
        // The same files make the same image.
        header.set_mtime(0);
        self.tar
            .append_data(&mut header, path, bytes)
            .with_context(|| format!("cannot pack {path}"))
    }

    /// The layer, compressed.
    pub(super) fn finish(self) -> anyhow::Result<Packed> {
        let tar = self.tar.into_inner().context("a layer cannot be ended")?;
        Ok(Packed {
            diff_id: digest(&tar),
            bytes: gzip(&["-n", "-6"], &tar)?,
        })
    }
}

/// `sha256:` and the digest, as images name everything.
pub(super) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Pipes bytes through gzip, which every Linux has; unoptimised, a compressor of our own would take a minute.
pub(super) fn gzip(args: &[&str], bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(args)
        .arg("--stdout")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("gzip does not start")?;
    let mut input = gzip.stdin.take().context("gzip takes nothing")?;
    let mut output = gzip.stdout.take().context("gzip gives nothing")?;
    let mut packed = Vec::new();
    thread::scope(|scope| {
        // It stops reading if it fails, which its status tells.
        scope.spawn(move || input.write_all(bytes));
        output.read_to_end(&mut packed)
    })
    .context("gzip cannot be read")?;
    let status = gzip.wait().context("gzip does not end")?;
    ensure!(status.success(), "gzip ended with {status}");
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> Packed {
        let mut layer = Layer::new();
        layer.file("usr/bin/x", b"program", Owner::OPEN).unwrap();
        let own = Owner {
            id: 65532,
            mode: 0o700,
        };
        layer.directory("var/lib/x", own).unwrap();
        layer.directory("usr/bin", own).unwrap();
        layer.finish().unwrap()
    }

    #[test]
    fn the_same_files_are_the_same_layer() {
        let (a, b) = (layer(), layer());
        assert_eq!(a.diff_id, b.diff_id);
        assert_eq!(digest(&a.bytes), digest(&b.bytes));
        let tar = gzip(&["-d"], &a.bytes).unwrap();
        assert_eq!(digest(&tar), a.diff_id);
        let mut archive = tar::Archive::new(&*tar);
        let entries: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        let told: Vec<_> = entries
            .iter()
            .map(|entry| {
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap(), header.uid().unwrap())
            })
            .collect();
        let want = [
            ("usr/", 0o755, 0),
            ("usr/bin/", 0o755, 0),
            ("usr/bin/x", 0o755, 0),
            ("var/", 0o755, 0),
            ("var/lib/", 0o755, 0),
            ("var/lib/x/", 0o700, 65532),
        ];
        assert_eq!(
            told,
            want.map(|(path, mode, id)| (path.to_owned(), mode, id))
        );
    }

    #[test]
    fn digests_are_those_of_everyone() {
        assert_eq!(
            digest(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
