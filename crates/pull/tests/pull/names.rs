//! What is found under a name, what is said of it, and what it becomes.

use troika_pull::{Error, Reference, Wish};

use crate::Place;
use crate::host::{Fault, Host, SYSTEM, digest_of, model, split_model};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_hub_becomes_a_model() {
    let file = model(300_000);
    let host = Host::with(file.clone()).await;
    let place = Place::with(&host, &crate::patience(), Some("hunter2"));
    let look = place.look("hf:acme/tiny-GGUF").await.unwrap();
    assert_eq!(
        (&*look.name, look.bytes),
        ("tiny-Q4_K_M", file.len() as u64)
    );
    assert_eq!(look.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(look.quantization.as_deref(), Some("F32"));
    assert_eq!((look.choices.len(), look.have_bytes), (2, 0));
    assert!(
        look.head
            .as_ref()
            .unwrap()
            .tensor("output.weight")
            .is_some()
    );
    assert!(look.disk_free_bytes.is_some() || !cfg!(unix));
    assert!(place.names().is_empty());
    assert_eq!(place.pull(&look).await.unwrap(), "tiny-Q4_K_M");
    assert_eq!(place.names(), ["tiny-Q4_K_M"]);
    assert!(place.bytes_of("tiny-Q4_K_M") == file && !place.has_rests());
    // The token is the hub's, not of whoever it redirects to.
    let log = host.stage.log.lock().unwrap().clone();
    for (what, who) in &log {
        assert_eq!(who.is_some(), !what.starts_with("/near.gguf"), "{what}");
    }
    // Once more: nothing is fetched.
    let look = place
        .look("hf:acme/tiny-GGUF:tiny-Q4_K_M.gguf")
        .await
        .unwrap();
    assert_eq!(look.have_bytes, look.bytes);
    let before = host.ranges().len();
    place.pull(&look).await.unwrap();
    assert_eq!(host.ranges().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_several_files_is_one() {
    let host = Host::with(model(1000)).await;
    let files = split_model(200_000);
    *host.stage.split.lock().unwrap() = files.clone();
    let place = Place::new(&host);
    let look = place.look("hf:acme/split-GGUF:Q8_0").await.unwrap();
    let bytes: Vec<_> = files.iter().map(|(_, file)| file.len() as u64).collect();
    assert_eq!((&*look.name, look.bytes), ("big-Q8_0", bytes.iter().sum()));
    let listed: Vec<_> = look
        .files()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
    let want: Vec<_> = files
        .iter()
        .map(|(name, file)| (name.clone(), file.len() as u64))
        .collect();
    assert_eq!(listed, want);
    // What is judged beforehand has the tensors of all.
    let head = look.head.as_ref().unwrap();
    assert!(head.tensor("blk.1.weight").is_some() && head.tensor("blk.2.weight").is_some());
    // The first part comes last, and what is there without it is no model.
    host.fail(
        std::iter::repeat_n(Fault::None, 18).chain(std::iter::repeat_n(Fault::Status(404), 99)),
    );
    place.pull(&look).await.unwrap_err();
    assert!(place.names().is_empty());
    host.stage.faults.lock().unwrap().clear();
    let again = place.look("hf:acme/split-GGUF:Q8_0").await.unwrap();
    assert!(
        again.have_bytes > bytes[1],
        "{} of {bytes:?}",
        again.have_bytes
    );
    assert_eq!(place.pull(&again).await.unwrap(), "big-Q8_0");
    assert_eq!(place.names(), ["big-Q8_0"]);
    let entry = place.library.find("big-Q8_0").unwrap();
    assert_eq!(entry.file_bytes, look.bytes);
    assert_eq!(entry.open().unwrap().tensors().len(), 2);
    assert!(!place.has_rests());
    assert_eq!(place.library.delete("big-q8_0").unwrap(), "big-Q8_0");
    assert!(place.names().is_empty());
    let folder = place.library.directory();
    let left = std::fs::read_dir(folder).unwrap().filter(|it| {
        let name = it.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("big")
    });
    assert_eq!(left.count(), 0, "a part stayed");
    // By the address of the first, too; nothing is known of their digests then.
    let by_address = place
        .look(&host.url("/a/big-Q8_0-00001-of-00002.gguf?x=1"))
        .await
        .unwrap();
    assert_eq!(by_address.bytes, look.bytes);
    place.pull(&by_address).await.unwrap();
    assert!(place.library.find("big-Q8_0").unwrap().open().is_ok());
    let later = place
        .look(&host.url("/a/big-Q8_0-00002-of-00002.gguf"))
        .await;
    assert!(matches!(later, Err(Error::BadReference { .. })));
    // Not beside one file of the same name, and not with settings over it.
    let beside = Wish {
        name: Some("a/b".to_owned()),
        ..Wish::of("hf:acme/split-GGUF".parse::<Reference>().unwrap())
    };
    assert!(place.puller.look(&beside).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_registry_comes_with_its_settings() {
    let file = model(100_000);
    let host = Host::with(file.clone()).await;
    let place = Place::new(&host);
    let look = place.look("ollama:tiny:1b").await.unwrap();
    assert_eq!(
        (&*look.name, look.licence.as_deref()),
        ("tiny:1b", Some("MIT License"))
    );
    assert!(
        look.notes.iter().any(|it| it.contains("template")),
        "{:?}",
        look.notes
    );
    place.pull(&look).await.unwrap();
    let entry = place.library.find("tiny:1b").unwrap();
    assert_eq!(entry.manifest.system.as_deref(), Some(SYSTEM));
    assert_eq!(entry.manifest.parameters.temperature, Some(0.5));
    assert_eq!(entry.manifest.from, format!("sha256:{}", digest_of(&file)));
    assert!(place.bytes_of("tiny:1b") == file && !place.has_rests());
    // Another name for the same file costs no more bytes.
    let before = host.ranges().len();
    assert_eq!(place.have("ollama:tiny").await.unwrap(), "tiny");
    let later = host.ranges().split_off(before);
    assert!(
        later.iter().all(|range| range == "bytes=0-1048575"),
        "{later:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_keeps_the_name_that_its_client_knows() {
    let host = Host::with(model(50_000)).await;
    let place = Place::new(&host);
    let name = "hf.co/acme/tiny-GGUF:Q4_K_M";
    let wish = Wish {
        name: Some(name.to_owned()),
        ..Wish::of(Reference::of_ollama_name(name).unwrap())
    };
    let look = place.puller.look(&wish).await.unwrap();
    assert_eq!(place.pull(&look).await.unwrap(), name);
    assert_eq!(place.names(), [name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_by_its_address() {
    let file = model(200_000);
    let host = Host::with(file.clone()).await;
    let place = Place::new(&host);
    let look = place.look(&host.url("/far.gguf")).await.unwrap();
    assert_eq!((&*look.name, look.licence.as_deref()), ("far", Some("bsd")));
    assert!(look.digest.is_none() && look.notes[0].contains("digest"));
    place.pull(&look).await.unwrap();
    assert!(place.bytes_of("far") == file);
    // Under a name that is taken, nothing is overwritten.
    let error = place.pull(&look).await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    // A digest that a person knows is held to.
    let mut wish = Wish::of(host.url("/far.gguf").parse().unwrap());
    wish.name = Some("other".to_owned());
    wish.sha256 = Some("0".repeat(64));
    let look = place.puller.look(&wish).await.unwrap();
    let error = place.pull(&look).await.unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    assert_eq!(place.names(), ["far"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_leads_elsewhere_is_refused() {
    let host = Host::with(model(50_000)).await;
    let place = Place::new(&host);
    for (from, part) in [
        ("hf:acme/none", "is not there"),
        ("hf:acme/tiny-GGUF:Q2_K", "it has Q8_0, Q4_K_M"),
        (
            "hf:acme/tiny-GGUF:BF16",
            "00002-of-00002.gguf\" is not there",
        ),
        ("ollama:none", "is not there"),
        ("ollama:evil/tiny", "a digest is none"),
        ("https://example.com/page", "does not end in `.gguf`"),
        ("http://192.0.2.1/x.gguf", "plain HTTP"),
    ] {
        let error = place.look(from).await.unwrap_err().to_string();
        assert!(error.contains(part), "{from}: {error}");
    }
    let mut wish = Wish::of("hf:acme/tiny-GGUF".parse().unwrap());
    for name in ["../x", "a/../b", "x.gguf", "/etc/passwd", "a\\b", ""] {
        wish.name = Some(name.to_owned());
        let error = place.puller.look(&wish).await.unwrap_err();
        assert!(matches!(error, Error::Library(_)), "{name}: {error}");
    }
    assert!(place.names().is_empty() && !place.has_rests());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_offline_is_told_so() {
    let host = Host::with(Vec::new()).await;
    let place = Place::new(&host);
    // A port that nobody listens on: it was given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = place
        .look(&format!("http://{address}/x.gguf"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is this machine online?"),
        "{error}"
    );
}
