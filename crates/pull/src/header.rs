//! The head of a file that is elsewhere: metadata and tensors, by a range of its first bytes.

use http::{StatusCode, Uri};
use troika_gguf::ModelFile;

use crate::Error;
use crate::client::Client;
use crate::download::{Source, content_range, length_of, tag_of};
use crate::sites::host;

/// Enough for a head without a vocabulary of its own; most have one and need the second step.
const FIRST_BYTES: u64 = 1 << 20;

/// The largest heads in use have twelve million bytes.
const MOST_BYTES: u64 = 32 << 20;

/// What is known of a file before it is fetched.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) source: Source,
    /// `None` if the head is longer than is fetched to look at it.
    pub(crate) model: Option<ModelFile>,
}

/// Reads the head of a file; `name` stands for it in messages.
///
/// # Errors
/// If there is no file, or it is no model.
pub(crate) async fn read(client: &Client, uri: &Uri, name: &str) -> Result<Head, Error> {
    let mut beginning = Vec::new();
    let mut want = FIRST_BYTES;
    loop {
        let source = more(client, uri, want, &mut beginning).await?;
        let bytes = source.bytes;
        let is_all = beginning.len() as u64 >= bytes;
        // What is no model is told by its first bytes, and need not be fetched further.
        let model = ModelFile::from_beginning(name, beginning.clone(), bytes);
        let model = model.map_err(|source| Error::NotAModel {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        if model.is_some() || is_all || want >= MOST_BYTES {
            return Ok(Head { source, model });
        }
        want = if want == FIRST_BYTES {
            8 << 20
        } else {
            want * 2
        };
    }
}

/// Fetches what is missing of the first `want` bytes, in as many tries as are worth it.
async fn more(
    client: &Client,
    uri: &Uri,
    want: u64,
    beginning: &mut Vec<u8>,
) -> Result<Source, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match more_once(client, uri, want, beginning).await {
            Err(error) if error.is_transient() && tries < client.patience.tries.min(3) => {
                tracing::debug!(%error, "asked again");
                tokio::time::sleep(client.patience.pause_after(tries)).await;
            }
            other => return other,
        }
    }
}

async fn more_once(
    client: &Client,
    uri: &Uri,
    want: u64,
    beginning: &mut Vec<u8>,
) -> Result<Source, Error> {
    let range = (beginning.len() as u64, want - 1);
    let mut given = client.get(uri, Some(range), "*/*").await?;
    given.refuse_web_page()?;
    let host = || host(&given.from);
    let packed = given.header("content-encoding");
    if let Some(packing) = packed.filter(|it| !it.eq_ignore_ascii_case("identity")) {
        return Err(Error::Nonsense {
            host: host(),
            why: format!("the file is packed as {packing:?}, which was not asked for"),
        });
    }
    let has_ranges = given.response.status() == StatusCode::PARTIAL_CONTENT;
    let bytes = match has_ranges {
        true => {
            let told = given.header("content-range").and_then(content_range);
            let right = told.filter(|(start, _)| *start == range.0);
            right.map(|(_, total)| total)
        }
        false => length_of(&given),
    };
    let bytes = bytes.ok_or_else(|| Error::NoLength { host: host() })?;
    let tag = tag_of(&given);
    if !has_ranges {
        beginning.clear();
    }
    let end = want.min(bytes);
    while (beginning.len() as u64) < end {
        let Some(more) = client.next(&mut given).await? else {
            return Err(Error::Cut {
                host: crate::sites::host(&given.from),
                why: "its answer is shorter than it said".to_owned(),
            });
        };
        let left = usize::try_from(end).unwrap_or(usize::MAX) - beginning.len();
        beginning.extend_from_slice(&more[..more.len().min(left)]);
    }
    Ok(Source {
        uri: uri.clone(),
        bytes,
        tag,
        has_ranges,
    })
}
