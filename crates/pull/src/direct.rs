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
    if !file.to_ascii_lowercase().ends_with(".gguf") {
        return Err(Error::BadReference {
            text: shortened(&uri.to_string()),
            why: "it does not end in `.gguf`".to_owned(),
        });
    }
    let part = PartName::of(stem(file));
    let later = part
        .into_iter()
        .flat_map(|own| (own.number + 1..=own.count).map(move |number| (own, number)));
    let later = later.map(|(own, number)| {
        let name = PartName::write(own.base, number, own.count) + &file[stem(file).len()..];
        let folder = &uri.path()[..uri.path().len() - file.len()];
        let host = uri.authority().map_or("", |it| it.as_str());
        let query = uri.query().map_or_else(String::new, |it| format!("?{it}"));
        let scheme = uri.scheme_str().unwrap_or("https");
        let address = format!("{scheme}://{host}{folder}{name}{query}");
        let uri = address.parse().map_err(|_| Error::BadReference {
            text: shortened(&address),
            why: "it is no address".to_owned(),
        })?;
        Ok(FoundFile {
            uri,
            name,
            ..FoundFile::default()
        })
    });
    if part.is_some_and(|part| part.number > 1) {
        return Err(Error::BadReference {
            text: shortened(&uri.to_string()),
            why: "it is a later part of a model; name the first one".to_owned(),
        });
    }
    Ok(Found {
        later: later.collect::<Result<_, Error>>()?,
        name: model_name(file).to_owned(),
        file: FoundFile {
            uri: uri.clone(),
            name: file.to_owned(),
            ..FoundFile::default()
        },
        ..Found::default()
    })
}
