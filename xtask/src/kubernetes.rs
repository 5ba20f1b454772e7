//! `cargo xtask kubernetes`: the manifests, held against Kubernetes' schemas and those of the other kinds in them.
//!
//! What is checked are the kustomizations as `kubectl` puts them together, the examples, and what `troika plan --emit` writes.
//! A tool that is not here is skipped and says so; that the manifests are true of the program is for the program's own tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;
use troika_planner::catalogue::{Catalogue, Date};
use troika_planner::emit::{Target, emit};
use troika_planner::plan::replicas::replicas;
use troika_planner::plan::{Form, Question};

use crate::workspace_root;

/// Holds the manifests of Kubernetes against their schemas.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the schemas
    dir: PathBuf,
    /// Install nothing: use what is there
    #[arg(long)]
    no_install: bool,
    /// The Python whose pip installs
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// The oldest release that has all that is used (a pause in `preStop`), and the newest that the package knows.
const RELEASES: [&str; 2] = ["1.30", "1.37"];

/// The group of each kind that is Kubernetes' own.
const OWN_GROUPS: [&str; 5] = [
    "v1",
    "apps/v1",
    "autoscaling/v2",
    "policy/v1",
    "networking.k8s.io/v1",
];

/// Overlays that are put together for the check: components that are used together.
const TOGETHER: [&[&str]; 8] = [
    &[],
    &["monitoring"],
    &["keda"],
    &["gateway", "affinity-envoy"],
    &["gateway", "affinity-session"],
    &["gpu-nvidia"],
    &["gpu-dri"],
    &["remote", "monitoring", "gateway", "gpu-nvidia"],
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = workspace_root()?;
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().context("cannot find the folder")?;
    let folder = root.join("deploy/kubernetes");
    let mut all = emitted()?;
    all.extend(examples(&folder)?);
    match put_together(&folder, &dir)? {
        Some(whole) => all.extend(whole),
        None => {
            println!(
                "skipped: there is no `kubectl` to put the kustomizations together; the base is checked as it is"
            );
            all.extend(base(&folder)?);
        }
    }
    println!("{} texts", all.len());
    let mut failed = Vec::new();
    if !own_kinds(args, &folder, &dir, &all)? {
        failed.push("Kubernetes' own kinds");
    }
    if !other_kinds(args, &folder, &dir, &all)? {
        failed.push("other kinds");
    }
    ensure!(failed.is_empty(), "wrong: {}", failed.join(", "));
    Ok(())
}

/// A text of documents, and what it is.
struct Manifest {
    name: String,
    text: String,
}

/// What `troika plan --emit kubernetes` writes: for cards and for a processor, for few and for many.
fn emitted() -> anyhow::Result<Vec<Manifest>> {
    let catalogue = Catalogue::builtin();
    let today: Date = "2026-11-22".parse().map_err(|error| anyhow!("{error}"))?;
    let asked = [
        (500, "NVIDIA GeForce RTX 4090"),
        (3, "2 × NVIDIA GeForce RTX 3090"),
        (40, "AMD Radeon RX 7900 XTX"),
        (8, "Intel Arc B580"),
        (2, "Framework Desktop 128 GB, CPU"),
    ];
    let each = asked.map(|(users, on)| {
        let form = Form {
            model: Some("llama-3.1-8b".to_owned()),
            users: Some(users),
            ttft_s: Some(30.0),
            ..Form::default()
        };
        let workload = form.complete(catalogue.thresholds())?;
        let found = replicas(&Question::new(&workload, catalogue, today), Some(on))?;
        let lost = found.losers.first().map(|loser| loser.lost.reason.clone());
        let crew = found
            .crews
            .first()
            .with_context(|| format!("{on} serves nobody: {}", lost.unwrap_or_default()))?;
        Ok(Manifest {
            name: format!("emitted for {users} users on {on}"),
            text: emit(Target::Kubernetes, crew, &found),
        })
    });
    each.into_iter().collect()
}

