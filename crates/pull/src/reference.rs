//! What a person writes to say which model: nothing of it becomes a path but through the library's names.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::Error;
use crate::error::shortened;

/// Where Ollama's registry keeps what has no owner's name.
const LIBRARY: &str = "library";

/// The host in names that are written in full.
const REGISTRY_HOST: &str = "registry.ollama.ai";

/// A part of a name has no more bytes.
const PART_BYTES_MAX: usize = 128;

/// Which model is to be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A file of a repository on Hugging Face's hub.
    Hub {
        /// Whose it is.
        owner: String,
        /// The repository.
        repo: String,
        /// A file's name or a quantization.
        want: Option<String>,
    },
    /// A file by its address.
    Url(Uri),
    /// A model of Ollama's registry.
    Registry {
        /// Whose it is; `library` for those of the registry itself.
        namespace: String,
        /// The model.
        name: String,
        /// Which of its forms.
        tag: String,
    },
}

impl Reference {
    /// The name that a client of Ollama's interface gives: `name`, `owner/name:tag`, `hf.co/owner/repo:Q4_K_M`.
    ///
    /// # Errors
    /// [`Error::BadReference`].
    pub fn of_ollama_name(name: &str) -> Result<Self, Error> {
        read_ollama_name(name).map_err(|why| bad(name, why))
    }

    /// Where it comes from, for people: `Hugging Face`, `Ollama`, a host.
    pub fn source(&self) -> String {
        match self {
            Self::Hub { .. } => "Hugging Face".to_owned(),
            Self::Registry { .. } => "Ollama".to_owned(),
            Self::Url(uri) => uri.host().unwrap_or_default().to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = match text.split_once(':') {
            Some(("hf", rest)) => read_hub(rest),
            Some(("ollama", rest)) => read_ollama_name(rest),
            Some(("https" | "http", _)) => read_url(text),
            _ if hub_name(text).is_some() => read_ollama_name(text),
            _ => Err("nothing says where it is".to_owned()),
        };
        read.map_err(|why| bad(text, why))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { owner, repo, want } => {
                write!(f, "hf:{owner}/{repo}")?;
                want.iter().try_for_each(|want| write!(f, ":{want}"))
            }
            Self::Url(uri) => uri.fmt(f),
            Self::Registry {
                namespace,
                name,
                tag,
            } => match &**namespace {
                LIBRARY => write!(f, "ollama:{name}:{tag}"),
                _ => write!(f, "ollama:{namespace}/{name}:{tag}"),
            },
        }
    }
}

fn bad(text: &str, why: String) -> Error {
    Error::BadReference {
        text: shortened(text),
        why,
    }
}

/// What stands after the hub's host, in a name that begins with it.
fn hub_name(name: &str) -> Option<&str> {
    let (host, rest) = name.split_once('/')?;
    matches!(host, "hf.co" | "huggingface.co").then_some(rest)
}

fn read_hub(rest: &str) -> Result<Reference, String> {
    let (path, want) = match rest.split_once(':') {
        Some((path, want)) => (path, Some(want)),
        None => (rest, None),
    };
    let Some((owner, repo)) = path.split_once('/') else {
        return Err("a repository is written as OWNER/REPO".to_owned());
    };
    check_part(owner)?;
    check_part(repo)?;
    if let Some(want) = want {
        want.split('/').try_for_each(check_segment)?;
    }
    Ok(Reference::Hub {
        owner: owner.to_owned(),
        repo: repo.to_owned(),
        want: want.map(str::to_owned),
    })
}

fn read_ollama_name(name: &str) -> Result<Reference, String> {
    if let Some(rest) = hub_name(name) {
        return read_hub(rest);
    }
    let (path, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let parts: Vec<_> = path.split('/').collect();
    let (namespace, name) = match *parts {
        [name] => (LIBRARY, name),
        [namespace, name] | [REGISTRY_HOST, namespace, name] => (namespace, name),
        [_, _, _] => return Err(format!("other hosts than {REGISTRY_HOST} are not asked")),
        _ => return Err("a name is written as NAME:TAG or OWNER/NAME:TAG".to_owned()),
    };
    [namespace, name, tag]
        .into_iter()
        .try_for_each(check_part)?;
    Ok(Reference::Registry {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        tag: tag.to_owned(),
    })
}

fn read_url(text: &str) -> Result<Reference, String> {
    let uri: Uri = text.parse().map_err(|_| "it is no address".to_owned())?;
    let Some(authority) = uri.authority() else {
        return Err("the address has no host".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("the address has a user or a password in it".to_owned());
    }
    uri.path().split('/').skip(1).try_for_each(check_segment)?;
    Ok(Reference::Url(uri))
}

/// A part of a name: letters, digits, `-`, `_`, `.`.
fn check_part(part: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() || part.len() > PART_BYTES_MAX || !part.chars().all(is_plain) {
        return Err(
            "its parts are of letters, digits, `-`, `_` and `.`, and none is empty or long"
                .to_owned(),
        );
    }
    check_segment(part)
}

/// A step of a path that leads down and nowhere else.
pub(crate) fn check_segment(segment: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_control() || matches!(c, '\\' | ':');
    let lower = segment.to_ascii_lowercase();
    let climbs = segment.starts_with("..") || lower.contains("%2e%2e") || lower.contains("%2f");
    match segment.is_empty() || segment == "." || climbs || segment.contains(is_odd) {
        true => Err(format!("{:?} could lead elsewhere", shortened(segment))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written() {
        for (text, want) in [
            ("hf:acme/tiny-GGUF", "hf:acme/tiny-GGUF"),
            ("hf:acme/tiny:Q4_K_M", "hf:acme/tiny:Q4_K_M"),
            ("hf:acme/tiny:sub/a.gguf", "hf:acme/tiny:sub/a.gguf"),
            ("hf.co/acme/tiny:Q8_0", "hf:acme/tiny:Q8_0"),
            ("huggingface.co/acme/tiny", "hf:acme/tiny"),
            ("ollama:tiny", "ollama:tiny:latest"),
            ("ollama:acme/tiny:1b", "ollama:acme/tiny:1b"),
            (
                "ollama:registry.ollama.ai/library/tiny:1b",
                "ollama:tiny:1b",
            ),
            (
                "https://example.com/a/b.gguf?download=true",
                "https://example.com/a/b.gguf?download=true",
            ),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), want);
        }
        let plain = Reference::of_ollama_name("tiny:1b").expect("is a name");
        assert_eq!(plain.to_string(), "ollama:tiny:1b");
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let long = format!("hf:a/{}", "x".repeat(200));
        for text in [
            "",
            "tiny",
            "hf:",
            "hf:tiny",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:a/b:../../etc/passwd",
            "hf:a/b:/etc/passwd",
            "hf:a/b:a\\b",
            "hf:a/b:a:b",
            "hf:a b/c",
            "hf:a/b?x",
            "hf:a/b#x",
            "ollama:",
            "ollama:..",
            "ollama:a/../b",
            "ollama:a/b/c",
            "ollama:evil.example.com/a/b",
            "ollama:a:b/c",
            "ollama:a:b:c",
            "https://",
            "https://user:hunter2@example.com/a.gguf",
            "https://example.com/../a.gguf",
            "https://example.com/%2e%2E/a.gguf",
            "https://example.com/a%2Fb.gguf",
            "file:///etc/passwd",
            "ftp://example.com/a.gguf",
            &long,
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.len() < 500, "{error}");
        }
    }
}
