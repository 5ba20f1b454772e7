//! Where facts are read from: this system's `/`, or a recording of another's.
//!
//! A recording is a text of files: lines `== PATH` begin a file and its contents follow, `== PATH -> TARGET` is a symbolic
//! link, `== PATH !` is a file that may not be read; lines `# …` before the first say what was recorded, and the two
//! characters `\0` are the byte zero. Whatever is wrong with a file, too large, endless, a loop of links, makes it absent
//! and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::str::FromStr;

/// No file that matters here is larger.
const BYTES_MAX: usize = 1 << 20;
/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 1 << 14;
/// Links that are followed on a way; Linux allows as many.
const LINKS_MAX: usize = 40;

/// The root of a tree of files.
#[derive(Clone, Debug)]
pub struct Root(Tree);

#[derive(Clone, Debug)]
enum Tree {
    Real,
    Recorded(BTreeMap<String, Entry>),
}

#[derive(Clone, Debug)]
enum Entry {
    File(String),
    Link(String),
    Denied,
}

/// Why a file could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    /// It is not there, or is no file.
    Missing,
    /// We may not.
    Denied,
}

/// What may be done with a device's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Read and write.
    Granted,
    /// Too little.
    Denied,
    /// There is no such node.
    Missing,
    /// A recording without nodes does not tell.
    Unknown,
}

impl Root {
    /// This system.
    pub fn real() -> Self {
        Self(Tree::Real)
    }

    /// A recording; see the head of this file for its form. What is no entry is passed over.
    pub fn recorded(text: &str) -> Self {
        let mut entries = BTreeMap::new();
        let mut open: Option<(String, String)> = None;
        for line in text.split_inclusive('\n') {
            let Some(head) = line.strip_prefix("== ") else {
                if let Some((_, contents)) = &mut open {
                    contents.push_str(&line.replace("\\0", "\0"));
                }
                continue;
            };
            if let Some((path, contents)) = open.take() {
                entries.insert(path, Entry::File(contents));
            }
            let head = head.trim_end_matches(['\n', '\r']);
            if let Some((path, target)) = head.split_once(" -> ") {
                entries.insert(normal(path), Entry::Link(target.trim().to_owned()));
            } else if let Some(path) = head.strip_suffix(" !") {
                entries.insert(normal(path), Entry::Denied);
            } else {
                open = Some((normal(head), String::new()));
            }
        }
        if let Some((path, contents)) = open {
            entries.insert(path, Entry::File(contents));
        }
        Self(Tree::Recorded(entries))
    }

    /// Whether this is the system that we run on.
    pub fn is_real(&self) -> bool {
        matches!(self.0, Tree::Real)
    }

