//! Where libraries may be: a person's own folders, Troika's, the system's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a system names libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// `libx.so`, `libx.so.2641`, `libx.so.1.31.1`
    Linux,
    /// `libx.dylib`, `libx.2641.dylib`
    MacOs,
    /// `x.dll`
    Windows,
}

impl Platform {
    /// That of this program.
    pub fn here() -> Self {
        match std::env::consts::OS {
            "windows" => Self::Windows,
            "macos" => Self::MacOs,
            _ => Self::Linux,
        }
    }

    /// The version in a file's name, if the file is the library `stem`: empty where the name has none.
    pub(super) fn version_in(self, file: &str, stem: &str) -> Option<String> {
        let (prefix, ending) = match self {
            Self::Linux => ("lib", ".so"),
            Self::MacOs => ("lib", ".dylib"),
            Self::Windows => ("", ".dll"),
        };
        let rest = file.strip_prefix(prefix)?.strip_prefix(stem)?;
        let version = match self {
            Self::Linux => rest.strip_prefix(ending)?,
            Self::MacOs | Self::Windows => rest.strip_suffix(ending)?,
        };
        match version.strip_prefix('.') {
            None => version.is_empty().then(String::new),
            Some(version) => {
                let numbers = version.split('.');
                let is_version = numbers
                    .clone()
                    .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
                is_version.then(|| version.to_owned())
            }
        }
    }
}

/// What decides where libraries are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Variables whose name begins with `TROIKA_`, those of them that are not empty.
    pub variables: BTreeMap<String, PathBuf>,
    /// Troika's own folder of libraries: `npu` in `TROIKA_HOME`.
    pub own: Option<PathBuf>,
    /// Where the system's loader looks.
    pub system: Vec<PathBuf>,
    /// How libraries are named.
    pub platform: Platform,
}

impl Environment {
    /// That of this process, with Troika's home in some directory.
    pub fn here(home: Option<&Path>) -> Self {
        let platform = Platform::here();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            (name.starts_with("TROIKA_") && !value.is_empty()).then(|| (name, value.into()))
        });
        Self {
            variables: variables.collect(),
            own: home.map(|home| home.join("npu")),
            system: system(platform),
            platform,
        }
    }

    /// One in which nothing is to be found.
    pub fn empty(platform: Platform) -> Self {
        Self {
            variables: BTreeMap::new(),
            own: None,
            system: Vec::new(),
            platform,
        }
    }
}

/// The folders of the system's loader, those that a variable names first.
fn system(platform: Platform) -> Vec<PathBuf> {
    let (variable, fixed): (_, &[&str]) = match platform {
        Platform::Linux => (
            "LD_LIBRARY_PATH",
            &[
                "/usr/local/lib",
                "/usr/lib",
                "/usr/lib64",
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
            ],
        ),
        Platform::MacOs => (
            "DYLD_LIBRARY_PATH",
            &["/usr/local/lib", "/opt/homebrew/lib"],
        ),
        Platform::Windows => ("PATH", &["C:\\Windows\\System32"]),
    };
    let named = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&named)
        .filter(|path| path.is_absolute())
        .chain(fixed.iter().map(PathBuf::from))
        .collect()
}
