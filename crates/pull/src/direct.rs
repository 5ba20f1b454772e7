//! A file by its address, of which nothing is known but what its host says.

use http::Uri;
use troika_gguf::PartName;

use crate::Error;
use crate::error::shortened;
use crate::found::{Found, FoundFile, model_name, stem};

/// What an address says of the file there.
///
/// # Errors
/// [`Error::BadReference`] if it does not end in `.gguf`: a page is often meant for people.
pub(crate) fn find(uri: &Uri) -> Result<Found, Error> {
    let file = uri.path().rsplit('/').next().unwrap_or_default();
    let refused = |why: &str| Error::BadReference {
        text: shortened(&uri.to_string()),
        why: why.to_owned(),
    };
    if !file.to_ascii_lowercase().ends_with(".gguf") {
        return Err(refused("it does not end in `.gguf`"));
    }
    let mut later = Vec::new();
    if let Some(part) = PartName::of(stem(file)) {
        if part.number > 1 {
            return Err(refused("it is a later part of a model; name the first one"));
        }
        for number in 2..=part.count {
            let name = PartName::write(part.base, number, part.count) + &file[stem(file).len()..];
            let uri = beside(uri, &name).ok_or_else(|| refused("it is no address"))?;
            later.push(FoundFile {
                uri,
                name,
                ..FoundFile::default()
            });
        }
    }
    Ok(Found {
        later,
        name: model_name(file).to_owned(),
        file: FoundFile {
            uri: uri.clone(),
            name: file.to_owned(),
            ..FoundFile::default()
        },
        ..Found::default()
    })
}

/// The address of another file in the same folder.
fn beside(uri: &Uri, name: &str) -> Option<Uri> {
    let folder = uri.path().rsplit_once('/')?.0;
    let query = uri.query().map_or_else(String::new, |it| format!("?{it}"));
    let path = format!("{folder}/{name}{query}");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}
