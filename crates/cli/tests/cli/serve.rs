//! The server's verbs: `config`, `keys`, and what `serve` says before it serves.

use std::net::TcpListener;

use crate::{code, directory, json, stderr, stdout, troika_in};

#[test]
fn settings_are_shown_with_their_sources() {
    let home = directory("config");
    std::fs::write(home.join("config.toml"), "port = 4000\n").expect("is written");
    let output = troika_in(&home, &["config", "--json", "--keep-alive", "90s"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let rows = json(&output);
    let row = |key: &str| {
        let rows = rows.as_array().expect("a list");
        rows.iter().find(|row| row["key"] == key).expect("is there")
    };
    assert_eq!(row("port")["value"], 4000);
    assert!(
        row("port")["from"]
            .as_str()
            .is_some_and(|from| from.ends_with("config.toml"))
    );
    assert_eq!(
        (&row("keep_alive")["value"], &row("keep_alive")["from"]),
        (&"90s".into(), &"--keep-alive".into())
    );
    assert_eq!(row("host")["from"], "default");
    let output = troika_in(&home, &["config"], b"");
    assert!(stdout(&output).contains("port"), "{}", stdout(&output));
}

#[test]
fn a_mistake_in_the_file_is_wrong_use() {
    let home = directory("config-mistake");
    std::fs::write(home.join("config.toml"), "queue_lenght = 1\n").expect("is written");
    for verb in ["config", "serve"] {
        let output = troika_in(&home, &[verb], b"");
        assert_eq!(code(&output), Some(2));
        assert!(
            stderr(&output).contains("did you mean `queue_length`"),
            "{}",
            stderr(&output)
        );
    }
    let output = troika_in(&home, &["config", "--example"], b"");
    assert!(
        stdout(&output).contains("# queue_length = 256"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn keys_are_made_listed_and_removed() {
    let home = directory("keys");
    let add = [
        "keys", "add", "laptop", "--scope", "admin", "--rate", "5", "--class", "batch",
    ];
    let output = troika_in(&home, &add, b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let key = stdout(&output).trim().to_owned();
    assert!(key.starts_with("tk-"), "{key}");
    assert_eq!(
        code(&troika_in(&home, &add, b"")),
        Some(2),
        "the name is taken"
    );

    let listed = json(&troika_in(&home, &["keys", "list", "--json"], b""));
    assert_eq!(listed[0]["name"], "laptop");
    assert_eq!(listed[0]["scopes"], serde_json::json!(["admin"]));
    assert_eq!(listed[0]["requests_per_minute"], 5);
    assert_eq!(listed[0]["default_class"], "batch");
    assert!(
        !listed
            .to_string()
            .contains(key.rsplit('-').next().expect("a part"))
    );

    let urgent = ["keys", "add", "phone", "--class", "urgent"];
    let refused = troika_in(&home, &urgent, b"");
    assert_eq!(code(&refused), Some(2));
    let known = "interactive, agent, background, batch";
    assert!(stderr(&refused).contains(known), "{}", stderr(&refused));

    assert_eq!(
        code(&troika_in(&home, &["keys", "remove", "laptop"], b"")),
        Some(0)
    );
    assert_eq!(
        code(&troika_in(&home, &["keys", "remove", "laptop"], b"")),
        Some(2)
    );
}

#[test]
fn the_network_is_not_served_without_keys() {
    let home = directory("exposed");
    let output = troika_in(&home, &["serve", "--host", "0.0.0.0", "--port", "0"], b"");
    assert_eq!(code(&output), Some(2));
    assert!(
        stderr(&output).contains("troika keys add"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("has one").port().to_string();
    let output = troika_in(&directory("taken"), &["serve", "--port", &port], b"");
    assert_eq!(code(&output), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains(&port) && said.contains("another --port"),
        "{said}"
    );
}

#[test]
fn a_draft_model_that_is_not_there_is_named() {
    let home = directory("draft");
    for (draft, says) in [
        ("nobody", "there is no model \"nobody\""),
        ("nobody=stories", "there is no model \"nobody\""),
        ("stories=", "MODEL=SMALLER"),
    ] {
        let serve = ["serve", "--port", "0", "--draft", draft];
        let output = troika_in(&home, &serve, b"");
        assert_eq!(code(&output), Some(2), "{draft}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}
