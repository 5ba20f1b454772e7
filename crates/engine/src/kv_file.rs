//! Files of keys and values: docs/formats/kv.md. What is read is not trusted; what is written appears whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use troika_base::{Bytes, KvType, TokenId};
use troika_device::{KvShape, PAGE_TOKENS, f16};

use crate::Fingerprint;

const MAGIC: [u8; 8] = *b"TROIKAKV";
const VERSION: u32 = 1;
/// Bytes before the checksum.
const HEAD: usize = 72;
const CHECKSUM: usize = 32;
/// Bytes of a page before its values.
const PAGE_HEAD: usize = 48 + PAGE_TOKENS * size_of::<u32>();
/// Stands for the page before the first one of a text.
const NO_PARENT: u64 = u64::MAX;

/// Why keys and values of another time or place are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// They belong to another model.
    #[error("the keys and values are of another model than the one that is loaded")]
    OtherModel,
    /// The file is not what it should be.
    #[error("{} is damaged or not made by this program, and is not used: {problem}; delete it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Which model keys and values belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) shape: KvShape,
    pub(crate) n_vocab: usize,
}

impl Origin {
    /// Values of so many tokens.
    pub(crate) fn values(&self, n_tok: usize) -> usize {
        n_tok * self.shape.token_values()
    }

    /// Bytes of a page in a file.
    fn page_bytes(&self) -> usize {
        PAGE_HEAD + self.values(PAGE_TOKENS) * size_of::<f16>()
    }
}

/// A page of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// Digest of the namespace's name.
    pub(crate) namespace: [u8; 32],
    /// The page before it in the same list.
    pub(crate) parent: Option<usize>,
    /// One at least; a page's number at most, and fewer only if no page comes after.
    pub(crate) tokens: Vec<TokenId>,
    /// Of these tokens.
    pub(crate) values: Vec<f16>,
}

/// Writes pages to a file that its owner alone can read. A file of this name is replaced, once the new one is on the disk.
///
/// # Errors
/// If that fails; there is no new file then.
pub(crate) fn write(path: &Path, origin: &Origin, pages: &[Page]) -> Result<(), KvError> {
    let failed = |source| KvError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Of mode 0600.
    let mut file = NamedTempFile::new_in(directory).map_err(failed)?;
    write_all(file.as_file_mut(), origin, pages).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync(directory).map_err(failed)
}

/// Brings a directory's names to the disk.
fn sync(directory: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(directory)?.sync_all(),
        // Windows has no handle of a directory to sync.
        false => Ok(()),
    }
}

fn write_all(file: &mut File, origin: &Origin, pages: &[Page]) -> io::Result<()> {
    let head = head(origin, pages.len() as u64);
    let mut hash = Sha256::new_with_prefix(head);
    let mut out = BufWriter::new(&mut *file);
    out.write_all(&head)?;
    // Known at the end.
    out.write_all(&[0; CHECKSUM])?;
    let mut bytes = Vec::with_capacity(origin.page_bytes());
    for page in pages {
        bytes.clear();
        encode(page, &mut bytes);
        bytes.resize(origin.page_bytes(), 0);
        hash.update(&bytes);
        out.write_all(&bytes)?;
    }
    out.flush()?;
    drop(out);
    file.seek(io::SeekFrom::Start(HEAD as u64))?;
    file.write_all(&hash.finalize())
}

fn head(origin: &Origin, n_page: u64) -> [u8; HEAD] {
    let KvShape {
        n_layer,
        n_head_kv,
        head_dim,
        kv_type,
    } = origin.shape;
    let mut head = Vec::with_capacity(HEAD);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(number_format(kv_type).to_le_bytes());
    head.extend(origin.fingerprint.as_bytes());
    for count in [n_layer, n_head_kv, head_dim, PAGE_TOKENS] {
        head.extend((count as u32).to_le_bytes());
    }
    head.extend(n_page.to_le_bytes());
    head.try_into().expect("that is the head. This is a bug.")
}

/// What the cache kept that the values come from; the file's own are f16.
fn number_format(kv_type: KvType) -> u32 {
    match kv_type {
        KvType::F16 => 1,
        KvType::Q8_0 => 2,
        KvType::Q4_0 => 3,
    }
}