/// The examples that stand in no kustomization.
fn examples(folder: &Path) -> anyhow::Result<Vec<Manifest>> {
    ["secret.example.yaml", "models-loader.example.yaml"]
        .map(|name| read(folder, name))
        .into_iter()
        .collect()
}

/// The base, file by file.
fn base(folder: &Path) -> anyhow::Result<Vec<Manifest>> {
    let kustomization = read(folder, "base/kustomization.yaml")?;
    let kustomization: Value = serde_saphyr::from_str(&kustomization.text)?;
    let files = kustomization["resources"].as_array();
    let files = files.context("the base has resources")?.iter();
    files
        .filter_map(Value::as_str)
        .map(|name| read(folder, &format!("base/{name}")))
        .collect()
}

fn read(folder: &Path, name: &str) -> anyhow::Result<Manifest> {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path);
    Ok(Manifest {
        name: name.to_owned(),
        text: text.with_context(|| format!("cannot read {}", path.display()))?,
    })
}

/// The example overlay, and the base with components, as `kubectl` makes them; `None` where there is no `kubectl`.
fn put_together(folder: &Path, dir: &Path) -> anyhow::Result<Option<Vec<Manifest>>> {
    let is_there = Command::new("kubectl")
        .args(["kustomize", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !is_there.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    // A kustomization refers to others by relative paths, within what it is copied together with.
    let copy = dir.join("kustomizations");
    let _ = std::fs::remove_dir_all(&copy);
    copy_folder(folder, &copy)?;
    let mut made = vec![kustomize(&copy.join("overlays/office"))?];
    for (index, components) in TOGETHER.iter().enumerate() {
        let overlay = copy.join(format!("overlays/check-{index}"));
        std::fs::create_dir_all(&overlay)?;
        let components = components
            .iter()
            .map(|name| format!("../../components/{name}"));
        let kustomization = serde_json::json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "troika",
            "resources": ["../../base"],
            "components": components.collect::<Vec<_>>(),
        });
        std::fs::write(
            overlay.join("kustomization.yaml"),
            kustomization.to_string(),
        )?;
        made.push(kustomize(&overlay)?);
    }
    Ok(Some(made))
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if entry.file_name() == "node_modules" => {}
            true => copy_folder(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

fn kustomize(overlay: &Path) -> anyhow::Result<Manifest> {
    let output = Command::new("kubectl")
        .arg("kustomize")
        .arg(overlay)
        .output()
        .context("kubectl does not start")?;
    let name = overlay.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        output.status.success(),
        "the overlay {name} is none: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Manifest {
        name: format!("overlay {name}"),
        text: String::from_utf8(output.stdout)?,
    })
}

/// Whether a document is of a kind of Kubernetes itself.
fn is_own(document: &Value) -> bool {
    let group = document["apiVersion"].as_str();
    group.is_some_and(|group| OWN_GROUPS.contains(&group))
}

/// The documents of all texts, by whose they are.
fn documents(all: &[Manifest], own: bool) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for manifest in all {
        let read: Vec<Value> = serde_saphyr::from_multiple(&manifest.text)
            .with_context(|| format!("{} is no YAML", manifest.name))?;
        found.extend(read.into_iter().filter(|document| is_own(document) == own));
    }
    Ok(found)
}

