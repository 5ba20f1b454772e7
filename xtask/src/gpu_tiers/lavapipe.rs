//! Mesa's lavapipe: the one that is installed, and a newer one in a folder of its own.
//!
//! The newer one wants a C library that an older Debian does not have. So it lies there with its own, and programs are
//! started by the loader of that: nothing is installed, and nobody has to be root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The archive's section that has it. Debian 13 by itself has one that is as good.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];
/// What is fetched, with all that it needs.
const PACKAGES: [&str; 3] = [
    "mesa-vulkan-drivers/trixie-backports",
    "libvulkan1",
    "spirv-tools",
];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The file by which the installed one is found, if there is one.
pub(super) fn installed() -> Option<PathBuf> {
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("lvp_icd") && name.ends_with(".json")
        })
}

/// One that lies in a folder.
pub(super) struct Lavapipe {
    root: PathBuf,
    /// The folder of its libraries.
    libraries: PathBuf,
    /// The program that starts programs.
    loader: PathBuf,
    /// What is run by it.
    runner: PathBuf,
}

impl Lavapipe {
    /// The one in this folder, if it is whole: what is written last is there.
    pub(super) fn in_folder(dir: &Path) -> Option<Self> {
        Self::at(dir).filter(|found| found.runner.is_file())
    }

    /// Where one would lie; `None` for a processor whose packages are laid out otherwise.
    fn at(dir: &Path) -> Option<Self> {
        let root = dir.join("root");
        let (triplet, loader) = match std::env::consts::ARCH {
            "x86_64" => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            _ => return None,
        };
        let libraries = root.join("usr/lib").join(triplet);
        Some(Self {
            loader: libraries.join(loader),
            runner: dir.join("run"),
            libraries,
            root,
        })
    }

    /// One of its programs, as a command line.
    pub(super) fn tool(&self, name: &str) -> Option<Vec<OsString>> {
        let program = self.root.join("usr/bin").join(name);
        program.is_file().then(|| {
            vec![
                self.loader.clone().into(),
                "--library-path".into(),
                self.libraries.clone().into(),
                program.into(),
            ]
        })
    }

    /// Makes cargo start test programs on it.
    pub(super) fn runs(&self, cargo: &mut Command) {
        let arch = std::env::consts::ARCH.to_uppercase();
        cargo.env(
            format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"),
            &self.runner,
        );
    }

    /// Writes the two files by which it is used: what the Vulkan loader reads, and what cargo runs.
    fn write(&self) -> anyhow::Result<()> {
        let driver = self.root.join("lavapipe.json");
        let library = self.libraries.join("libvulkan_lvp.so");
        let text = format!(
            "{{\"file_format_version\":\"1.0.1\",\"ICD\":{{\"api_version\":\"1.3.0\",\"library_path\":\"{}\"}}}}\n",
            library.display()
        );
        std::fs::write(&driver, text).context("cannot write the driver's description")?;
        let script = format!(
            "#!/bin/sh\nexport VK_DRIVER_FILES='{}'\nexec '{}' --library-path '{}' \"$@\"\n",
            driver.display(),
            self.loader.display(),
            self.libraries.display()
        );
        let unfinished = self.runner.with_extension("part");
        std::fs::write(&unfinished, script).context("cannot write the runner")?;
        make_executable(&unfinished)?;
        std::fs::rename(&unfinished, &self.runner).context("cannot write the runner")
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .context("cannot make the runner executable")
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> anyhow::Result<()> {
    anyhow::bail!("lavapipe's packages are Debian's")
}

/// Fetches the newer one from the archive that this machine uses already; the inner error is why it cannot be had here.
pub(super) fn fetch(dir: &Path) -> anyhow::Result<Result<Lavapipe, String>> {
    let archive = match archive() {
        Ok(archive) => archive,
        Err(why) => return Ok(Err(why)),
    };
    println!("  fetching {} into {}", PACKAGES.join(", "), dir.display());
    let apt = Apt::new(dir, &archive)?;
    if let Err(why) = apt.run(&["update"])? {
        return Ok(Err(format!("the archive is out of reach: {why}")));
    }
    let install = [
        "install",
        "--yes",
        "--download-only",
        "--no-install-recommends",
    ];
    if let Err(why) = apt.run(&[&install[..], &PACKAGES[..]].concat())? {
        return Ok(Err(format!("the archive does not have it: {why}")));
    }
    let root = dir.join("root");
    for entry in std::fs::read_dir(apt.0.join("cache/archives")).context("no packages came")? {
        let package = entry.context("no packages came")?.path();
        if package.extension().is_some_and(|name| name == "deb") {
            let status = Command::new("dpkg-deb")
                .arg("-x")
                .args([&package, &root])
                .status()
                .context("dpkg-deb does not start")?;
            ensure!(status.success(), "{} does not unpack", package.display());
        }
    }
    let Some(found) = Lavapipe::at(dir).filter(|found| found.loader.is_file()) else {
        return Ok(Err(format!("no packages for {}", std::env::consts::ARCH)));
    };
    found.write()?;
    std::fs::remove_dir_all(&apt.0).context("cannot clear away apt's files")?;
    Ok(Ok(found))
}

/// The address of the archive, or why there is none.
fn archive() -> Result<String, String> {
    if !Path::new(KEYS).is_file() {
        return Err(format!(
            "it comes from Debian's archive, whose keys ({KEYS}) are not on this machine"
        ));
    }
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .output()
        .map_err(|error| format!("it comes by apt-get, which does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find(|line| !line.contains("security"));
    found
        .map(str::to_owned)
        .ok_or_else(|| "apt-get knows no archive".to_owned())
}

/// `apt-get` with files of its own, which knows of nothing that is installed. Its folder goes when all is done.
struct Apt(PathBuf);

impl Apt {
    fn new(dir: &Path, archive: &str) -> anyhow::Result<Self> {
        let state = dir.join("apt");
        for folder in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(state.join(folder))
                .with_context(|| format!("cannot make {}", state.display()))?;
        }
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYS}] {archive} {suite} main\n"))
            .collect();
        for (name, text) in [("sources.list", sources.as_str()), ("status", "")] {
            std::fs::write(state.join(name), text).context("cannot write apt's files")?;
        }
        Ok(Self(state))
    }

    /// Runs it; the inner error is what it said last.
    fn run(&self, args: &[&str]) -> anyhow::Result<Result<(), String>> {
        let at = |name: &str| self.0.join(name).display().to_string();
        let options = [
            ("Dir::State", at("")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Parts", "/dev/null".to_owned()),
            // As root it would hand the fetching to a user who may not write here.
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Languages", "none".to_owned()),
        ];
        let output = Command::new("apt-get")
            .arg("--quiet")
            .args(options.map(|(name, value)| format!("-o{name}={value}")))
            .args(args)
            .output()
            .context("apt-get does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        Ok(match output.status.success() {
            true => Ok(()),
            false => Err(last.unwrap_or("it said nothing").to_owned()),
        })
    }
}
