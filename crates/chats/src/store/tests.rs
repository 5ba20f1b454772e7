//! What is kept, found and lost.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use super::*;

const ANN: Owner<'_> = Some("ann");

fn memory() -> Store {
    Store::in_memory().unwrap()
}

fn chat(store: &Store, owner: Owner<'_>, id: &str, now: u64) -> Chat {
    store.create(owner, id, New::default(), now).unwrap()
}

fn draft(role: Role, parent: Option<u64>, text: &str) -> Draft {
    Draft {
        parent,
        role,
        content: text.to_owned(),
        model: (role == Role::Assistant).then(|| "tiny".to_owned()),
    }
}

/// A question and its answer; returns the answer's number.
fn turn(store: &Store, owner: Owner<'_>, id: &str, parent: Option<u64>, texts: [&str; 2]) -> u64 {
    let question = draft(Role::User, parent, texts[0]);
    let question = store.add(owner, id, question, 10).unwrap();
    let answer = draft(Role::Assistant, Some(question.n), "");
    let answer = store.add(owner, id, answer, 11).unwrap();
    store.append(id, answer.n, texts[1], "").unwrap();
    store.end(id, answer.n, Finish::Stop.into()).unwrap();
    answer.n
}

fn ids(listed: &Listed) -> Vec<&str> {
    listed.chats.iter().map(|found| &*found.chat.id).collect()
}

fn search(store: &Store, owner: Owner<'_>, query: &str) -> Vec<String> {
    let listed = store.list(owner, query, 50, None).unwrap();
    ids(&listed).into_iter().map(str::to_owned).collect()
}

#[test]
fn messages_are_a_tree() {
    let store = memory();
    chat(&store, ANN, "a", 1);
    let first = turn(
        &store,
        ANN,
        "a",
        None,
        ["What is *rain*?\nTell me.", "Water."],
    );
    let other = turn(&store, ANN, "a", Some(first), ["And snow?", "Ice."]);
    let again = turn(&store, ANN, "a", Some(first), ["And hail?", "Ice, too."]);
    let (chat, messages) = store.get(ANN, "a").unwrap();
    assert_eq!(chat.title.as_deref(), Some("What is *rain*?"));
    assert_eq!(chat.model.as_deref(), Some("tiny"));
    assert_eq!(chat.leaf, Some(again));
    assert_eq!(messages.len(), 6);
    let texts = |leaf| {
        let (_, branch) = store.branch(ANN, "a", leaf).unwrap();
        let texts = branch.into_iter().map(|message| message.content);
        texts.collect::<Vec<_>>()
    };
    assert_eq!(texts(Some(other))[1..], ["Water.", "And snow?", "Ice."]);
    assert_eq!(
        texts(Some(again))[1..],
        ["Water.", "And hail?", "Ice, too."]
    );
    assert!(texts(None).is_empty());
    let change = Change {
        leaf: Some(other),
        title: Some("Weather".to_owned()),
        ..Change::default()
    };
    let changed = store.change(ANN, "a", change).unwrap();
    assert_eq!(
        (changed.leaf, changed.title.as_deref()),
        (Some(other), Some("Weather"))
    );
    let text = crate::markdown(&changed, &messages);
    assert!(
        text.starts_with("# Weather\n\n## User\n\nWhat is *rain*?"),
        "{text}"
    );
    assert!(
        text.ends_with("## User\n\nAnd snow?\n\n## tiny\n\nIce.\n"),
        "{text}"
    );
    let nowhere = Change {
        leaf: Some(99),
        ..Change::default()
    };
    assert!(matches!(
        store.change(ANN, "a", nowhere),
        Err(StoreError::NoMessage)
    ));
    let orphan = draft(Role::User, Some(99), "x");
    assert!(matches!(
        store.add(ANN, "a", orphan, 1),
        Err(StoreError::NoMessage)
    ));
}

