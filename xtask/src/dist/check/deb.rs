//! The Debian package: its files, its scripts, the unit, and a life from installing to purging.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{can, passed};
use crate::dist::{fresh, output};

/// Files that have to be in it, with their modes.
const FILES: [(&str, u32); 10] = [
    ("usr/bin/troika", 0o755),
    ("usr/lib/systemd/system/troika.service", 0o644),
    ("usr/lib/sysusers.d/troika.conf", 0o644),
    ("usr/share/doc/troika/copyright", 0o644),
    ("usr/share/man/man1/troika.1.gz", 0o644),
    ("usr/share/man/man1/troika-serve.1.gz", 0o644),
    ("usr/share/man/man1/troika-doctor.1.gz", 0o644),
    ("usr/share/bash-completion/completions/troika", 0o644),
    ("usr/share/zsh/vendor-completions/_troika", 0o644),
    ("usr/share/fish/vendor_completions.d/troika.fish", 0o644),
];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Ten times what systemd makes of the unit's exposure, at most: 1.6 when this was written.
const EXPOSURE_MAX: u32 = 25;

pub(super) fn check(package: &Path, work: &Path, version: &str) -> anyhow::Result<()> {
    if !can("the package", Command::new("dpkg-deb").arg("--version")) {
        return Ok(());
    }
    fresh(work)?;
    let [tree, control] = ["tree", "control"].map(|name| work.join(name));
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))?;
    output(
        Command::new("dpkg-deb")
            .arg("-e")
            .arg(package)
            .arg(&control),
    )?;
    files(&tree)?;
    for script in SCRIPTS {
        output(Command::new("sh").arg("-n").arg(control.join(script)))?;
    }
    let told = output(Command::new(tree.join("usr/bin/troika")).arg("--version"))?;
    ensure!(
        told == version,
        "the package's program is {told}, not {version}"
    );
    passed("the package has its files, and its program runs");
    unit(&tree)?;
    life(package, work)
}

fn files(tree: &Path) -> anyhow::Result<()> {
    for (file, mode) in FILES {
        let about =
            fs::metadata(tree.join(file)).with_context(|| format!("the package lacks {file}"))?;
        let have = about.permissions().mode() & 0o7777;
        ensure!(
            have == mode,
            "{file} has the mode {have:o} in the package, not {mode:o}"
        );
    }
    Ok(())
}

/// The unit as systemd reads it, and how exposed it finds it.
fn unit(tree: &Path) -> anyhow::Result<()> {
    if !can("the unit", Command::new("systemd-analyze").arg("--version")) {
        return Ok(());
    }
    let unit = tree.join("usr/lib/systemd/system/troika.service");
    // It would not find the program where the unit says: what it is to find is that nothing else is wrong.
    let text = fs::read_to_string(&unit).context("the unit cannot be read")?;
    let text = text.replace(
        "/usr/bin/troika",
        &tree.join("usr/bin/troika").display().to_string(),
    );
    let tried = tree.join("troika.service");
    fs::write(&tried, text).context("the unit cannot be written")?;
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&tried)
        .output()
        .context("systemd-analyze does not start")?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    ensure!(
        verified.status.success() && !said.contains("troika.service:"),
        "systemd has something to say about the unit: {said}"
    );
    passed("systemd finds no fault with the unit");
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={EXPOSURE_MAX}"))
        .arg(&tried);
    let told = output(&mut security)?;
    passed(
        told.lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches(['→', ' ']),
    );
    Ok(())
}