    /// The bytes of a file, as many as matter.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>, Absent> {
        match &self.0 {
            Tree::Real => read(path),
            Tree::Recorded(entries) => {
                let path = resolve(entries, path).ok_or(Absent::Missing)?;
                match entries.get(&path) {
                    Some(Entry::File(text)) => Ok(head(text).as_bytes().to_vec()),
                    Some(Entry::Denied) => Err(Absent::Denied),
                    Some(Entry::Link(_)) | None => Err(Absent::Missing),
                }
            }
        }
    }

    /// A file's text; what is no UTF-8 in it is replaced.
    pub(crate) fn text(&self, path: &str) -> Result<String, Absent> {
        let bytes = self.bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first line of a file without the space around it, if there is anything in it.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path).ok()?;
        let line = text.lines().next()?;
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// The number that a file holds.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// The number that a file holds in base 16, with or without `0x`.
    pub(crate) fn hex(&self, path: &str) -> Option<u32> {
        let line = self.line(path)?;
        u32::from_str_radix(line.trim_start_matches("0x"), 16).ok()
    }

    /// The names in a directory, those that end in numbers in the order of these.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = match &self.0 {
            Tree::Real => {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                names.take(ENTRIES_MAX).collect()
            }
            Tree::Recorded(entries) => {
                let directory = resolve(entries, path).map(|path| format!("{path}/"));
                let below = directory.iter().flat_map(|directory| {
                    let from = entries.range(directory.clone()..);
                    from.map_while(|(path, _)| path.strip_prefix(&**directory))
                });
                let mut names: Vec<String> = below
                    .filter_map(|rest| rest.split('/').next())
                    .map(str::to_owned)
                    .collect();
                names.dedup();
                names.truncate(ENTRIES_MAX);
                names
            }
        };
        names.sort_by(|a, b| numbered(a).cmp(&numbered(b)));
        names.dedup();
        names
    }

    /// The last name on the way that a link points to: `amdgpu` for `driver -> ../../bus/pci/drivers/amdgpu`.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = match &self.0 {
            Tree::Real => fs::read_link(path).ok()?.to_str()?.to_owned(),
            Tree::Recorded(entries) => {
                let (directory, name) = normal_parts(path)?;
                match entries.get(&format!("{}/{name}", resolve(entries, &directory)?))? {
                    Entry::Link(target) => target.clone(),
                    Entry::File(_) | Entry::Denied => return None,
                }
            }
        };
        let name = target.trim_end_matches('/').rsplit('/').next()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The path without links, of something that is there.
    pub(crate) fn canonical(&self, path: &str) -> Option<String> {
        match &self.0 {
            Tree::Real => Some(fs::canonicalize(path).ok()?.to_str()?.to_owned()),
            Tree::Recorded(entries) => {
                let path = resolve(entries, path)?;
                is_there(entries, &path).then_some(path)
            }
        }
    }

    /// Whether there is a file or directory.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.canonical(path).is_some()
    }

    /// Whether a device's node can be opened for reading and writing, found out without opening it.
    pub(crate) fn access(&self, node: &str) -> Access {
        match &self.0 {
            Tree::Real => access(node),
            Tree::Recorded(entries) => {
                let path = resolve(entries, node);
                match path.and_then(|path| entries.get(&path)) {
                    Some(Entry::File(_)) => Access::Granted,
                    Some(Entry::Denied) => Access::Denied,
                    _ if is_there(entries, "/dev") => Access::Missing,
                    _ => Access::Unknown,
                }
            }
        }
    }

    /// Whether a file can be read, found out without reading it.
    pub(crate) fn is_readable(&self, path: &str) -> bool {
        match &self.0 {
            // Opening a file of the kernel's asks nothing of the hardware; reading may.
            Tree::Real => File::open(path).is_ok(),
            Tree::Recorded(_) => self.bytes(path).is_ok(),
        }
    }
}

/// Reads a file of the system.
fn read(path: &str) -> Result<Vec<u8>, Absent> {
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => Absent::Denied,
        _ => Absent::Missing,
    };
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path).map_err(why)?.is_file() {
        return Err(Absent::Missing);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(why)?;
    file.take(BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(why)?;
    Ok(bytes)
}

#[cfg(unix)]
fn access(node: &str) -> Access {
    use rustix::fs::Access as Mode;
    match rustix::fs::access(node, Mode::READ_OK | Mode::WRITE_OK) {
        Ok(()) => Access::Granted,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Access::Missing,
        Err(_) => Access::Denied,
    }
}

#[cfg(not(unix))]
fn access(_node: &str) -> Access {
    Access::Unknown
}

/// As much of a text as is read.
fn head(text: &str) -> &str {
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A path with one slash before each name and none at the end.
fn normal(path: &str) -> String {
    names(path).fold(String::new(), |path, name| format!("{path}/{name}"))
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != ".")
}

/// A path's directory and last name.
fn normal_parts(path: &str) -> Option<(String, String)> {
    let path = normal(path);
    let (directory, name) = path.rsplit_once('/')?;
    Some((directory.to_owned(), name.to_owned()))
}

/// Follows links; `None` where they lead nowhere or in a circle.
fn resolve(entries: &BTreeMap<String, Entry>, path: &str) -> Option<String> {
    let mut todo: Vec<String> = names(path).map(str::to_owned).collect();
    todo.reverse();
    let mut at = String::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            at.truncate(at.rfind('/').unwrap_or(0));
            continue;
        }
        let next = format!("{at}/{name}");
        let Some(Entry::Link(target)) = entries.get(&next) else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        if target.starts_with('/') {
            at.clear();
        }
        let mut more: Vec<String> = names(target).map(str::to_owned).collect();
        more.reverse();
        todo.extend(more);
    }
    Some(at)
}

