//! The container's image: a file in OCI's layout, which every engine loads.
//!
//! There is no distribution in it: the program, the libraries that it needs, certificates and one user. A shell is not there
//! to be broken into.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use tar::Builder;

use super::layer::{Layer, Owner, Packed, digest};
use super::{VERSION, libraries};

/// The user that the program runs as; others use the number for the same.
const USER: u64 = 65532;
const HOME: &str = "var/lib/troika";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PORT: &str = "11435/tcp";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Packages whose files are in the image, for their licences.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "ca-certificates"];

/// Writes the image of a program into a directory, and returns where it is.
pub(super) fn write(root: &Path, program: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let layers = [base(program)?, top(root, program)?];
    let path = directory.join(format!("troika-{VERSION}-{}.oci.tar", architecture()));
    archive(&layers, &path)?;
    Ok(path)
}

/// As Go and so the whole of containers calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What changes seldom: libraries, certificates, the user.
fn base(program: &Path) -> anyhow::Result<Packed> {
    let mut layer = Layer::new();
    for library in libraries::of(program)? {
        let path = library.to_str().context("a library's path is no text")?;
        layer.copy(&library, path.trim_start_matches('/'), Owner::OPEN)?;
    }
    if Path::new(CERTIFICATES).exists() {
        let path = CERTIFICATES.trim_start_matches('/');
        layer.copy(Path::new(CERTIFICATES), path, Owner::FILE)?;
    } else {
        println!("the image has no certificates: there is no {CERTIFICATES} here");
    }
    let users = format!(
        "root:x:0:0:root:/root:/sbin/nologin\ntroika:x:{USER}:{USER}:Troika:/{HOME}:/sbin/nologin\n"
    );
    layer.file("etc/passwd", users.as_bytes(), Owner::FILE)?;
    let groups = format!("root:x:0:\ntroika:x:{USER}:\n");
    layer.file("etc/group", groups.as_bytes(), Owner::FILE)?;
    layer.file("etc/nsswitch.conf", b"hosts: files dns\n", Owner::FILE)?;
    let anyone = Owner {
        id: 0,
        mode: 0o1777,
    };
    layer.directory("tmp", anyone)?;
    for package in PACKAGES {
        let copyright = format!("/usr/share/doc/{package}/copyright");
        if Path::new(&copyright).exists() {
            layer.copy(
                Path::new(&copyright),
                copyright.trim_start_matches('/'),
                Owner::FILE,
            )?;
        }
    }
    layer.finish()
}

/// The program and its empty home.
fn top(root: &Path, program: &Path) -> anyhow::Result<Packed> {
    let mut layer = Layer::new();
    layer.copy(program, "usr/bin/troika", Owner::OPEN)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT", "dist/debian/copyright"] {
        let name = licence.rsplit('/').next().unwrap_or(licence);
        let path = format!("usr/share/doc/troika/{name}");
        layer.copy(&root.join(licence), &path, Owner::FILE)?;
    }
    // A volume takes owner and mode over from what it is put on.
    let own = Owner {
        id: USER,
        mode: 0o700,
    };
    layer.directory(HOME, own)?;
    layer.finish()
}

/// What an engine is told to run.
fn config(layers: &[Packed]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &*layer.diff_id).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": [
                "PATH=/usr/bin",
                format!("HOME=/{HOME}"),
                format!("TROIKA_HOME=/{HOME}"),
                "TROIKA_HOST=0.0.0.0",
                "TROIKA_LOG_FORMAT=json",
                format!("SSL_CERT_FILE={CERTIFICATES}"),
            ],
            "Entrypoint": ["/usr/bin/troika"],
            "Cmd": ["serve"],
            "WorkingDir": format!("/{HOME}"),
            "ExposedPorts": {PORT: {}},
            "Volumes": {format!("/{HOME}"): {}},
            // Lets running answers finish.
            "StopSignal": "SIGTERM",
            // Docker's addition to OCI's form, in nanoseconds; other engines pass it over.
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/troika", "doctor", "--server"],
                "Interval": 30_000_000_000_u64,
                "Timeout": 5_000_000_000_u64,
                "StartPeriod": 10_000_000_000_u64,
                "Retries": 3,
            },
            "Labels": labels(),
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created_by": "cargo xtask dist: libraries, certificates, user"},
            {"created_by": "cargo xtask dist: the program"},
        ],
    })
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "troika",
        "org.opencontainers.image.description": "Language models on the computer you own",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": "Apache-2.0 OR MIT",
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
    })
}

/// A thing by its digest.
fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

/// Writes the layout: each thing under its digest, and an index that says where to begin.
pub(super) fn archive(layers: &[Packed], path: &Path) -> anyhow::Result<()> {
    let config = serde_json::to_vec(&config(layers))?;
    let described: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(LAYER, &layer.bytes))
        .collect();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": described,
        "annotations": labels(),
    }))?;
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    entry["annotations"] = json!({
        "org.opencontainers.image.ref.name": VERSION,
        "io.containerd.image.name": format!("localhost/troika:{VERSION}"),
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});

    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut tar = Builder::new(file);
    let blobs = layers.iter().map(|layer| &*layer.bytes);
    for bytes in blobs.chain([&*config, &*manifest]) {
        let digest = digest(bytes);
        let name = digest.strip_prefix("sha256:").unwrap_or(&digest);
        add(&mut tar, &format!("blobs/sha256/{name}"), bytes)?;
    }
    add(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
    add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.into_inner().context("the image cannot be ended")?;
    Ok(())
}

fn add(tar: &mut Builder<File>, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, bytes)
        .with_context(|| format!("cannot pack {path}"))
}
