//! The cache: what it keeps, what it lets go, and what it leaves behind when something goes wrong.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use troika_base::Bytes;
use troika_device::Cancelled;

use crate::Error;
use crate::compile::store::Durable;
use crate::compile::{Draft, Entry, Facts, Key, Slot, Store};

const GIB: Bytes = Bytes(1 << 30);

fn key(name: &str) -> Key {
    Key::of_text(format!("model {name}\nversion 1\n"))
}

fn facts() -> Facts {
    Facts {
        model: "paper.gguf".to_owned(),
        loss: None,
    }
}

fn draft(store: &Store, name: &str) -> Draft {
    match store.slot(&key(name), &mut || ControlFlow::Break(Cancelled)) {
        Ok(Slot::Empty(draft)) => draft,
        other => panic!("{other:?}"),
    }
}

/// Puts a model of so many bytes into the store.
fn put(store: &Store, name: &str, bytes: usize) -> Entry {
    let draft = draft(store, name);
    fs::create_dir(draft.directory().join("below")).expect("is made");
    fs::write(draft.directory().join("below/blob"), vec![3; bytes]).expect("is written");
    draft.publish(facts()).expect("is published")
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root)
        .expect("is there")
        .map(|entry| {
            entry
                .expect("is read")
                .file_name()
                .into_string()
                .expect("is text")
        })
        .collect();
    names.sort_unstable();
    names
}

fn hashes(store: &Store) -> Vec<String> {
    let listed = store.list().expect("is listed");
    listed.into_iter().map(|listed| listed.hash).collect()
}

#[test]
fn what_was_put_in_comes_out() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path().join("compiled"), GIB);
    assert!(store.get(&key("a")).expect("is read").is_none());
    assert!(store.list().expect("is listed").is_empty());
    drop(put(&store, "a", 1000));
    let entry = store.get(&key("a")).expect("is read").expect("is there");
    let blob = fs::read(entry.directory().join("below/blob")).expect("is read");
    assert_eq!(blob, vec![3; 1000]);
    let manifest = entry.manifest();
    assert_eq!(manifest.files[0].name, "below/blob");
    assert_eq!(
        (manifest.bytes(), manifest.key_line("version")),
        (1000, Some("1"))
    );
    assert!(store.get(&key("b")).expect("is read").is_none());
}

#[test]
fn any_damage_is_found_and_removed() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("a bit", |directory| {
            fs::write(
                directory.join("below/blob"),
                [[3u8; 999].as_slice(), &[2]].concat(),
            )
            .unwrap();
        }),
        ("its end", |directory| {
            fs::write(directory.join("below/blob"), [3; 999]).unwrap();
        }),
        ("a file", |directory| {
            fs::remove_file(directory.join("below/blob")).unwrap()
        }),
        ("the manifest", |directory| {
            fs::remove_file(directory.join("manifest.json")).unwrap()
        }),
        ("the manifest's text", |directory| {
            fs::write(directory.join("manifest.json"), "{\"key\":").unwrap();
        }),
        ("a path outside", |directory| {
            let path = directory.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("below/blob", "../../secret")).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let root = TempDir::new().expect("a directory");
        let store = Store::new(root.path(), GIB);
        let directory = put(&store, "a", 1000).directory().to_owned();
        damage(&directory);
        match store.get(&key("a")) {
            Err(Error::Corrupted { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(names(root.path()), ["lock"], "{what}");
        // And it can be made anew.
        drop(put(&store, "a", 1000));
        assert!(store.get(&key("a")).expect("is sound").is_some(), "{what}");
    }
}

#[test]
fn damage_is_an_empty_slot() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let directory = put(&store, "a", 10).directory().to_owned();
    fs::write(directory.join("below/blob"), b"x").expect("is written");
    drop(put(&store, "a", 10));
}

#[test]
fn another_models_files_are_not_taken_for_this_ones() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let directory = put(&store, "a", 10).directory().to_owned();
    fs::rename(directory, root.path().join(key("b").hash())).expect("is renamed");
    assert!(matches!(store.get(&key("b")), Err(Error::Corrupted { .. })));
}

