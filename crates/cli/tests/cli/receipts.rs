//! `troika receipts`: what left, added up and checked.

use std::fs;
use std::path::Path;

use troika_remote::config::Api;
use troika_remote::receipts::{
    Durability, End, FILE, Intent, Ledger as _, Outcome, Receipts, this_month,
};
use troika_server::job::Cost;

use super::{code, directory, json, stderr, stdout, troika_in};

/// Three requests: two that were answered, and one without an end.
fn write(home: &Path) {
    let receipts = Receipts::open(&home.join(FILE), Durability::Soon).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runs");
    for (i, rule) in ["long", "long", "hard"].into_iter().enumerate() {
        let intent = Intent {
            request_id: format!("req-{i}"),
            to: "far".to_owned(),
            host: "api.example.com".to_owned(),
            api: Api::Openai,
            rule: rule.to_owned(),
            model: "large".to_owned(),
            bytes_out: 2048,
            cost_at_most: None,
            redacted: Default::default(),
        };
        let id = runtime.block_on(receipts.begin(intent)).expect("begins");
        let cost = (i == 0).then(|| Cost {
            amount: "0.0025".parse().expect("is an amount"),
            currency: "EUR".to_owned(),
        });
        if i < 2 {
            receipts.end(
                id,
                End {
                    outcome: Outcome::Answered,
                    status: Some(200),
                    bytes_out: 2048,
                    bytes_in: 4096,
                    prompt_tokens: Some(500),
                    completion_tokens: Some(100),
                    cost,
                },
            );
        }
    }
}

#[test]
fn receipts_are_added_up_shown_and_checked() {
    let home = directory("receipts");
    let none = troika_in(&home, &["receipts", "sum"], b"");
    assert_eq!(code(&none), Some(0));
    assert!(
        stderr(&none).contains("Nothing has left"),
        "{}",
        stderr(&none)
    );
    write(&home);

    let sums = json(&troika_in(
        &home,
        &["receipts", "sum", "--by", "rule", "--json"],
        b"",
    ));
    assert_eq!(sums["sums"]["long"]["requests"], 2);
    assert_eq!(sums["sums"]["long"]["cost"]["EUR"], "0.0025");
    assert_eq!(sums["total"]["open"], 1);
    let shown = stdout(&troika_in(&home, &["receipts", "sum"], b""));
    assert!(shown.contains(&this_month()), "{shown}");
    assert!(
        shown.contains("0.0025 EUR, 1 unknown, 1 without an end"),
        "{shown}"
    );
    let wrong = troika_in(&home, &["receipts", "sum", "--month", "November"], b"");
    assert_eq!(code(&wrong), Some(2), "{}", stderr(&wrong));

    let last = stdout(&troika_in(&home, &["receipts", "tail", "-n", "2"], b""));
    let lines: Vec<_> = last.lines().collect();
    assert_eq!(lines.len(), 3, "{last}");
    assert!(
        lines[1].contains("answered") && lines[2].contains("no end"),
        "{last}"
    );

    let checked = json(&troika_in(&home, &["receipts", "verify", "--json"], b""));
    assert_eq!(
        (&checked["holds"], &checked["lines"]),
        (&true.into(), &5.into())
    );
    let head = checked["head"].as_str().expect("is text");
    let found = troika_in(&home, &["receipts", "verify", "--contains", head], b"");
    assert!(stdout(&found).contains("line 5"), "{}", stdout(&found));
    let other = "0".repeat(64);
    let found = troika_in(&home, &["receipts", "verify", "--contains", &other], b"");
    assert_eq!(code(&found), Some(1));

    let text = fs::read_to_string(home.join(FILE)).expect("reads");
    fs::write(home.join(FILE), text.replacen("2048", "204", 1)).expect("writes");
    let broken = troika_in(&home, &["receipts", "verify"], b"");
    assert_eq!(code(&broken), Some(1));
    assert!(
        stderr(&broken).contains("line 1 of the receipts: it was changed"),
        "{}",
        stderr(&broken)
    );
    fs::remove_file(home.join(FILE)).expect("is removed");
    let gone = troika_in(&home, &["receipts", "verify"], b"");
    assert_eq!(code(&gone), Some(1), "{}", stderr(&gone));
}
