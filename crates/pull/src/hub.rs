//! Hugging Face's hub: what a repository has, and which of it is meant.

use http::Uri;
use serde::Deserialize;
use serde_json::Value;
use troika_gguf::PartName;
use troika_library::Digest;

use crate::Error;
use crate::client::Client;
use crate::error::shortened;
use crate::found::{Choice, Found, FoundFile, model_name, quantization, stem};
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
    let chosen = choose(&repository.siblings, &what, want)?;
    let file = |sibling: &Sibling| -> Result<FoundFile, Error> {
        let name = &sibling.rfilename;
        Ok(FoundFile {
            uri: parse(&format!(
                "{hub}/{what}/resolve/{}/{}",
                repository.sha,
                escaped(name)
            ))?,
            name: name.clone(),
            bytes: sibling.bytes(),
            digest: sibling.digest().map_err(&nonsense)?,
        })
    };
    let mut files = chosen.iter().map(|it| file(it));
    let first = files.next().expect("something was chosen")?;
    let mut notes = Vec::new();
    if repository.gated.as_str().is_some() && client.sites.token.is_none() {
        notes.push(
            "its owner asks who you are: accept the terms on the repository's page, and set HF_TOKEN"
                .to_owned(),
        );
    }
    Ok(Found {
        name: model_name(&first.name).to_owned(),
        later: files.collect::<Result<_, _>>()?,
        file: first,
        licence: repository.licence(),
        choices: choices(&repository.siblings),
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

    /// Whether it is a model, or the first file of one.
    fn is_model(&self) -> bool {
        let lower = self.rfilename.to_ascii_lowercase();
        let name = lower.rsplit('/').next().unwrap_or(&lower);
        // What sees pictures for a model is a file beside it.
        lower.ends_with(".gguf")
            && !name.contains("mmproj")
            && !name.contains("imatrix")
            && self.part().is_none_or(|part| part.number == 1)
    }

    fn part(&self) -> Option<PartName<'_>> {
        PartName::of(stem(&self.rfilename))
    }

    /// This file, and those that follow where it is the first of several.
    fn with_later<'s>(&'s self, siblings: &'s [Self]) -> Result<Vec<&'s Self>, String> {
        let mut files = vec![self];
        let Some(part) = self.part() else {
            return Ok(files);
        };
        let folder = self.rfilename.rfind('/').map_or(0, |at| at + 1);
        for number in 2..=part.count {
            let name = PartName::write(part.base, number, part.count);
            let name = format!("{}{name}.gguf", &self.rfilename[..folder]);
            let found = siblings.iter().find(|it| it.rfilename == name);
            files.push(found.ok_or_else(|| format!("its file {name:?} is not there"))?);
        }
        Ok(files)
    }
}

/// Every model that could be had.
fn choices(siblings: &[Sibling]) -> Vec<Choice> {
    let choice = |sibling: &Sibling| {
        // One whose files are not all there cannot be had.
        let files = sibling.with_later(siblings).ok()?;
        Some(Choice {
            name: sibling.rfilename.clone(),
            bytes: files.iter().filter_map(|it| it.bytes()).sum(),
            quantization: quantization(&sibling.rfilename),
        })
    };
    let models = siblings.iter().filter(|it| it.is_model());
    models.filter_map(choice).collect()
}

/// The file that is meant: by its name, by its quantization, or the usual one; with those that follow it, if it is the first of
/// several.
fn choose<'s>(
    siblings: &'s [Sibling],
    what: &str,
    want: Option<&str>,
) -> Result<Vec<&'s Sibling>, Error> {
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
            let mut usual = USUAL.iter().map(|want| all(&|it| stored(want, it)));
            let first = usual.find(|it| !it.is_empty());
            first.unwrap_or_else(|| models.clone())
        }
        Some(want) => match all(&|it| named(want, it)) {
            found if found.is_empty() => all(&|it| stored(want, it)),
            found => found,
        },
    };
    let list = || {
        let names = choices(siblings).into_iter();
        let names = names.map(|it| it.quantization.unwrap_or(it.name));
        let names: Vec<_> = names.collect();
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
        [one] => named_well(one, siblings).map_err(fail),
        // The same form of weights in several ways, or none of the usual ones.
        _ => match *meant
            .iter()
            .filter(|it| it.part().is_none())
            .collect::<Vec<_>>()
        {
            [one] => named_well(one, siblings).map_err(fail),
            _ => Err(fail(format!("say which file: {}", list()))),
        },
    }
}

/// The files of a model. Refuses one whose name could lead elsewhere.
fn named_well<'s>(model: &'s Sibling, siblings: &'s [Sibling]) -> Result<Vec<&'s Sibling>, String> {
    model.rfilename.split('/').try_for_each(check_segment)?;
    model.with_later(siblings)
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
        let chosen = choose(&all, "a/b", want).map_err(|error| error.to_string())?;
        let names: Vec<_> = chosen.iter().map(|it| &*it.rfilename).collect();
        Ok(names.join(" "))
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
            "x-F16-00001-of-00002.gguf",
        ];
        for (want, file) in [
            (None, "x-Q4_K_M.gguf"),
            (Some("latest"), "x-Q4_K_M.gguf"),
            (Some("q8_0"), "x-Q8_0.gguf"),
            (Some("x-Q8_0.gguf"), "x-Q8_0.gguf"),
            (Some("X-q8_0"), "x-Q8_0.gguf"),
            (
                Some("bf16"),
                "sub/x-BF16-00001-of-00002.gguf sub/x-BF16-00002-of-00002.gguf",
            ),
        ] {
            assert_eq!(chosen(&names, want).as_deref(), Ok(file), "{want:?}");
        }
        for (want, why) in [
            (Some("Q2_K"), "it has Q8_0, Q4_K_M, BF16"),
            (Some("F16"), "\"x-F16-00002-of-00002.gguf\" is not there"),
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