fn is_there(entries: &BTreeMap<String, Entry>, path: &str) -> bool {
    let below = format!("{path}/");
    entries.contains_key(path)
        || entries
            .range(below.clone()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(&below))
}

/// A name as what stands before the number at its end, and this number: `cpu10` comes after `cpu9`.
fn numbered(name: &str) -> (&str, u64, &str) {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (text, digits) = name.split_at(name.len() - digits);
    (text, digits.parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
# A machine that does not exist
== /sys/class/drm/card0 -> ../../devices/pci/card0
== /sys/devices/pci/card0/device/vendor
0x10de
== sys/devices/pci/card0/device/driver -> ../../../../bus/drivers/nvidia
== /sys/a -> b
== /sys/b -> a
== /sys/up -> ../../../../sys
== /cpu/cpu10/x
== /cpu/cpu9/x
== /secret !
== /empty
== /two
first
second
== /zero
a\\0b\\0";

    #[test]
    fn recordings_are_read_through_links() {
        let root = Root::recorded(TREE);
        assert_eq!(root.hex("/sys/class/drm/card0/device/vendor"), Some(0x10de));
        assert_eq!(
            root.hex("/sys/up/class/drm/card0/device/vendor"),
            Some(0x10de)
        );
        assert_eq!(
            root.link_name("/sys/class/drm/card0/device/driver")
                .as_deref(),
            Some("nvidia")
        );
        assert_eq!(
            root.canonical("/sys/class/drm/card0").as_deref(),
            Some("/sys/devices/pci/card0")
        );
        assert_eq!(root.list("/cpu"), ["cpu9", "cpu10"]);
        assert_eq!(
            root.list("/sys/class/drm/card0/device"),
            ["driver", "vendor"]
        );
        assert_eq!(root.line("/two").as_deref(), Some("first"));
        assert_eq!(root.text("/two").as_deref(), Ok("first\nsecond\n"));
        assert_eq!(root.text("/zero").as_deref(), Ok("a\0b\0"));
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let root = Root::recorded(TREE);
        assert_eq!(root.text("/sys/a/b/c"), Err(Absent::Missing));
        assert_eq!(root.text("/sys/devices"), Err(Absent::Missing));
        assert_eq!(root.text("/secret"), Err(Absent::Denied));
        assert_eq!(root.line("/empty"), None);
        assert_eq!(root.list("/nothing"), Vec::<String>::new());
        assert!(!root.exists("/sys/a"));
        assert!(!root.is_readable("/secret"));
        assert_eq!(root.number::<u32>("/two"), None);
    }

    #[test]
    fn files_are_read_no_further_than_matters() {
        let text = format!("== /big\n{}", "ä".repeat(BYTES_MAX));
        assert!(Root::recorded(&text).bytes("/big").expect("is there").len() <= BYTES_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_is_read() {
        let root = Root::real();
        assert!(
            root.text("/proc/cpuinfo")
                .is_ok_and(|text| !text.is_empty())
        );
        assert!(root.list("/proc").contains(&"self".to_owned()));
        assert_eq!(root.text("/proc"), Err(Absent::Missing));
        assert_eq!(root.access("/dev/null"), Access::Granted);
        assert_eq!(root.access("/dev/no-such-node"), Access::Missing);
    }
}