/// Writes some bytes, and then the disk is full.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = bytes.len().min(self.0);
        self.0 -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Durable for Full {
    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    // In the middle of the manifest, and when it is brought to the disk.
    for room in [0, 20, 1 << 20] {
        let root = TempDir::new().expect("a directory");
        let store = Store::new(root.path(), GIB);
        let draft = draft(&store, "a");
        fs::write(draft.directory().join("blob"), b"x").expect("is written");
        match draft.publish_with(facts(), |_| Ok(Full(room))) {
            Err(Error::Io { path, source }) => {
                assert!(path.ends_with("manifest.json"), "{}", path.display());
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            other => panic!("{room}: {other:?}"),
        }
        assert_eq!(names(root.path()), ["lock"]);
        assert!(store.get(&key("a")).expect("is read").is_none());
    }
}

#[test]
fn a_draft_that_is_dropped_or_empty_leaves_nothing() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let dropped = draft(&store, "a");
    fs::write(dropped.directory().join("blob"), b"x").expect("is written");
    drop(dropped);
    assert_eq!(names(root.path()), ["lock"]);
    let empty = draft(&store, "a").publish(facts());
    assert!(matches!(empty, Err(Error::Invalid { .. })), "{empty:?}");
    assert_eq!(names(root.path()), ["lock"]);
}

#[test]
fn what_a_killed_process_left_is_swept_away() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    // The files of its draft, and the lock that ended with it.
    for name in ["a", "b"] {
        let left = root.path().join(format!("{}.draft", key(name)));
        fs::create_dir(&left).expect("is made");
        fs::write(left.join("half"), b"x").expect("is written");
        fs::write(left.with_extension("making"), b"").expect("is written");
    }
    let entry = put(&store, "a", 10);
    assert_eq!(entry.manifest().files.len(), 1);
    drop(entry);
    let hash = key("a").hash().to_owned();
    assert_eq!(
        names(root.path()),
        [hash.clone(), format!("{hash}.used"), "lock".to_owned()]
    );
}

/// Says when a model was used last.
fn used_at(store: &Store, name: &str, seconds: u64) {
    let path = store.root().join(format!("{}.used", key(name)));
    let file = fs::File::options()
        .write(true)
        .open(path)
        .expect("is there");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    file.set_modified(at).expect("is set");
}

#[test]
fn the_one_not_used_for_longest_makes_room() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), Bytes(3000));
    for (name, seconds) in [("a", 300), ("b", 100), ("c", 200)] {
        drop(put(&store, name, 1000));
        used_at(&store, name, seconds);
    }
    assert_eq!(
        hashes(&store),
        ["a", "c", "b"].map(|name| key(name).hash().to_owned())
    );
    // `b` is the oldest but in use, so `c` goes.
    let in_use = store.get(&key("b")).expect("is sound").expect("is there");
    used_at(&store, "b", 100);
    drop(put(&store, "d", 1000));
    assert!(store.contains(&key("b")) && !store.contains(&key("c")));
    assert!(store.contains(&key("a")) && store.contains(&key("d")));
    drop(in_use);
    used_at(&store, "b", 100);
    drop(put(&store, "e", 1000));
    assert!(!store.contains(&key("b")));
}

#[test]
fn one_that_is_larger_than_the_limit_stays_while_it_is_used() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), Bytes(500));
    let large = put(&store, "a", 1000);
    assert!(store.contains(&key("a")));
    drop(large);
    drop(put(&store, "b", 100));
    assert!(!store.contains(&key("a")) && store.contains(&key("b")));
}

#[test]
fn clearing_spares_what_is_in_use() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let in_use = put(&store, "a", 100);
    drop(put(&store, "b", 200));
    let cleared = store.clear().expect("is cleared");
    assert_eq!(
        (cleared.removed, cleared.bytes, cleared.in_use),
        (1, Bytes(200), 1)
    );
    assert_eq!(hashes(&store), [key("a").hash()]);
    assert!(store.list().expect("is listed")[0].in_use);
    drop(in_use);
    assert_eq!(store.clear().expect("is cleared").removed, 1);
    assert_eq!(names(root.path()), ["lock"]);
}

#[test]
fn while_one_makes_it_others_wait_and_may_give_up() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let draft = draft(&store, "a");
    let mut asked = 0;
    let given_up = store.slot(&key("a"), &mut || {
        asked += 1;
        match asked {
            3 => ControlFlow::Break(Cancelled),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(given_up, Err(Error::Cancelled)), "{given_up:?}");
    fs::write(draft.directory().join("blob"), b"x").expect("is written");
    let mut draft = Some(draft);
    // Another thread's, or another process's: the lock is of the file.
    let found = store.slot(&key("a"), &mut || {
        if let Some(draft) = draft.take() {
            drop(draft.publish(facts()).expect("is published"));
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(found, Ok(Slot::Ready(_))), "{found:?}");
}

#[cfg(unix)]
#[test]
fn links_are_no_part_of_a_model() {
    let root = TempDir::new().expect("a directory");
    let store = Store::new(root.path(), GIB);
    let draft = draft(&store, "a");
    std::os::unix::fs::symlink("/etc/passwd", draft.directory().join("blob")).expect("is made");
    let published = draft.publish(facts());
    assert!(
        matches!(published, Err(Error::Invalid { .. })),
        "{published:?}"
    );
}