#[test]
fn nobody_sees_anothers() {
    let store = memory();
    chat(&store, ANN, "a", 1);
    turn(&store, ANN, "a", None, ["secret", "kept"]);
    for other in [Some("anna"), Some("an"), None] {
        assert!(matches!(store.get(other, "a"), Err(StoreError::NoChat)));
        assert!(matches!(
            store.branch(other, "a", Some(1)),
            Err(StoreError::NoChat)
        ));
        assert!(matches!(store.delete(other, "a"), Err(StoreError::NoChat)));
        let change = store.change(other, "a", Change::default());
        assert!(matches!(change, Err(StoreError::NoChat)));
        let add = store.add(other, "a", draft(Role::User, None, "x"), 1);
        assert!(matches!(add, Err(StoreError::NoChat)));
        assert!(search(&store, other, "secret").is_empty());
        assert!(search(&store, other, "").is_empty());
        store.delete_all(other).unwrap();
    }
    assert_eq!(search(&store, ANN, "secret"), ["a"]);
}

#[test]
fn lists_are_newest_first_and_go_on() {
    let store = memory();
    for n in 0..7 {
        chat(&store, ANN, &format!("c{n}"), 100 + n / 2);
    }
    turn(&store, ANN, "c0", None, ["x", "y"]);
    // What was said in it does not make it older than it is.
    assert_eq!(store.get(ANN, "c0").unwrap().0.updated, 100);
    let mut all = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let page = store.list(ANN, "", 3, before.as_deref()).unwrap();
        all.extend(ids(&page).into_iter().map(str::to_owned));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(all, ["c6", "c4", "c5", "c2", "c3", "c0", "c1"]);
    assert!(matches!(
        store.list(ANN, "", 3, Some("here")),
        Err(StoreError::NoPlace)
    ));
}

#[test]
fn words_are_found_in_titles_questions_and_answers() {
    let store = memory();
    for (id, title) in [("a", Some("Über Bäume")), ("b", None)] {
        let new = New {
            title: title.map(str::to_owned),
            ..New::default()
        };
        store.create(None, id, new, 1).unwrap();
    }
    turn(
        &store,
        None,
        "a",
        None,
        ["Which tree is tall?", "The SEQUOIA."],
    );
    turn(&store, None, "b", None, ["Crème brûlée", "Sugar, cream."]);
    for (query, want) in [
        ("baume", &["a"][..]),
        ("TREE sequoia uber", &["a"]),
        ("tree cream", &[]),
        ("creme BRULEE", &["b"]),
        ("r", &["a", "b"]),
        ("nowhere", &[]),
    ] {
        assert_eq!(search(&store, None, query), want, "{query}");
    }
    let listed = store.list(None, "sequoia", 1, None).unwrap();
    let snippet = listed.chats[0].snippet.as_ref().unwrap();
    assert!(
        snippet
            .iter()
            .any(|part| part.is_hit && part.text == "SEQUOIA")
    );
    store.delete(None, "a").unwrap();
    assert!(search(&store, None, "sequoia").is_empty());
}

#[test]
fn what_is_deleted_leaves_nothing_behind() {
    let store = memory();
    for id in ["a", "ab", "b"] {
        chat(&store, ANN, id, 1);
        turn(&store, ANN, id, None, ["long ".repeat(1000).as_str(), "x"]);
    }
    store.delete(ANN, "a").unwrap();
    assert_eq!(search(&store, ANN, "long"), ["ab", "b"]);
    store.delete_all(ANN).unwrap();
    assert!(store.all(ANN).unwrap().is_empty());
    let read = store.database.begin_read().unwrap();
    use redb::ReadableTableMetadata as _;
    assert!(read.open_table(tables::TEXTS).unwrap().is_empty().unwrap());
    assert!(read.open_table(tables::FOLDED).unwrap().is_empty().unwrap());
    assert!(read.open_table(MESSAGES).unwrap().is_empty().unwrap());
    let meta = read.open_table(tables::META).unwrap();
    assert_eq!(meta.get("bytes").unwrap().unwrap().value(), 0);
}

