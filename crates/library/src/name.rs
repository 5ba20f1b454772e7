//! The name of a model that is created: the only way from a client's string to a path, but for a digest.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::Error;
use crate::error::shortened;

/// The ending of model files.
const EXTENSION: &str = "gguf";

/// The ending of manifests.
const MANIFEST_ENDING: &str = ".json";

/// The tag that need not be written.
const DEFAULT_TAG: &str = ":latest";

const BYTES_MAX: usize = 200;

/// `registry/namespace/name` at most.
const PARTS_MAX: usize = 3;

/// Names that mean a device on Windows, whatever ending follows them.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// A name that a model can be given: `name`, `name:tag`, `namespace/name:tag`.
///
/// Parts are of ASCII letters, digits, `-`, `_` and `.`, and begin with a letter, a digit or `_`. The tag `latest` is
/// dropped. Case is kept, and makes no difference between names: neither does it to clients of this interface, nor on
/// all file systems.
#[derive(Clone, Debug)]
pub struct ModelName(String);

impl ModelName {
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(name: &str) -> Result<Self, Error> {
        let canonical = without_default_tag(name);
        match fault(name).or_else(|| fault(canonical)) {
            None => Ok(Self(canonical.to_owned())),
            Some(reason) => Err(Error::BadName {
                name: shortened(name),
                reason,
            }),
        }
    }

    /// The name in its canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the manifest's file. `+` and `=` are in no name, so it says which name it was.
    pub(crate) fn manifest_file(&self) -> String {
        self.0.replace('/', "+").replace(':', "=") + MANIFEST_ENDING
    }

    /// The name that a manifest's file stands for, if it is one.
    pub(crate) fn from_manifest_file(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(MANIFEST_ENDING)?;
        let name = Self::new(&stem.replace('+', "/").replace('=', ":")).ok()?;
        (name.manifest_file() == file).then_some(name)
    }
}

impl PartialEq for ModelName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ModelName {}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

/// A name less its tag, if that is `latest`.
pub(crate) fn without_default_tag(name: &str) -> &str {
    let start = name.len().saturating_sub(DEFAULT_TAG.len());
    match name.split_at_checked(start) {
        Some((name, tag)) if tag.eq_ignore_ascii_case(DEFAULT_TAG) => name,
        _ => name,
    }
}

/// Whether the path ends in `.gguf`, in upper or lower case.
pub fn is_model_path(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// What is wrong with a name, if anything is.
fn fault(name: &str) -> Option<&'static str> {
    if name.len() > BYTES_MAX {
        return Some("it is longer than 200 bytes");
    }
    let (path, tag) = match name.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (name, None),
    };
    if path.split('/').count() > PARTS_MAX {
        return Some("it has more than two slashes");
    }
    if is_model_path(Path::new(name)) {
        return Some("it ends like a file");
    }
    path.split('/').chain(tag).find_map(part_fault)
}

fn part_fault(part: &str) -> Option<&'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() {
        return Some("it, or a part of it, is empty");
    }
    if !part.chars().all(is_plain) {
        return Some(
            "it has other characters than letters, digits, `-`, `_`, `.`, and `/` and `:` between its parts",
        );
    }
    if part.starts_with(['-', '.']) {
        return Some("a part begins with `-` or `.`");
    }
    if part.ends_with('.') || part.contains("..") {
        return Some("a part ends with `.` or has two of them in a row");
    }
    is_device(part).then_some("a part is the name of a device")
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let is_numbered = |device: &str| {
        stem.strip_prefix(device)
            .is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    DEVICES.contains(&&*stem) || NUMBERED_DEVICES.iter().any(|device| is_numbered(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (written, want) in [
            ("tiny", "tiny"),
            ("tiny:latest", "tiny"),
            ("Tiny:LATEST", "Tiny"),
            ("tiny:7b-q4_K_M", "tiny:7b-q4_K_M"),
            ("acme/tiny.v1:2", "acme/tiny.v1:2"),
            ("hf.co/acme/tiny", "hf.co/acme/tiny"),
            ("_x", "_x"),
        ] {
            let name = ModelName::new(written).expect(written);
            assert_eq!(name.as_str(), want);
            let back = ModelName::from_manifest_file(&name.manifest_file());
            assert_eq!(back.expect("is a name").as_str(), want);
        }
        assert_eq!(
            ModelName::new("A/b").expect("ok"),
            ModelName::new("a/B").expect("ok")
        );
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let long = "x".repeat(201);
        for name in [
            "",
            ":",
            "a:",
            ":b",
            "a:b:c",
            "/",
            "/a",
            "a/",
            "a//b",
            "a/b/c/d",
            "..",
            ".",
            "../a",
            "a/..",
            "a/../b",
            "a..b",
            "a.",
            ".a",
            "-a",
            "a\\b",
            "C:\\a",
            "a\0",
            "a b",
            "a\n",
            "ä",
            "nul",
            "NUL.txt",
            "a/con",
            "com1",
            "lpt9.x",
            "a+b",
            "a=b",
            "a%2e",
            "tiny.gguf",
            "tiny.gguf:latest",
            "latest:latest:latest",
            &long,
        ] {
            let error = ModelName::new(name).expect_err(name).to_string();
            assert!(error.len() < 500, "{error}");
        }
        // Devices are told by the whole of a name.
        for name in ["console", "com10", "nullable", "comx"] {
            ModelName::new(name).expect(name);
        }
    }

    #[test]
    fn other_files_are_no_manifests() {
        for file in [
            "tiny",
            ".json",
            "a+.json",
            "a b.json",
            "..+x.json",
            "tiny=latest.json",
            ".tmpAb1.json",
        ] {
            assert!(ModelName::from_manifest_file(file).is_none(), "{file}");
        }
    }
}