/// Holds Kubernetes' own kinds against its schemas, without a field that they do not know.
fn own_kinds(args: &Args, folder: &Path, dir: &Path, all: &[Manifest]) -> anyhow::Result<bool> {
    let packages = dir.join("python");
    if !packages.join("kubernetes_validate").is_dir() {
        if args.no_install {
            println!(
                "skipped: Kubernetes' own kinds, there are no schemas in {}",
                packages.display()
            );
            return Ok(true);
        }
        let mut pip = Command::new(&args.python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .arg("--requirement")
        .arg(folder.join("check/requirements.txt"))
        .arg("--target")
        .arg(&packages);
        if let Some(why) = fails(&mut pip) {
            println!("skipped: Kubernetes' own kinds, pip cannot install its schemas: {why}");
            return Ok(true);
        }
    }
    let own = documents(all, true)?;
    let files = dir.join("own");
    let _ = std::fs::remove_dir_all(&files);
    std::fs::create_dir_all(&files)?;
    let mut paths = Vec::new();
    for (index, document) in own.iter().enumerate() {
        let kind = document["kind"].as_str().unwrap_or("none");
        let path = files.join(format!("{index:03}-{kind}.yaml"));
        std::fs::write(&path, document.to_string())?;
        paths.push(path);
    }
    let mut is_good = true;
    for release in RELEASES {
        let output = Command::new(&args.python)
            .env("PYTHONPATH", &packages)
            .args(["-m", "kubernetes_validate", "--strict", "-k", release])
            .args(&paths)
            .output()
            .context("the schemas' program does not start")?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        // A kind without a schema is a warning to it, and would pass unseen.
        let wrong: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("INFO"))
            .collect();
        is_good &= output.status.success() && wrong.is_empty();
        println!(
            "{} documents against Kubernetes {release}: {} complaints",
            own.len(),
            wrong.len()
        );
        for line in wrong {
            println!("  {line}");
        }
    }
    Ok(is_good)
}

/// Holds all other kinds against their makers' schemas.
fn other_kinds(args: &Args, folder: &Path, dir: &Path, all: &[Manifest]) -> anyhow::Result<bool> {
    let check = dir.join("node");
    std::fs::create_dir_all(&check)?;
    for name in ["package.json", "package-lock.json", "kinds.mjs"] {
        std::fs::copy(folder.join("check").join(name), check.join(name))
            .with_context(|| format!("cannot copy {name}"))?;
    }
    if !check.join("node_modules/@kubernetes-models").is_dir() {
        if args.no_install {
            println!(
                "skipped: other kinds, there are no schemas in {}",
                check.display()
            );
            return Ok(true);
        }
        let mut npm = Command::new("npm");
        npm.current_dir(&check).args([
            "ci",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]);
        if let Some(why) = fails(&mut npm) {
            println!("skipped: other kinds, npm cannot install their schemas: {why}");
            return Ok(true);
        }
    }
    let others: Vec<Value> = documents(all, false)?;
    println!("{} documents of other kinds", others.len());
    let mut node = Command::new("node")
        .current_dir(&check)
        .arg("kinds.mjs")
        .stdin(Stdio::piped())
        .spawn()
        .context("node does not start")?;
    let stdin = node.stdin.take().context("stdin is piped")?;
    serde_json::to_writer(stdin, &others)?;
    Ok(node.wait()?.success())
}

/// Why a command fails, if it does.
fn fails(command: &mut Command) -> Option<String> {
    match command.stdout(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said.lines().last().unwrap_or("it does not say why");
            Some(last.to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_is_put_together_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/components");
        let mut there: Vec<_> = std::fs::read_dir(root)
            .expect("is a folder")
            .map(|entry| entry.expect("is an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        there.sort();
        let mut used: Vec<_> = TOGETHER.iter().copied().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(there, used);
    }

    #[test]
    fn the_release_is_the_one_whose_schemas_are_pinned() {
        let pins = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy/kubernetes/check/requirements.txt");
        let pins = std::fs::read_to_string(pins).expect("is there");
        assert!(pins.contains(&format!("kubernetes-validate=={}", RELEASES[1])));
    }

    #[test]
    fn what_is_emitted_has_its_documents() {
        for manifest in emitted().expect("is planned") {
            let own = documents(std::slice::from_ref(&manifest), true).expect("is YAML");
            let others = documents(std::slice::from_ref(&manifest), false).expect("is YAML");
            assert_eq!((own.len(), others.len()), (9, 0), "{}", manifest.name);
        }
    }
}