#[test]
fn memory_is_bounded() {
    let store = Store {
        bytes_max: 100_000,
        ..memory()
    };
    chat(&store, ANN, "a", 1);
    let text = "x".repeat(40_000);
    let add = || store.add(ANN, "a", draft(Role::User, None, &text), 1);
    add().unwrap();
    add().unwrap();
    assert!(matches!(
        add(),
        Err(StoreError::Full { bytes_max: 100_000 })
    ));
    store.delete(ANN, "a").unwrap();
    chat(&store, ANN, "a", 1);
    add().unwrap();
}

#[test]
fn a_long_answer_is_kept_in_parts() {
    let store = memory();
    chat(&store, ANN, "a", 1);
    let answer = draft(Role::Assistant, None, "");
    let answer = store.add(ANN, "a", answer, 1).unwrap();
    let text = "ä".repeat(PART_BYTES);
    store.append("a", answer.n, &text, "thought").unwrap();
    store.append("a", answer.n, "end", "s").unwrap();
    let (_, messages) = store.get(ANN, "a").unwrap();
    assert_eq!(messages[0].content, format!("{text}end"));
    assert_eq!(messages[0].reasoning, "thoughts");
    let ended = store.end("a", answer.n, Finish::Length.into()).unwrap();
    assert_eq!(ended.content.len(), text.len() + 3);
    assert_eq!(store.get(ANN, "a").unwrap().1, [ended]);
}

#[test]
fn what_was_written_when_the_process_died_is_kept_as_stopped() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/chats.redb");
    {
        let store = Store::open(&path).unwrap().store;
        chat(&store, ANN, "a", 1);
        let answer = draft(Role::Assistant, None, "");
        store.add(ANN, "a", answer, 1).unwrap();
        store.append("a", 1, "half an ans", "").unwrap();
        assert!(search(&store, ANN, "half").is_empty(), "not yet");
        assert!(matches!(Store::open(&path), Err(StoreError::InUse)));
    }
    let opened = Store::open(&path).unwrap();
    assert_eq!(opened.damaged, None);
    let (_, messages) = opened.store.get(ANN, "a").unwrap();
    assert_eq!(messages[0].content, "half an ans");
    assert_eq!(messages[0].ending, Some(Finish::Stopped.into()));
    assert_eq!(search(&opened.store, ANN, "half"), ["a"]);
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chats.redb");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

/// A file with some conversations.
fn filled(path: &Path) {
    let store = Store::open(path).unwrap().store;
    for n in 0..20 {
        let id = format!("c{n}");
        chat(&store, ANN, &id, n);
        turn(
            &store,
            ANN,
            &id,
            None,
            [
                "question ".repeat(50).as_str(),
                "answer ".repeat(500).as_str(),
            ],
        );
    }
}

#[test]
fn a_damaged_file_is_put_aside() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chats.redb");
    filled(&path);
    let whole = std::fs::read(&path).unwrap();
    let mut put_aside = 0;
    let mut damages: Vec<Vec<u8>> = vec![
        b"not a database at all".to_vec(),
        vec![0; 10_000],
        whole[..whole.len() / 2].to_vec(),
        whole[..100].to_vec(),
    ];
    // Every page, somewhere in the middle, and all of the head.
    for at in (0..whole.len()).step_by(64 << 10).chain(0..64) {
        let mut bytes = whole.clone();
        let end = (at + 40).min(bytes.len());
        bytes[at..end].fill(0xa5);
        damages.push(bytes);
    }
    for bytes in damages {
        std::fs::write(&path, &bytes).unwrap();
        let opened = Store::open(&path).unwrap();
        if let Some(aside) = &opened.damaged {
            put_aside += 1;
            assert_eq!(std::fs::metadata(aside).unwrap().len(), bytes.len() as u64);
            assert!(opened.store.all(ANN).unwrap().is_empty());
            std::fs::remove_file(aside).unwrap();
        }
        // Whatever it is, it can be used.
        chat(&opened.store, ANN, "new", 1);
        opened.store.list(ANN, "answer", 50, None).unwrap();
        drop(opened);
        std::fs::remove_file(&path).unwrap();
    }
    assert!(put_aside > 10, "{put_aside}");
}

