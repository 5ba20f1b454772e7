//! The program is killed at fifty points, and never loses more than a part.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use troika_pull::{Progress, Wish};

use crate::host::{Host, model};
use crate::{PIECE, open, patience};

const KILLS: usize = 50;
/// Of four connections, each fetches one piece.
const IN_FLIGHT: usize = 4;
/// Where the child is told what to do.
const HOST: &str = "TROIKA_TEST_PULL_HOST";
const HOME: &str = "TROIKA_TEST_PULL_HOME";

/// What runs in the process that is killed; nothing where nobody started it for that.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(host), Ok(home)) = (std::env::var(HOST), std::env::var(HOME)) else {
        return;
    };
    let (_, puller) = open(home.as_ref(), &host, &patience(), None);
    let wish = Wish::of("hf:acme/tiny-GGUF".parse().unwrap());
    let look = puller.look(&wish).await.unwrap();
    println!("\nlooked");
    let (told, _) = watch::channel(Progress::default());
    puller.pull(&look, &told).await.unwrap();
    println!("\ndone");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_goes_on() {
    let file = model(1 << 20);
    let host = Host::with(file.clone()).await;
    *host.stage.pace.lock().unwrap() = Some((PIECE as usize / 2, Duration::from_micros(500)));
    let mut home = tempfile::tempdir().unwrap();
    let (mut kills, mut wholes, mut lost_most, mut resumed) = (0, 0, 0, 0);
    while kills < KILLS {
        let before = whole_pieces(&home).map_or(0, |(done, _)| done);
        let point = Point {
            pieces: before + random(12) as usize,
            then: Duration::from_micros(random(4000)),
        };
        let (address, path) = (host.url(""), home.path().to_owned());
        let is_done = tokio::task::spawn_blocking(move || one_life(&address, &path, &point)).await;
        if is_done.unwrap() {
            wholes += 1;
            assert_is_whole(&home, &file);
            home = tempfile::tempdir().unwrap();
            continue;
        }
        kills += 1;
        // It may have been killed after the last step, whose work is whole then.
        let (library, _) = open(home.path(), &host.url(""), &patience(), None);
        if !library.list().unwrap().is_empty() {
            assert_is_whole(&home, &file);
            home = tempfile::tempdir().unwrap();
            continue;
        }
        let Some((done, lost)) = whole_pieces(&home) else {
            continue;
        };
        assert!(done >= before, "{done} pieces are here, {before} were");
        resumed += usize::from(before > 0);
        lost_most = lost_most.max(lost);
        assert!(lost <= IN_FLIGHT, "{lost} pieces were on their way");
    }
    assert!(
        resumed > 5,
        "of {kills} lives, {resumed} went on; {wholes} ended; {lost_most} lost"
    );
    // Left alone, it ends.
    let (library, puller) = open(home.path(), &host.url(""), &patience(), None);
    *host.stage.pace.lock().unwrap() = None;
    let wish = Wish::of("hf:acme/tiny-GGUF".parse().unwrap());
    let look = puller.look(&wish).await.unwrap();
    let (told, _) = watch::channel(Progress::default());
    puller.pull(&look, &told).await.unwrap();
    assert_eq!(library.list().unwrap().len(), 1);
    assert_is_whole(&home, &file);
}

/// When a child is killed.
struct Point {
    /// So many pieces are whole,
    pieces: usize,
    /// and so much later, which falls anywhere.
    then: Duration,
}

/// Starts the child and kills it; whether it was done before that.
fn one_life(host: &str, home: &Path, point: &Point) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(HOST, host)
        .env(HOME, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let looked = lines.any(|line| line == "looked");
    assert!(looked, "the child fails before it pulls");
    let mut is_over = || child.try_wait().unwrap().is_some();
    while !is_over() && records(home) < point.pieces {
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(point.then);
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_none_or(|it| it.success()), "the child fails");
    ended.is_some()
}

/// How many records the journal has.
fn records(home: &Path) -> usize {
    let folder = std::fs::read_dir(home.join("models/.pulls"));
    let folder = folder.ok().and_then(|mut it| it.next()?.ok());
    let journal = folder.and_then(|it| it.path().join("done").metadata().ok());
    journal.map_or(0, |it| it.len() as usize / 16)
}

/// How many pieces the journal tells of, and how many others have bytes; `None` before anything was written.
fn whole_pieces(home: &TempDir) -> Option<(usize, usize)> {
    let folder = std::fs::read_dir(home.path().join("models/.pulls")).ok()?;
    let folder = folder.flatten().next()?.path();
    let data = std::fs::read(folder.join("data")).ok()?;
    let journal = std::fs::read(folder.join("done")).ok()?;
    let numbers = journal.chunks_exact(16).map(|record| {
        let number: [u8; 4] = record[..4].try_into().unwrap();
        u32::from_le_bytes(number) as usize
    });
    let mut done: Vec<_> = numbers.collect();
    done.sort_unstable();
    done.dedup();
    let pieces = data.chunks(PIECE as usize).enumerate();
    let begun = pieces.filter(|(index, piece)| {
        // Weights are not zero; the first piece has zeros of its own.
        done.binary_search(index).is_err() && piece.iter().any(|&byte| byte != 0)
    });
    Some((done.len(), begun.count()))
}

fn assert_is_whole(home: &TempDir, file: &[u8]) {
    let path = home.path().join("models/tiny-Q4_K_M.gguf");
    assert!(std::fs::read(path).unwrap() == file, "another file came");
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below.max(1)
}
