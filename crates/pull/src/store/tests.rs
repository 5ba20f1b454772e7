//! What is here of a file, over ends of the program and damage to the journal.

use tempfile::TempDir;

use super::*;

const PIECE: u64 = 8;

fn identity(bytes: u64) -> Identity {
    Identity {
        what: "sha256:../../x".to_owned(),
        bytes,
    }
}

fn open(models: &TempDir, bytes: u64) -> Result<Store, Error> {
    Store::open(models.path(), &identity(bytes), PIECE)
}

fn journal(store: &Store) -> PathBuf {
    store.directory.join("done")
}

#[test]
fn pieces_are_taken_in_order_and_remembered() {
    let models = tempfile::tempdir().unwrap();
    let store = open(&models, 20).unwrap();
    assert_eq!((store.count(), store.take(2)), (3, Some(0..2)));
    assert_eq!(store.take(2), Some(2..3));
    assert_eq!(store.take(2), None);
    store.write(16, b"last").unwrap();
    store.done(2, 77).unwrap();
    store.give_back(0..3);
    assert_eq!(store.done_bytes(), 4);
    assert!(matches!(open(&models, 20), Err(Error::Busy)));
    drop(store);
    assert!(Store::have(models.path(), &identity(20), PIECE) > 0);
    let store = open(&models, 20).unwrap();
    assert_eq!((store.done_bytes(), store.missing()), (4, 2));
    assert_eq!((store.take(9), store.wait_for(2)), (Some(0..2), Some(77)));
    let mut last = [0; 4];
    store.read(16, &mut last).unwrap();
    assert_eq!(&last, b"last");
    store.is_damaged(2);
    assert_eq!((store.done_bytes(), store.take(9)), (0, Some(2..3)));
    store.call_off();
    assert_eq!(store.wait_for(0), None);
    store.clear();
    assert!(
        !models
            .path()
            .join(FOLDER)
            .join(identity(20).folder())
            .exists()
    );
}

#[test]
fn a_journal_counts_up_to_its_first_fault() {
    let models = tempfile::tempdir().unwrap();
    let store = open(&models, 32).unwrap();
    for piece in 0..4 {
        store.done(piece, 1000 + piece as u64).unwrap();
    }
    let path = journal(&store);
    drop(store);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let store = open(&models, 32).unwrap();
        assert_eq!(store.done_bytes(), (cut / RECORD_BYTES) as u64 * PIECE);
        drop(store);
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, cut / 16 * 16);
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let store = open(&models, 32).unwrap();
        assert_eq!(
            store.done_bytes(),
            (at / RECORD_BYTES) as u64 * PIECE,
            "{at}"
        );
    }
    fs::write(&path, [0; 64]).unwrap();
    assert_eq!(open(&models, 32).unwrap().done_bytes(), 0);
}

#[test]
fn data_that_is_gone_or_of_something_else_is_begun_anew() {
    let models = tempfile::tempdir().unwrap();
    let store = open(&models, 16).unwrap();
    store.done(0, 1).unwrap();
    let (data, what) = (store.data_path(), store.directory.join("what.json"));
    drop(store);
    fs::remove_file(&data).unwrap();
    let store = open(&models, 16).unwrap();
    assert_eq!(store.done_bytes(), 0);
    store.done(0, 1).unwrap();
    drop(store);
    fs::write(&what, "{}").unwrap();
    assert_eq!(open(&models, 16).unwrap().done_bytes(), 0);
    // Other lengths and digests have directories of their own.
    assert_eq!(open(&models, 17).unwrap().done_bytes(), 0);
    assert_eq!(fs::read_dir(models.path().join(FOLDER)).unwrap().count(), 2);
}

#[test]
fn a_file_that_has_no_room_is_refused_before_it_is_fetched() {
    let models = tempfile::tempdir().unwrap();
    for bytes in [BYTES_MAX, BYTES_MAX + 1] {
        let refused = Store::open(models.path(), &identity(bytes), PIECE_BYTES);
        assert!(
            matches!(refused, Err(Error::DiskFull { .. })) || cfg!(not(unix)),
            "{refused:?}"
        );
    }
}