#[test]
fn a_newer_file_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chats.redb");
    {
        let store = Store::open(&path).unwrap().store;
        let transaction = store.database.begin_write().unwrap();
        let mut meta = transaction.open_table(tables::META).unwrap();
        meta.insert("format", 99).unwrap();
        drop(meta);
        transaction.commit().unwrap();
    }
    let newer = Store::open(&path);
    assert!(matches!(
        newer,
        Err(StoreError::Newer {
            found: 99,
            known: 1
        })
    ));
    assert!(path.exists());
}

#[test]
fn a_file_that_cannot_be_opened_is_no_damaged_one() {
    let home = tempfile::tempdir().unwrap();
    let opened = Store::open(home.path());
    assert!(matches!(opened, Err(StoreError::Unusable { .. })));
    assert!(home.path().exists());
}

/// 1,000 conversations of 20 messages of 500 bytes. The bound is for a build without optimizations on a busy machine; with
/// them it takes a tenth of that.
#[test]
fn a_thousand_conversations_are_searched_at_once() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chats.redb");
    let store = Store::open(&path).unwrap().store;
    let words = [
        "Wetter",
        "Brücke",
        "naïve",
        "kernel",
        "quantisation",
        "Straße",
        "energy",
        "prompt",
    ];
    store
        .write(|to| {
            for c in 0..1000u64 {
                let id = format!("c{c}");
                let record = Chat {
                    id: id.clone(),
                    updated: c,
                    next: 21,
                    ..Chat::default()
                };
                to.put(&record, None)?;
                for n in 1..=20u64 {
                    let mut text = String::new();
                    let mut at = (c * 31 + n * 7) as usize;
                    while text.len() < 500 {
                        text.push_str(words[at % words.len()]);
                        text.push(' ');
                        at = at.wrapping_mul(5).wrapping_add(3);
                    }
                    if (c, n) == (0, 20) {
                        text.push_str("Nadel im Heuhaufen");
                    }
                    to.put_text(&id, n, Kind::Content, &text)?;
                    to.fold(&id, n, &text)?;
                }
            }
            Ok(())
        })
        .unwrap();
    let mut best = f64::INFINITY;
    for query in ["heuhaufen nadel", "nowhere to be found", "HEUHAUFEN"] {
        for _ in 0..3 {
            let begun = Instant::now();
            let found = search(&store, None, query);
            best = best.min(begun.elapsed().as_secs_f64());
            let want: &[&str] = if query.starts_with('n') { &[] } else { &["c0"] };
            assert!(found == want || query.contains("nadel"), "{query}");
        }
    }
    assert_eq!(search(&store, None, "nadel heu"), ["c0"]);
    println!("the best search took {:.1} ms", best * 1e3);
    assert!(best < 1.0, "{best} s");
}

#[test]
fn bytes_of_the_file_are_what_was_written() {
    // The database must not keep what was deleted in the clear for long: pages are used again, so this only says that a file
    // does not grow with each deleted conversation.
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chats.redb");
    let store = Store::open(&path).unwrap().store;
    let length = || std::fs::metadata(&path).unwrap().len();
    let mut first = 0;
    for round in 0..20 {
        chat(&store, ANN, "a", 1);
        turn(&store, ANN, "a", None, ["x".repeat(100_000).as_str(), "y"]);
        store.delete(ANN, "a").unwrap();
        if round == 3 {
            first = length();
        }
    }
    assert!(length() <= first * 2, "{} > 2 x {first}", length());
    let mut file = std::fs::File::open(&path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut magic = [0; 4];
    file.read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"redb");
    std::io::stdout().flush().unwrap();
}
