//! Hugging Face's hub: what a repository has, and which of it is meant.

use http::Uri;
use serde::Deserialize;
use serde_json::Value;
use troika_library::Digest;

use crate::Error;
use crate::client::Client;
use crate::error::shortened;
use crate::found::{Choice, Found, quantization, stem};
use crate::reference::check_segment;
use crate::sites::host;

/// A repository with more files lists them in megabytes, and is no model.
const LIST_BYTES_MAX: usize = 8 << 20;

/// What is taken where nothing is said, the first that is there: small, and hardly worse than what is larger.
const USUAL: [&str; 8] = [
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16",
];

const CHOICES_SHOWN: usize = 12;

#[derive(Debug, Deserialize)]
struct Repository {
    /// The commit, by which files stay what they are while they are fetched.
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(rename = "cardData", default)]
    card: Value,
    #[serde(default)]
    tags: Vec<String>,
    /// `false`, or who decides.
    #[serde(default)]
    gated: Value,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// Finds the file of a repository that is meant.
///
/// # Errors
/// If there is no such repository or file, or several files could be meant.
pub(crate) async fn find(
    client: &Client,
    owner: &str,
    repo: &str,
    want: Option<&str>,
) -> Result<Found, Error> {
    let hub = &client.sites.hub;
    let list: Uri = parse(&format!(
        "{hub}/api/models/{owner}/{repo}/revision/main?blobs=true"
    ))?;
    let (text, given) = client
        .text(&list, "application/json", LIST_BYTES_MAX)
        .await?;
    given.refuse_web_page()?;
    let nonsense = |why: String| Error::Nonsense {
        host: host(&given.from),
        why,
    };
    let repository: Repository =
        serde_json::from_slice(&text).map_err(|error| nonsense(error.to_string()))?;
    if repository.sha.is_empty() || !repository.sha.bytes().all(|it| it.is_ascii_alphanumeric()) {
        return Err(nonsense("the repository has no commit".to_owned()));
    }
    let what = format!("{owner}/{repo}");
    let sibling = choose(&repository.siblings, &what, want)?;
    let file = &sibling.rfilename;
    let digest = sibling.digest().map_err(&nonsense)?;
    let mut notes = Vec::new();
    if repository.gated.as_str().is_some() && client.sites.token.is_none() {
        notes.push(
            "its owner asks who you are: accept the terms on the repository's page, and set HF_TOKEN"
                .to_owned(),
        );
    }
    Ok(Found {
        uri: parse(&format!(
            "{hub}/{what}/resolve/{}/{}",
            repository.sha,
            escaped(file)
        ))?,
        name: stem(file).to_owned(),
        bytes: sibling.bytes(),
        digest,
        licence: repository.licence(),
        choices: repository.siblings.iter().filter_map(choice).collect(),
        file: file.clone(),
        manifest: None,
        notes,
    })
}

impl Repository {
    /// The licence that the model's card names.
    fn licence(&self) -> Option<String> {
        let card = |key: &str| self.card.get(key)?.as_str().map(str::to_owned);
        let tag = || {
            let licence = |tag: &String| tag.strip_prefix("license:").map(str::to_owned);
            self.tags.iter().find_map(licence)
        };
        let named = card("license").or_else(tag);
        let licence = match named.as_deref() {
            // Which one is said beside it.
            Some("other") | None => card("license_name").or(named),
            _ => named,
        };
        licence.map(|it| shortened(&it))
    }
}

impl Sibling {
    fn bytes(&self) -> Option<u64> {
        let large = self.lfs.as_ref().and_then(|lfs| lfs.size);
        large.or(self.size)
    }

    fn digest(&self) -> Result<Option<Digest>, String> {
        let told = self.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref());
        let Some(told) = told else {
            return Ok(None);
        };
        let digest = format!("sha256:{}", told.to_ascii_lowercase()).parse();
        digest
            .map(Some)
            .map_err(|_| "the file's digest is none".to_owned())
    }

    fn is_model(&self) -> bool {
        let lower = self.rfilename.to_ascii_lowercase();
        let name = lower.rsplit('/').next().unwrap_or(&lower);
        // What sees pictures for a model is a file beside it.
        lower.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix")
    }

    /// Whether it is one of several files that are a model together: `x-00001-of-00003.gguf`.
    fn is_split(&self) -> bool {
        let Some((rest, count)) = stem(&self.rfilename).rsplit_once("-of-") else {
            return false;
        };
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|it| it.is_ascii_digit());
        let number = rest.rsplit('-').next().unwrap_or_default();
        digits(count) && digits(number) && count != "00001"
    }
}

fn choice(sibling: &Sibling) -> Option<Choice> {
    (sibling.is_model() && !sibling.is_split()).then(|| Choice {
        name: sibling.rfilename.clone(),
        bytes: sibling.bytes().unwrap_or(0),
        quantization: quantization(&sibling.rfilename),
    })
}

