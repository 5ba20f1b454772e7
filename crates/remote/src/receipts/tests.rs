//! The file of receipts: what is written comes back, what is changed is found, and who is killed loses nothing.

use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A directory with a file of receipts in it, perhaps.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(FILE)
    }

    fn open(&self) -> Receipts {
        Receipts::open(&self.path(), Durability::Soon).unwrap()
    }

    fn verify(&self) -> Result<Summary, ReceiptsError> {
        verify(&self.path())
    }

    /// A file with `count` requests, all but every fifth of them ended.
    fn with(count: u64) -> Self {
        let place = Self::new();
        let receipts = place.open();
        for i in 0..count {
            let id = wait(receipts.begin(intent(i))).unwrap();
            if i % 5 != 4 {
                receipts.end(id, end(Some(cost("0.0025"))));
            }
        }
        drop(receipts);
        place
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(future)
}

fn cost(amount: &str) -> Cost {
    Cost {
        amount: amount.parse().unwrap(),
        currency: "EUR".to_owned(),
    }
}

fn intent(i: u64) -> Intent {
    Intent {
        request_id: format!("req-{i}"),
        to: ["far", "farther"][i as usize % 2].to_owned(),
        host: "api.example.com".to_owned(),
        api: Api::Openai,
        rule: "big prompts".to_owned(),
        model: "large".to_owned(),
        bytes_out: 1000 + i,
        cost_at_most: Some(cost("0.0100")),
        redacted: [(Redact::Emails, 2)].into(),
    }
}

fn end(cost: Option<Cost>) -> End {
    End {
        outcome: Outcome::Answered,
        status: Some(200),
        bytes_out: 1000,
        bytes_in: 5000,
        prompt_tokens: Some(250),
        completion_tokens: Some(100),
        cost,
    }
}

fn money(spent: Spent) -> (String, String) {
    let text = |amount: Decimal| amount.normalize().to_string();
    (text(spent.today), text(spent.this_month))
}

