//! Models from elsewhere: `pull`, `rm`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::{code, directory, json, stderr, stdout, troika_in};

/// A host with one file; gives its address.
fn host() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stories.gguf");
    let file = std::fs::read(assets).expect("is there");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let file = file.clone();
            std::thread::spawn(move || answer(client.expect("a client"), &file));
        }
    });
    format!("http://{address}")
}

fn answer(mut client: TcpStream, file: &[u8]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while client.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let range = text
            .lines()
            .find_map(|line| line.strip_prefix("range: bytes="));
        let answered = match range.and_then(|range| range.split_once('-')) {
            Some((start, end)) if text.starts_with("get /tales.gguf") => {
                let start: usize = start.parse().expect("a number");
                let end = (end.parse::<usize>().expect("a number") + 1).min(file.len());
                let told = format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{}\r\n\r\n",
                    end - start,
                    end - 1,
                    file.len()
                );
                let sent = client.write_all(told.as_bytes());
                sent.and_then(|()| client.write_all(&file[start..end]))
            }
            _ => client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        };
        if answered.is_err() {
            return;
        }
        head.clear();
    }
}

#[test]
fn a_model_is_pulled_run_and_deleted() {
    let home = directory("pull");
    let from = format!("{}/tales.gguf", host());
    let look = troika_in(&home, &["pull", &from, "--look"], b"");
    assert_eq!(code(&look), Some(0), "{}", stderr(&look));
    let page = stdout(&look);
    assert!(page.contains("tales") && page.contains("licence"), "{page}");
    let told = json(&troika_in(&home, &["pull", &from, "--look", "--json"], b""));
    assert!(told["fit"]["memory_bytes"].as_u64() > Some(0), "{told}");
    let pulled = troika_in(&home, &["pull", &from, "--yes"], b"");
    assert_eq!(code(&pulled), Some(0), "{}", stderr(&pulled));
    assert!(stdout(&pulled).contains("tales is installed"));
    let run = troika_in(&home, &["run", "tales", "Once", "-n2", "-q"], b"");
    assert_eq!(code(&run), Some(0), "{}", stderr(&run));
    let again = troika_in(&home, &["pull", &from, "--yes"], b"");
    assert!(stderr(&again).contains("already"), "{}", stderr(&again));
    let deleted = troika_in(&home, &["rm", "tales"], b"");
    assert_eq!(code(&deleted), Some(0), "{}", stderr(&deleted));
    assert!(!home.join("models/tales.gguf").exists());
    assert_eq!(code(&troika_in(&home, &["rm", "stories"], b"")), Some(1));
}

#[test]
fn what_cannot_be_pulled_is_said() {
    let home = directory("pull-not");
    let host = host();
    for (from, want, part) in [
        ("tales", 2, "names no model"),
        ("hf:../x", 2, "names no model"),
        ("http://192.0.2.1/x.gguf", 1, "plain HTTP"),
        (&*format!("{host}/none.gguf"), 1, "is not there"),
        ("http://127.0.0.1:1/x.gguf", 1, "is this machine online?"),
    ] {
        let output = troika_in(&home, &["pull", from], b"");
        assert_eq!(code(&output), Some(want), "{from}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(part),
            "{from}: {}",
            stderr(&output)
        );
    }
    std::fs::write(home.join("config.toml"), "offline = true\n").expect("is written");
    let output = troika_in(&home, &["pull", "hf:a/b"], b"");
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("`offline`"), "{}", stderr(&output));
}