fn encode(page: &Page, out: &mut Vec<u8>) {
    let parent = page.parent.map_or(NO_PARENT, |parent| parent as u64);
    out.extend(page.namespace);
    out.extend(parent.to_le_bytes());
    out.extend((page.tokens.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(page.tokens.iter().flat_map(|token| token.0.to_le_bytes()));
    out.resize(PAGE_HEAD, 0);
    out.extend(page.values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Reads a file's first pages, as many as `room` has place for.
///
/// # Errors
/// If there is no such file, it is of another model, or anything in it is not as it should be, in whichever page.
pub(crate) fn read(path: &Path, origin: &Origin, room: Bytes) -> Result<Vec<Page>, KvError> {
    let failed = |source| KvError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let damaged = |problem: String| KvError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(damaged("it is not a regular file".to_owned()));
    }
    let mut file = BufReader::new(file);
    let mut head = [0; HEAD];
    file.read_exact(&mut head).map_err(failed)?;
    let n_page = check_head(&head, origin, metadata.len()).map_err(|problem| match problem {
        Some(problem) => damaged(problem),
        None => KvError::OtherModel,
    })?;
    let mut checksum = [0; CHECKSUM];
    file.read_exact(&mut checksum).map_err(failed)?;

    let mut hash = Sha256::new_with_prefix(head);
    // Grows with what was read, and never by what is said in the file.
    let mut pages = Vec::new();
    let mut bytes = vec![0; origin.page_bytes()];
    let most = room.0 / bytes.len() as u64;
    for i in 0..n_page {
        file.read_exact(&mut bytes).map_err(failed)?;
        hash.update(&bytes);
        if i < most {
            pages.push(decode(&bytes, origin));
        }
    }
    if hash.finalize()[..] != checksum {
        return Err(damaged("its checksum is another".to_owned()));
    }
    link(pages).map_err(damaged)
}

/// How many pages a file has whose head and length these are. `Err(None)`: it is of another model.
fn check_head(head: &[u8; HEAD], origin: &Origin, file_bytes: u64) -> Result<u64, Option<String>> {
    let problem = |problem: &str| Err(Some(problem.to_owned()));
    let n_page = u64::from_le_bytes(*head.last_chunk().expect("the head is longer"));
    let want = self::head(origin, n_page);
    if head[..8] != want[..8] {
        return problem("it does not begin as such files do");
    }
    if head[8..12] != want[8..12] {
        return problem("it is of another version");
    }
    if head[12..HEAD - 8] != want[12..HEAD - 8] {
        return Err(None);
    }
    let of_pages = n_page.checked_mul(origin.page_bytes() as u64);
    match of_pages.and_then(|bytes| bytes.checked_add((HEAD + CHECKSUM) as u64)) {
        Some(want) if want == file_bytes => Ok(n_page),
        _ => Err(Some(format!(
            "it has {file_bytes} bytes, which are not {n_page} pages"
        ))),
    }
}

/// Checks each page, and that it goes on from the one that it says.
fn link(pages: Vec<Result<Page, &'static str>>) -> Result<Vec<Page>, String> {
    let mut linked: Vec<Page> = Vec::with_capacity(pages.len());
    for (i, page) in pages.into_iter().enumerate() {
        let problem = |problem: &str| format!("page {i} {problem}");
        let page = page.map_err(problem)?;
        if let Some(parent) = page.parent {
            let before = linked.get(parent);
            let before = before.ok_or_else(|| problem("goes on from one that is not before it"))?;
            if before.tokens.len() < PAGE_TOKENS || before.namespace != page.namespace {
                return Err(problem("goes on from one that does not lead to it"));
            }
        }
        linked.push(page);
    }
    Ok(linked)
}

fn decode(bytes: &[u8], origin: &Origin) -> Result<Page, &'static str> {
    let (head, values) = bytes.split_at(PAGE_HEAD);
    let number = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("in the head"));
    let parent = u64::from_le_bytes(*head[32..].first_chunk().expect("in the head"));
    let n_tok = number(40) as usize;
    if !(1..=PAGE_TOKENS).contains(&n_tok) || number(44) != 0 {
        return Err("has no number of tokens that can be");
    }
    let token = |i| TokenId(number(48 + i * size_of::<u32>()));
    let tokens: Vec<TokenId> = (0..n_tok).map(token).collect();
    if tokens.iter().any(|token| token.index() >= origin.n_vocab) {
        return Err("has a token outside of the vocabulary");
    }
    let values = values.as_chunks().0[..origin.values(n_tok)].iter();
    let values: Vec<f16> = values.map(|&bytes| f16::from_le_bytes(bytes)).collect();
    // One of them would make every token after it a number that is none.
    if values.iter().any(|value| !value.is_finite()) {
        return Err("has values that are no numbers");
    }
    Ok(Page {
        namespace: head[..32].try_into().expect("in the head"),
        // Where a page's number is not one of this computer's, there is no such page either.
        parent: (parent != NO_PARENT).then(|| usize::try_from(parent).unwrap_or(usize::MAX)),
        tokens,
        values,
    })
}

#[cfg(test)]
mod tests;
