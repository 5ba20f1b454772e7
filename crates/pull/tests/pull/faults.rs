//! Hosts that fail in the middle, files that are not what was said, disks that lose bytes.

use std::path::PathBuf;
use std::time::Duration;

use troika_pull::{Error, Patience};

use crate::host::{Fault, Host, model};
use crate::{PIECE, Place, open, patience};

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let file = model(400_000);
    let host = Host::with(file.clone()).await;
    let patient = Patience {
        stall: Duration::from_millis(500),
        tries: 60,
        ..patience()
    };
    let place = Place::with(&host, &patient, None);
    let look = place.look("hf:acme/tiny-GGUF").await.unwrap();
    let faults = [
        Fault::Cut(0),
        Fault::Cut(20_000),
        Fault::Stall(17_000),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Cut(1),
    ];
    host.fail(faults);
    place.pull(&look).await.unwrap();
    assert!(place.bytes_of("tiny-Q4_K_M") == file && !place.has_rests());
    assert!(host.stage.faults.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_good_for_a_while_is_asked_for_again() {
    let file = model(800_000);
    let host = Host::with(file.clone()).await;
    let place = Place::new(&host);
    let look = place.look("hf:acme/tiny-GGUF").await.unwrap();
    *host.stage.lasts.lock().unwrap() = Some(6);
    let before = host.ranges().len();
    place.pull(&look).await.unwrap();
    assert!(place.bytes_of("tiny-Q4_K_M") == file && !place.has_rests());
    let log = host.stage.log.lock().unwrap();
    let asked = log
        .iter()
        .skip(before)
        .filter(|(what, _)| what.contains("/resolve/"));
    let ways = asked.count() as u32;
    let answers: u32 = host.stage.tickets.lock().unwrap().iter().sum();
    // Asked for again, and not for every row: four at the start, and up to four each time that an address ends.
    assert!(
        answers > 12 && ways > answers / 6 && ways < answers,
        "{ways} for {answers}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_told_and_good_parts_are_kept() {
    let file = model(800_000);
    let host = Host::with(file.clone()).await;
    let impatient = Patience {
        stall: Duration::from_millis(300),
        ..patience()
    };
    for (fault, part) in [
        (Fault::WebPage, "a web page in place of the file"),
        (Fault::Tag, "changed"),
        (Fault::Total, "were announced"),
        (Fault::Place, "in place of byte"),
        (Fault::Loop, "in a circle"),
        (Fault::Downgrade, "plain HTTP"),
        (Fault::Status(404), "is not there"),
        (Fault::Status(401), "does not give"),
        (Fault::Status(500), "status 500"),
        (Fault::Stall(10), "sent nothing for"),
        (Fault::Cut(10), "broke off"),
    ] {
        let mut place = Place::new(&host);
        let look = place.look(&host.url("/x.gguf")).await.unwrap();
        if matches!(fault, Fault::Stall(_)) {
            place.puller = open(place.home.path(), &host.url(""), &impatient, None).1;
        }
        // Some rows come; then all requests fail, until whoever asks gives up.
        let faults = std::iter::repeat_n(fault.clone(), 200);
        host.fail(std::iter::repeat_n(Fault::None, 6).chain(faults));
        let error = place.pull(&look).await.unwrap_err().to_string();
        assert!(error.contains(part), "{fault:?}: {error}");
        assert!(place.names().is_empty(), "{fault:?}");
        // All is well again, and what came before is not asked for again.
        host.stage.faults.lock().unwrap().clear();
        place.puller = open(place.home.path(), &host.url(""), &patience(), None).1;
        let again = place.look(&host.url("/x.gguf")).await.unwrap();
        assert!(again.have_bytes >= PIECE, "{fault:?}: {}", again.have_bytes);
        host.stage.log.lock().unwrap().clear();
        place.pull(&again).await.unwrap();
        assert!(place.bytes_of("x") == file, "{fault:?}");
        assert_eq!(asked(&host), again.bytes - again.have_bytes, "{fault:?}");
        host.stage.log.lock().unwrap().clear();
    }
}

/// Bytes of all ranges that were asked for.
fn asked(host: &Host) -> u64 {
    let length = |range: &String| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some(end.parse::<u64>().ok()? + 1 - start.parse::<u64>().ok()?)
    };
    host.ranges().iter().filter_map(length).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_than_was_announced_is_thrown_away() {
    let host = Host::with(model(200_000)).await;
    *host.stage.digest.lock().unwrap() = Some("a".repeat(64));
    let place = Place::new(&host);
    let error = place.have("hf:acme/tiny-GGUF").await.unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    assert!(place.names().is_empty() && !place.has_rests());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_or_has_no_room_is_refused_before_it_comes() {
    let host = Host::with(vec![b'x'; 5000]).await;
    let place = Place::new(&host);
    let error = place.have(&host.url("/x.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::NotAModel { .. }), "{error}");
    host.stage.serve(model(2 << 20));
    *host.stage.total.lock().unwrap() = Some(3 << 40);
    let error = place.have(&host.url("/y.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    *host.stage.total.lock().unwrap() = None;
    let error = place.have(&host.url("/loop.gguf")).await.unwrap_err();
    assert!(error.to_string().contains("in a circle"), "{error}");
    let error = place.have(&host.url("/many/x.gguf")).await.unwrap_err();
    assert!(error.to_string().contains("ten times"), "{error}");
    host.fail([Fault::WebPage]);
    let error = place.have(&host.url("/z.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::WebPage { .. }), "{error}");
    assert!(place.names().is_empty() && !place.has_rests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_ranges_gives_the_whole() {
    let file = model(300_000);
    let host = Host::with(file.clone()).await;
    *host.stage.has_no_ranges.lock().unwrap() = true;
    let place = Place::new(&host);
    let look = place.look(&host.url("/x.gguf")).await.unwrap();
    assert!(
        look.notes.iter().any(|it| it.contains("whole")),
        "{:?}",
        look.notes
    );
    // What came before the cut is here, and what comes again is passed over.
    host.fail([Fault::Cut(100_000), Fault::Cut(200_000)]);
    place.pull(&look).await.unwrap();
    assert!(place.bytes_of("x") == file);
}

/// A pull that was stopped half way, and the file with its bytes.
async fn half(host: &Host, place: &Place) -> PathBuf {
    let look = place.look("hf:acme/tiny-GGUF").await.unwrap();
    *host.stage.pace.lock().unwrap() = Some((PIECE as usize, Duration::from_millis(20)));
    // Each connection has its first row then, which is an eighth of the file.
    let begun = host.ranges().len();
    let watching = async {
        while host.ranges().len() < begun + 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = place.pull(&look) => panic!("too quick: {ended:?}"),
        () = watching => {}
    }
    *host.stage.pace.lock().unwrap() = None;
    let folder = place.home.path().join("models/.pulls");
    let mut pulls = std::fs::read_dir(folder).unwrap();
    pulls.next().unwrap().unwrap().path().join("data")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_was_stopped_goes_on() {
    let file = model(3_000_000);
    let host = Host::with(file.clone()).await;
    let place = Place::new(&host);
    half(&host, &place).await;
    assert!(place.names().is_empty());
    place.have("hf:acme/tiny-GGUF").await.unwrap();
    assert!(place.bytes_of("tiny-Q4_K_M") == file && !place.has_rests());
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_the_disk_lost_are_fetched_again() {
    let file = model(3_000_000);
    let host = Host::with(file.clone()).await;
    let place = Place::new(&host);
    let data = half(&host, &place).await;
    // As after a loss of power: the journal was brought to disk, and some of the bytes were not.
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[PIECE as usize..2 * PIECE as usize].fill(0);
    bytes[100] ^= 1;
    std::fs::write(&data, &bytes).unwrap();
    place.have("hf:acme/tiny-GGUF").await.unwrap();
    assert!(place.bytes_of("tiny-Q4_K_M") == file && !place.has_rests());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_do_not_pull_the_same_at_once() {
    let host = Host::with(model(2_000_000)).await;
    *host.stage.pace.lock().unwrap() = Some((PIECE as usize, Duration::from_millis(40)));
    let place = Place::new(&host);
    let look = place.look("hf:acme/tiny-GGUF").await.unwrap();
    let (first, second) = tokio::join!(place.pull(&look), async {
        while host.ranges().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        place.pull(&look).await
    });
    // The second one waits for a while, and may find the model there.
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Ok(_) | Err(Error::Busy)), "{second:?}");
    assert_eq!(place.names(), ["tiny-Q4_K_M"]);
}
