//! A file by its address, of which nothing is known but what its host says.

use http::Uri;

use crate::Error;
use crate::error::shortened;
use crate::found::{Found, stem};

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
    Ok(Found {
        uri: uri.clone(),
        file: file.to_owned(),
        name: stem(file).to_owned(),
        ..Found::default()
    })
}