/// The file that is meant: by its name, by its quantization, or the usual one.
fn choose<'s>(
    siblings: &'s [Sibling],
    what: &str,
    want: Option<&str>,
) -> Result<&'s Sibling, Error> {
    let models: Vec<_> = siblings.iter().filter(|it| it.is_model()).collect();
    let fail = |why: String| Error::Choice {
        what: what.to_owned(),
        why,
    };
    if models.is_empty() {
        let why = "it has no GGUF file; look for a repository with `GGUF` in its name";
        return Err(fail(why.to_owned()));
    }
    let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let named = |want: &str, sibling: &&Sibling| {
        let name = &*sibling.rfilename;
        let base = name.rsplit('/').next().unwrap_or(name);
        is(name, want) || is(base, want) || is(stem(name), want)
    };
    let stored = |want: &str, sibling: &&Sibling| {
        quantization(&sibling.rfilename).is_some_and(|it| is(&it, want))
    };
    let all =
        |test: &dyn Fn(&&Sibling) -> bool| models.iter().copied().filter(test).collect::<Vec<_>>();
    let meant = match want {
        Some("latest") | None => {
            let usual = USUAL
                .iter()
                .map(|want| all(&|it| stored(want, it) && !it.is_split()));
            let first = usual.into_iter().find(|it| !it.is_empty());
            first.unwrap_or_else(|| models.clone())
        }
        Some(want) => match all(&|it| named(want, it)) {
            found if found.is_empty() => all(&|it| stored(want, it)),
            found => found,
        },
    };
    let list = || {
        let choices = models.iter().filter_map(|it| choice(it));
        let names: Vec<_> = choices
            .map(|it| it.quantization.unwrap_or(it.name))
            .collect();
        let more = names.len().saturating_sub(CHOICES_SHOWN);
        let shown: Vec<_> = names.into_iter().take(CHOICES_SHOWN).collect();
        let rest = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        shortened(&shown.join(", ")) + &rest
    };
    match *meant {
        [] => Err(fail(format!(
            "it has no file {:?}; it has {}",
            shortened(want.unwrap_or_default()),
            list()
        ))),
        _ if meant.iter().all(|it| it.is_split()) => Err(fail(format!(
            "{:?} is split into several files, which cannot be opened here; choose one that is whole: {}",
            shortened(&meant[0].rfilename),
            list()
        ))),
        [one] => named_well(one).map_err(fail),
        // The same form of weights in several ways, or none of the usual ones.
        _ => match *meant.iter().filter(|it| !it.is_split()).collect::<Vec<_>>() {
            [one] => named_well(one).map_err(fail),
            _ => Err(fail(format!("say which file: {}", list()))),
        },
    }
}

/// Refuses a file whose name could lead elsewhere.
fn named_well(sibling: &Sibling) -> Result<&Sibling, String> {
    sibling.rfilename.split('/').try_for_each(check_segment)?;
    Ok(sibling)
}

/// A path in an address: all but plain characters by their numbers.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn parse(address: &str) -> Result<Uri, Error> {
    address.parse().map_err(|_| Error::BadSetting {
        setting: "HF_ENDPOINT",
        why: format!("{:?} is no address", shortened(address)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn siblings(names: &[&str]) -> Vec<Sibling> {
        let sibling = |name: &&str| Sibling {
            rfilename: (*name).to_owned(),
            size: Some(7),
            lfs: None,
        };
        names.iter().map(sibling).collect()
    }

    fn chosen(names: &[&str], want: Option<&str>) -> Result<String, String> {
        let all = siblings(names);
        let chosen = choose(&all, "a/b", want).map(|it| it.rfilename.clone());
        chosen.map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_that_is_meant_is_chosen() {
        let names = [
            "README.md",
            "x-Q8_0.gguf",
            "x-Q4_K_M.gguf",
            "mmproj-x-f16.gguf",
            "sub/x-BF16-00001-of-00002.gguf",
            "sub/x-BF16-00002-of-00002.gguf",
        ];
        for (want, file) in [
            (None, "x-Q4_K_M.gguf"),
            (Some("latest"), "x-Q4_K_M.gguf"),
            (Some("q8_0"), "x-Q8_0.gguf"),
            (Some("x-Q8_0.gguf"), "x-Q8_0.gguf"),
            (Some("X-q8_0"), "x-Q8_0.gguf"),
        ] {
            assert_eq!(chosen(&names, want).as_deref(), Ok(file), "{want:?}");
        }
        for (want, why) in [
            (Some("Q2_K"), "it has Q8_0, Q4_K_M"),
            (Some("BF16"), "split into several files"),
            (Some("README.md"), "no file"),
        ] {
            let error = chosen(&names, want).expect_err("is none");
            assert!(error.contains(why), "{error}");
        }
        let only = chosen(&["odd.gguf"], None);
        assert_eq!(only.as_deref(), Ok("odd.gguf"));
        let error = chosen(&["a.gguf", "b.gguf"], None).expect_err("which?");
        assert!(error.contains("a.gguf, b.gguf"), "{error}");
        assert!(chosen(&["a.bin"], None).is_err());
        assert!(chosen(&["../../a-Q4_0.gguf"], None).is_err());
        assert!(chosen(&["x/..\\a-Q4_0.gguf"], None).is_err());
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped("a b/c#d?é.gguf"), "a%20b/c%23d%3F%C3%A9.gguf");
    }
}