/// Installs, removes and purges it in an empty root, as nobody in particular.
fn life(package: &Path, work: &Path) -> anyhow::Result<()> {
    let root = work.join("root");
    let mut alone = Command::new("unshare");
    if !can(
        "installing the package",
        alone.args(["--map-root-user", "dpkg", "--version"]),
    ) {
        return Ok(());
    }
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
        fs::create_dir_all(root.join(directory)).context("a root cannot be made")?;
    }
    fs::write(root.join("var/lib/dpkg/status"), "").context("a root cannot be made")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")
        .context("a root cannot be made")?;
    fs::write(root.join("etc/group"), "root:x:0:\n").context("a root cannot be made")?;
    let home = root.join("var/lib/troika");
    let [keys, model] = ["keys.toml", "models/some.gguf"].map(|name| home.join(name));
    let live = || -> anyhow::Result<()> {
        dpkg(&root, &[], &["--install", &package.display().to_string()])?;
        fs::create_dir_all(home.join("models")).context("the home cannot be used")?;
        fs::write(&keys, "")
            .and_then(|()| fs::write(&model, ""))
            .context("the home cannot be used")
    };

    live()?;
    let users = fs::read_to_string(root.join("etc/passwd")).context("there are no users")?;
    ensure!(users.contains("\ntroika:"), "no user was made: {users}");
    let mode = fs::metadata(&home)
        .context("no home was made")?
        .permissions()
        .mode();
    ensure!(mode & 0o077 == 0, "others can look into the home: {mode:o}");
    dpkg(&root, &[], &["--remove", "troika"])?;
    ensure!(
        !root.join("usr/bin/troika").exists(),
        "`remove` leaves the program"
    );
    ensure!(keys.exists() && model.exists(), "`remove` takes state away");
    dpkg(&root, &[], &["--purge", "troika"])?;
    ensure!(!keys.exists(), "`purge` leaves keys");
    ensure!(model.exists(), "`purge` takes models away unasked");

    live()?;
    dpkg(
        &root,
        &[("TROIKA_PURGE_MODELS", "1")],
        &["--purge", "troika"],
    )?;
    ensure!(!home.exists(), "`purge` leaves models that were to go");
    live()?;
    fs::write(home.join("purge-models"), "").context("the home cannot be used")?;
    dpkg(&root, &[], &["--purge", "troika"])?;
    ensure!(!home.exists(), "`purge` leaves models that were to go");
    passed("the package is installed, removed and purged, and models go only when they are to");
    Ok(())
}

/// Runs dpkg over another root, where the scripts run outside of it and are told so.
fn dpkg(root: &Path, env: &[(&str, &str)], args: &[&str]) -> anyhow::Result<()> {
    let mut dpkg = Command::new("unshare");
    dpkg.args([
        "--map-root-user",
        "dpkg",
        "--force-script-chrootless",
        "--force-depends",
    ])
    .args(["--force-not-root", "--log=/dev/null"])
    .arg(format!("--root={}", root.display()))
    .args(args)
    .envs(env.iter().copied());
    output(&mut dpkg).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the script that runs after the package's files have gone, over another root; returns what is left in the home.
    fn purged(verb: &str, flag: Option<&str>, models: bool) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("var/lib/troika");
        fs::create_dir_all(home.join("models")).unwrap();
        fs::create_dir_all(home.join("cache/kv")).unwrap();
        let files = ["keys.toml", ".hidden"].into_iter().chain(flag);
        for file in files.chain(models.then_some("models/some.gguf")) {
            fs::write(home.join(file), "").unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/debian/postrm");
        let mut sh = Command::new("sh");
        sh.arg(script).arg(verb).env("DPKG_ROOT", root.path());
        output(sh.env_remove("TROIKA_PURGE_MODELS")).unwrap();
        let left = fs::read_dir(&home).into_iter().flatten().flatten();
        let mut left: Vec<_> = left
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        left.sort();
        left
    }

    #[test]
    fn only_purging_takes_state_and_only_a_flag_takes_models() {
        let all = [".hidden", "cache", "keys.toml", "models"];
        for verb in ["remove", "upgrade", "failed-upgrade", "abort-install"] {
            assert_eq!(purged(verb, None, true), all, "{verb}");
        }
        assert_eq!(purged("purge", None, true), ["models"]);
        assert!(purged("purge", None, false).is_empty());
        assert!(purged("purge", Some("purge-models"), true).is_empty());
    }
}
