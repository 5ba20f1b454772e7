//! `troika top` against a server that is not there, and one that plays a made-up state.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use super::{code, json, stderr, stdout, troika};

/// Answers this many requests with a state, each on a connection of its own.
fn playing(n: usize) -> String {
    let state = include_str!("../../../server/src/web/fixtures/busy.json");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("is bound"));
    thread::spawn(move || {
        for stream in listener.incoming().take(n) {
            let mut stream = stream.expect("a client");
            let asked = BufReader::new(stream.try_clone().expect("is open")).lines();
            asked
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .for_each(drop);
            let length = state.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            stream
                .write_all((head + state).as_bytes())
                .expect("the client reads");
        }
    });
    url
}

#[test]
fn a_frame_is_printed_where_nobody_watches() {
    for flags in [&[][..], &["--once"]] {
        let url = playing(2);
        let output = troika(&[&["top", "--url", &url], flags].concat());
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("npu0") && text.contains("background 5, oldest 12.8 s"));
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn the_state_is_handed_on_to_programs() {
    let output = troika(&["top", "--json", "--url", &playing(1)]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json(&output)["devices"][2]["name"], "npu0");
}

#[test]
fn a_server_that_is_not_there_fails_and_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("is bound"));
    drop(listener);
    let output = troika(&["top", "--url", &url]);
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("no server answers at http://127.0.0.1") && text.contains("troika serve"),
        "{text}"
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn an_address_that_is_none_is_wrong_use() {
    for url in ["https://127.0.0.1:11435", "localhost:11435"] {
        let output = troika(&["top", "--url", url]);
        assert_eq!(code(&output), Some(2), "{url}");
        assert!(stderr(&output).contains("begins with http://"), "{url}");
    }
    let output = troika(&["top", "--key-file", "no-such-file"]);
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("cannot read the key in no-such-file"));
}
