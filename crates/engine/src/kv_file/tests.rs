//! Files as they are written, and as others would have them.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn origin() -> Origin {
    Origin {
        fingerprint: Fingerprint::from_bytes([7; 32]),
        shape: KvShape {
            n_layer: 2,
            n_head_kv: 1,
            head_dim: 2,
            kv_type: troika_base::KvType::F16,
        },
        n_vocab: 500,
    }
}

fn page(namespace: u8, parent: Option<usize>, n_tok: usize) -> Page {
    let tokens = (0..n_tok as u32).map(|i| TokenId(i + u32::from(namespace)));
    let values = (0..origin().values(n_tok)).map(|i| f16::from_f32(i as f32 - 3.5));
    Page {
        namespace: [namespace; 32],
        parent,
        tokens: tokens.collect(),
        values: values.collect(),
    }
}

/// Two texts of a namespace that begin alike, and one of another.
fn pages() -> Vec<Page> {
    vec![
        page(1, None, 32),
        page(1, Some(0), 32),
        page(2, None, 32),
        page(1, Some(0), 32),
        page(2, Some(2), 5),
    ]
}

const ALL: Bytes = Bytes(1 << 20);

/// Reads these bytes as a file.
fn read_bytes(bytes: &[u8], room: Bytes) -> Result<Vec<Page>, KvError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pages.kv");
    std::fs::write(&path, bytes).unwrap();
    read(&path, &origin(), room)
}

fn written(pages: &[Page]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pages.kv");
    write(&path, &origin(), pages).unwrap();
    std::fs::read(&path).unwrap()
}

/// With a checksum that is right, as who does it on purpose would write it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::new_with_prefix(&bytes[..HEAD]).chain_update(&bytes[HEAD + CHECKSUM..]);
    bytes[HEAD..HEAD + CHECKSUM].copy_from_slice(&hash.finalize());
    bytes
}

/// Where a page begins in a file.
fn at(page: usize) -> usize {
    HEAD + CHECKSUM + page * origin().page_bytes()
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(&pages());
    assert_eq!(read_bytes(&bytes, ALL).unwrap(), pages());
    assert_eq!(read_bytes(&written(&[]), ALL).unwrap(), []);
    let two = Bytes(2 * origin().page_bytes() as u64 + 9);
    assert_eq!(read_bytes(&bytes, two).unwrap(), pages()[..2]);
}

#[test]
fn a_file_is_replaced_whole_and_its_owner_s_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pages.kv");
    write(&path, &origin(), &pages()).unwrap();
    write(&path, &origin(), &pages()[..1]).unwrap();
    assert_eq!(read(&path, &origin(), ALL).unwrap(), pages()[..1]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let nowhere = dir.path().join("none/pages.kv");
    assert!(matches!(
        write(&nowhere, &origin(), &pages()),
        Err(KvError::Io { .. })
    ));
}

#[test]
fn another_model_s_file_is_not_used() {
    for (at, what) in [
        (16, "fingerprint"),
        (47, "fingerprint"),
        (48, "layers"),
        (60, "page"),
    ] {
        let mut bytes = written(&pages());
        bytes[at] ^= 1;
        let error = read_bytes(&sealed(bytes), ALL).unwrap_err();
        assert!(matches!(error, KvError::OtherModel), "{what}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_in_its_words() {
    let number = |at: usize, number: u64| {
        let mut bytes = written(&pages());
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let edited = |at: usize, number: u32| {
        let mut bytes = written(&pages());
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let longer = [written(&pages()), vec![0]].concat();
    let value = at(0) + PAGE_HEAD;
    for (bytes, words) in [
        (edited(0, 1), "does not begin"),
        (edited(8, 2), "another version"),
        (number(64, 4), "bytes, which are not 4 pages"),
        (number(64, u64::MAX), "which are not"),
        (
            number(64, u64::MAX / origin().page_bytes() as u64),
            "which are not",
        ),
        (longer, "which are not 5 pages"),
        (
            number(at(1) + 32, 1),
            "page 1 goes on from one that is not before it",
        ),
        (
            number(at(1) + 32, u64::MAX - 1),
            "page 1 goes on from one that is not before",
        ),
        (
            number(at(3) + 32, 2),
            "page 3 goes on from one that does not lead to it",
        ),
        (
            edited(at(2) + 40, 31),
            "page 4 goes on from one that does not lead to it",
        ),
        (edited(at(0) + 40, 0), "page 0 has no number of tokens"),
        (edited(at(0) + 40, 33), "page 0 has no number of tokens"),
        (edited(at(0) + 48, 500), "page 0 has a token outside"),
        (
            edited(value, 0x7c00),
            "page 0 has values that are no numbers",
        ),
    ] {
        let error = read_bytes(&sealed(bytes), ALL).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} in {error:?}");
    }
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = TempDir::new().unwrap();
    for path in [dir.path(), &dir.path().join("none")] {
        assert!(read(path, &origin(), ALL).is_err());
    }
}

proptest! {
    #[test]
    fn a_damaged_file_is_never_used(
        cut in 0..2000usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let whole = written(&pages());
        let mut bytes = whole[..whole.len().saturating_sub(cut / 2)].to_vec();
        bytes.extend(tail);
        for (index, flip) in flips {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] ^= flip;
            }
        }
        match read_bytes(&bytes, ALL) {
            Ok(read) => prop_assert_eq!((read, bytes), (pages(), whole)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// Whoever can compute a checksum gets pages that could have been written, or an error.
    #[test]
    fn a_forged_file_is_an_error_or_what_could_have_been_written(
        edits in prop::collection::vec((0..5usize, 0..PAGE_HEAD + 600, any::<u8>()), 1..9),
    ) {
        let mut bytes = written(&pages());
        for (page, offset, byte) in edits {
            let at = at(page) + offset;
            if at < bytes.len() {
                bytes[at] = byte;
            }
        }
        if let Ok(read) = read_bytes(&sealed(bytes), ALL) {
            let again = read_bytes(&written(&read), ALL).unwrap();
            prop_assert_eq!(again, read);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_no_file(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_bytes(&bytes, ALL).is_err());
    }
}