#[test]
fn lines_are_as_the_format_says() {
    let place = Place::with(1);
    let text = fs::read_to_string(place.path()).unwrap();
    let times = regex::Regex::new(r#""at":"[^"]+""#).unwrap();
    let hashes = regex::Regex::new(r#""hash":"[0-9a-f]{64}""#).unwrap();
    let text = times.replace_all(&text, r#""at":T"#);
    let text = hashes.replace_all(&text, r#""hash":H"#);
    let want = concat!(
        r#"{"n":1,"at":T,"is":"intent","request_id":"req-0","to":"far","host":"api.example.com","api":"openai","#,
        r#""rule":"big prompts","model":"large","bytes_out":1000,"cost_at_most":{"amount":"0.01","currency":"EUR"},"#,
        r#""redacted":{"emails":2},"hash":H}"#,
        "\n",
        r#"{"n":2,"at":T,"is":"end","of":1,"outcome":"answered","status":200,"bytes_out":1000,"bytes_in":5000,"#,
        r#""prompt_tokens":250,"completion_tokens":100,"cost":{"amount":"0.0025","currency":"EUR"},"hash":H}"#,
        "\n",
    );
    assert_eq!(text, want);
}

#[test]
fn the_chain_can_be_checked_without_this_program() {
    use sha2::Digest as _;
    let place = Place::with(3);
    let text = fs::read_to_string(place.path()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut before = hex(&sha2::Sha256::digest("troika receipts 1"));
    for line in text.lines() {
        let (contents, seal) = line.split_at(line.len() - 75);
        let hash = hex(&sha2::Sha256::digest(format!("{before}{contents}}}")));
        assert_eq!(seal, format!(",\"hash\":\"{hash}\"}}"));
        before = hash;
    }
    assert_eq!(place.verify().unwrap().head.to_string(), before);
}

#[test]
fn sums_and_what_was_spent_are_the_same_after_a_start() {
    let place = Place::with(10);
    let receipts = place.open();
    // Eight at what they cost, two at what they may have.
    let spent = ("0.04".to_owned(), "0.04".to_owned());
    assert_eq!(money(receipts.spent("EUR")), spent);
    assert_eq!(receipts.spent("USD"), Spent::default());
    let month = this_month();
    receipts.tally(|tally| {
        let total = tally.total(Some(&month));
        assert_eq!((total.requests, total.answered, total.open), (10, 8, 2));
        assert_eq!(total.bytes_out, 8 * 1000 + 1004 + 1009);
        assert_eq!(total.cost["EUR"].0, "0.02".parse().unwrap());
        assert_eq!((total.redacted, total.cost_unknown), (20, 0));
        assert_eq!(tally.total(Some("1999-01")), Sum::default());
        let remotes = tally.sums(By::Remote, None);
        assert_eq!(remotes["far"].requests + remotes["farther"].requests, 10);
        assert_eq!(tally.sums(By::Month, None)[&*month], total);
        assert_eq!(tally.sums(By::Rule, None)["big prompts"], total);
        let last: Vec<_> = tally
            .last(2)
            .map(|it| (&*it.request_id, it.end.is_some()))
            .collect();
        assert_eq!(last, [("req-9", false), ("req-8", true)]);
    });
    let summary = place.verify().unwrap();
    assert_eq!((summary.lines, summary.vouched), (18, 18));
    assert_eq!((summary.sent, summary.open, summary.torn), (10, 2, 0));
}

#[test]
fn what_is_not_known_to_be_cheaper_counts_as_dear() {
    let place = Place::new();
    let receipts = place.open();
    let id = wait(receipts.begin(intent(0))).unwrap();
    assert_eq!(
        money(receipts.spent("EUR")).0,
        "0.01",
        "before it has ended"
    );
    receipts.end(id, end(None));
    let nothing = End {
        outcome: Outcome::Failed,
        bytes_out: 0,
        ..end(None)
    };
    let id = wait(receipts.begin(intent(1))).unwrap();
    receipts.end(id, nothing.clone());
    // A second end is none.
    receipts.end(id, end(Some(cost("5"))));
    let id = wait(receipts.begin(intent(2))).unwrap();
    receipts.end(id, end(Some(cost("0.002"))));
    drop(receipts);
    assert_eq!(money(place.open().spent("EUR")).0, "0.012");
    assert_eq!(place.verify().unwrap().lines, 6);
    assert_eq!(read(&place.path()).unwrap().total(None).cost_unknown, 1);
}

#[test]
fn who_gave_up_before_it_began_sent_nothing() {
    let place = Place::new();
    let receipts = place.open();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(async {
        for i in 0..20 {
            // Polled once, which asks the thread, and dropped.
            let mut begin = receipts.begin(intent(i));
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(begin.as_mut().poll(context).is_ready())
            });
            once.await;
        }
    });
    drop(receipts);
    let tally = read(&place.path()).unwrap();
    let total = tally.total(None);
    assert_eq!((total.requests, total.open, total.bytes_out), (20, 0, 0));
}

#[test]
fn two_cannot_write() {
    let place = Place::new();
    let first = place.open();
    let second = Receipts::open(&place.path(), Durability::Soon);
    assert!(matches!(second, Err(ReceiptsError::Busy)), "{second:?}");
    drop(first);
    place.open();
}

#[test]
fn nothing_leaves_once_somebody_else_wrote() {
    let place = Place::new();
    let receipts = place.open();
    wait(receipts.begin(intent(0))).unwrap();
    let mut other = OpenOptions::new().append(true).open(place.path()).unwrap();
    other.write_all(b"{}\n").unwrap();
    for i in 1..3 {
        let refused = wait(receipts.begin(intent(i))).unwrap_err();
        assert!(refused.to_string().contains("somebody else"), "{refused}");
    }
    drop(receipts);
    let broken = place.verify().unwrap_err().to_string();
    assert_eq!(broken, "line 2 of the receipts: it is no receipt");
    Receipts::open(&place.path(), Durability::Soon).expect_err("is broken");
}

#[test]
fn an_unfinished_line_is_put_aside() {
    let place = Place::with(2);
    let mut file = OpenOptions::new().append(true).open(place.path()).unwrap();
    file.write_all(b"{\"n\":5,\"at\"").unwrap();
    assert_eq!(place.verify().unwrap().unfinished_bytes, 11);
    drop(place.open());
    let summary = place.verify().unwrap();
    assert_eq!((summary.torn, summary.unfinished_bytes), (1, 0));
    assert_eq!((summary.lines, summary.vouched), (5, 5));
    let aside = fs::read(place.path().with_extension("torn")).unwrap();
    assert_eq!(aside, b"{\"n\":5,\"at\"\n");
}

#[test]
fn a_head_that_was_noted_is_found_again() {
    let place = Place::with(2);
    let noted = place.verify().unwrap().head;
    let receipts = place.open();
    wait(receipts.begin(intent(7))).unwrap();
    drop(receipts);
    assert_eq!(find(&place.path(), noted).unwrap(), Some(4));
    assert_eq!(find(&place.path(), Hash::origin()).unwrap(), None);
}

#[test]
fn without_its_head_a_chain_proves_too_little() {
    let place = Place::with(2);
    fs::remove_file(place.path().with_extension("head")).unwrap();
    let broken = place.verify().unwrap_err();
    let ReceiptsError::Broken { why, .. } = broken else {
        panic!("{broken}");
    };
    assert_eq!(why, Why::NoHead);
}

/// What somebody does to a file.
#[derive(Clone, Debug)]
enum Tampering {
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index, usize),
    RemoveLine(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    /// Cuts the end off.
    Cut(prop::sample::Index),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Tampering::Byte(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Tampering::Insert(at, byte)),
        (at(), 1..300usize).prop_map(|(at, count)| Tampering::Delete(at, count)),
        at().prop_map(Tampering::RemoveLine),
        (at(), at()).prop_map(|(from, to)| Tampering::Repeat(from, to)),
        (at(), at()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        at().prop_map(Tampering::Cut),
    ]
}

fn tampered(bytes: &[u8], tampering: &Tampering) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut lines: Vec<_> = bytes.split_inclusive(|b| *b == b'\n').collect();
    match tampering {
        Tampering::Byte(at, byte) => out[at.index(bytes.len())] = *byte,
        Tampering::Insert(at, byte) => out.insert(at.index(bytes.len()), *byte),
        Tampering::Delete(at, count) => {
            let at = at.index(bytes.len());
            out.drain(at..(at + count).min(bytes.len()));
        }
        Tampering::Cut(at) => out.truncate(at.index(bytes.len())),
        Tampering::RemoveLine(at) => {
            lines.remove(at.index(lines.len()));
            out = lines.concat();
        }
        Tampering::Repeat(from, to) => {
            lines.insert(to.index(lines.len() + 1), lines[from.index(lines.len())]);
            out = lines.concat();
        }
        Tampering::Swap(a, b) => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            out = lines.concat();
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_tampering_is_found(doings in prop::collection::vec(tampering(), 1..4)) {
        use std::sync::LazyLock;
        static PLACE: LazyLock<Place> = LazyLock::new(|| Place::with(12));
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(PLACE.path()).unwrap());
        let mut bytes = BYTES.clone();
        for doing in &doings {
            if !bytes.is_empty() {
                bytes = tampered(&bytes, doing);
            }
        }
        prop_assume!(bytes != *BYTES);
        let place = Place::new();
        fs::write(place.path(), &bytes).unwrap();
        let head = |path: PathBuf| path.with_extension("head");
        fs::copy(head(PLACE.path()), head(place.path())).unwrap();
        match place.verify() {
            Err(ReceiptsError::Broken { .. }) => {}
            // Something after the last line, which is all there.
            Ok(summary) => {
                prop_assert!(bytes.starts_with(&BYTES));
                prop_assert_eq!(summary.unfinished_bytes, (bytes.len() - BYTES.len()) as u64);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// Not a test: what the next one kills.
#[test]
#[ignore = "is run by `a_process_that_is_killed_loses_nothing_that_began`"]
fn child_that_writes_receipts() {
    let Some(path) = std::env::var_os("TROIKA_TEST_RECEIPTS") else {
        return;
    };
    let durability = match std::env::var_os("TROIKA_TEST_SAFE") {
        Some(_) => Durability::BeforeLeaving,
        None => Durability::Soon,
    };
    let receipts = Receipts::open(path.as_ref(), durability).unwrap();
    let mut out = std::io::stdout().lock();
    for i in 0.. {
        let id = wait(receipts.begin(intent(i))).unwrap();
        // From here on it would leave.
        writeln!(out, "begun {}", id.0).unwrap();
        out.flush().unwrap();
        if i % 3 == 0 {
            receipts.end(id, end(None));
        }
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_began() {
    let place = Place::new();
    let (mut began, mut killed) = (0, 0);
    for round in 0..12_u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = "receipts::tests::child_that_writes_receipts";
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        command.env("TROIKA_TEST_RECEIPTS", place.path());
        if round % 2 == 1 {
            command.env("TROIKA_TEST_SAFE", "1");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut begun = Vec::new();
        let mut next = |begun: &mut Vec<u64>| match lines.next() {
            Some(line) => {
                let line = line.unwrap();
                let id: Option<u64> = line
                    .rsplit_once("begun ")
                    .and_then(|(_, id)| id.parse().ok());
                begun.extend(id);
                true
            }
            None => false,
        };
        // Until it is at it, and a little longer.
        while begun.is_empty() && next(&mut begun) {}
        std::thread::sleep(Duration::from_millis(round * 17 % 40));
        // On Unix this is SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        while next(&mut begun) {}
        killed += 1;
        assert!(!begun.is_empty());
        let tally = read(&place.path()).expect("the chain holds");
        let text = fs::read_to_string(place.path()).unwrap();
        for id in begun {
            let line = text.lines().nth(id as usize - 1).expect("is there");
            assert!(line.starts_with(&format!("{{\"n\":{id},")), "{line}");
            assert!(line.contains("\"is\":\"intent\""));
            began += 1;
        }
        assert!(tally.sent() >= began, "round {round}");
        drop(place.open());
    }
    let summary = place.verify().unwrap();
    println!("{killed} kills, {began} begun, {summary:?}");
    assert_eq!(summary.unfinished_bytes, 0);
}

/// What a receipt takes of those who wait for it: well under a millisecond where the disk is not waited for.
#[test]
fn a_receipt_is_begun_quickly() {
    for (durability, count) in [(Durability::Soon, 500), (Durability::BeforeLeaving, 50)] {
        let place = Place::new();
        let receipts = Receipts::open(&place.path(), durability).unwrap();
        let mut times: Vec<_> = (0..count)
            .map(|i| {
                let start = Instant::now();
                let id = wait(receipts.begin(intent(i))).unwrap();
                let took = start.elapsed();
                receipts.end(id, end(None));
                took
            })
            .collect();
        times.sort();
        let median = times[times.len() / 2];
        println!(
            "{durability:?}: median {median:?}, slowest {:?}",
            times[times.len() - 1]
        );
        if durability == Durability::Soon {
            assert!(median < Duration::from_millis(1), "{median:?}");
        }
    }
}
