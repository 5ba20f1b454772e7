//! The image: every digest, what an engine is told, and the program in nothing but the image's files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tar::Archive;

use super::{can, passed};
use crate::dist::layer::{digest, gzip};
use crate::dist::{fresh, output};

/// The files of an image by their names.
type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn check(image: &Path, work: &Path, version: &str) -> anyhow::Result<()> {
    fresh(work)?;
    let files = read(image)?;
    let (config, layers) = verify(&files)?;
    passed("the image's digests are right");
    let settings = &config["config"];
    ensure!(
        settings["User"] == "65532:65532",
        "the image runs as {}",
        settings["User"]
    );
    let entry = settings["Entrypoint"][0]
        .as_str()
        .context("the image has nothing to run")?;
    let root = work.join("root");
    for layer in &layers {
        Archive::new(&**layer)
            .unpack(&root)
            .context("a layer cannot be unpacked")?;
    }
    runs(&root, entry, version)
}

fn read(image: &Path) -> anyhow::Result<Files> {
    let file = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
    let mut files = Files::new();
    for entry in Archive::new(file).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        files.insert(path, bytes);
    }
    Ok(files)
}

/// Follows the layout from its index, and holds each thing against its digest. Returns configuration and layers.
fn verify(files: &Files) -> anyhow::Result<(Value, Vec<Vec<u8>>)> {
    let json =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).context("the image holds no JSON");
    let named = |name: &str| {
        files
            .get(name)
            .with_context(|| format!("the image lacks {name}"))
    };
    ensure!(
        json(named("oci-layout")?)?["imageLayoutVersion"] == "1.0.0",
        "the layout is another"
    );
    let index = json(named("index.json")?)?;
    ensure!(index["schemaVersion"] == 2, "the index has another form");
    let manifest = json(blob(files, &index["manifests"][0])?)?;
    let config = json(blob(files, &manifest["config"])?)?;
    let described = manifest["layers"]
        .as_array()
        .context("the image has no layers")?;
    let inner = config["rootfs"]["diff_ids"]
        .as_array()
        .context("the image has no layers")?;
    ensure!(
        described.len() == inner.len(),
        "layers and their digests differ in number"
    );
    let mut layers = Vec::new();
    for (described, inner) in described.iter().zip(inner) {
        let tar = gzip(&["-d"], blob(files, described)?)?;
        ensure!(
            digest(&tar) == *inner,
            "a layer holds other than the configuration says"
        );
        layers.push(tar);
    }
    Ok((config, layers))
}

fn blob<'f>(files: &'f Files, described: &Value) -> anyhow::Result<&'f [u8]> {
    let wanted = described["digest"]
        .as_str()
        .context("a digest is missing")?;
    let name = wanted
        .strip_prefix("sha256:")
        .context("a digest of another kind")?;
    let bytes = files.get(&format!("blobs/sha256/{name}"));
    let bytes = bytes.with_context(|| format!("the image lacks {wanted}"))?;
    ensure!(
        digest(bytes) == wanted,
        "what is named {wanted} is {}",
        digest(bytes)
    );
    ensure!(
        described["size"] == bytes.len(),
        "{wanted} has another length than is said"
    );
    Ok(bytes)
}

/// Runs the program with nothing around it but the image.
fn runs(root: &Path, entry: &str, version: &str) -> anyhow::Result<()> {
    let inside = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "chroot"])
            .arg(root)
            .arg(entry)
            .args(args);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("TROIKA_HOME", "/var/lib/troika");
        command
    };
    let mut alone = Command::new("unshare");
    if !can(
        "the program in the image",
        alone.args(["--map-root-user", "chroot", "/", "true"]),
    ) {
        return Ok(());
    }
    let told = output(&mut inside(&["--version"]))?;
    ensure!(
        told == version,
        "the image's program is {told}, not {version}"
    );
    let text = output(&mut inside(&[
        "run",
        "--quiet",
        "-n",
        "8",
        "Once upon a time",
    ]))?;
    ensure!(
        text.starts_with("Once upon a time"),
        "the image's program writes {text:?}"
    );
    let leftover = fs::read_dir(root.join("var/lib/troika")).context("the image has no home")?;
    ensure!(leftover.count() == 0, "the home is not empty");
    passed("the image's program runs with nothing around it, and writes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::image::archive;
    use crate::dist::layer::{Layer, Owner};

    fn files() -> Files {
        let mut layer = Layer::new();
        layer.file("usr/bin/x", b"program", Owner::OPEN).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar");
        archive(&[layer.finish().unwrap()], &path).unwrap();
        read(&path).unwrap()
    }

    #[test]
    fn an_image_is_what_its_digests_say() {
        let files = files();
        let (config, layers) = verify(&files).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "serve");
        let mut layer = Archive::new(&*layers[0]);
        let paths: Vec<_> = layer
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(
            paths,
            ["usr/", "usr/bin/", "usr/bin/x"].map(std::path::PathBuf::from)
        );
    }

    #[test]
    fn what_was_changed_or_is_missing_is_found() {
        let whole = files();
        for name in whole.keys() {
            let mut without = whole.clone();
            without.remove(name);
            assert!(verify(&without).is_err(), "without {name}");
            let mut changed = whole.clone();
            if let Some(byte) = changed.get_mut(name).and_then(|bytes| bytes.get_mut(10)) {
                *byte ^= 1;
            }
            assert!(verify(&changed).is_err(), "with another {name}");
        }
    }
}
