//! Asks a server, by plain HTTP: no redirects, no proxies, so that a key goes nowhere but there.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;

use super::view::{Placement, State};
use crate::exit::WrongUse;
use crate::output;

/// A server that has not answered by then is as good as gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer is longer: a state has some hundred bytes for each job at work.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A server.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
}

impl Client {
    /// # Errors
    /// [`WrongUse`] if the address is none that plain HTTP reaches.
    pub(super) fn new(url: &str, key: Option<String>) -> Result<Self, WrongUse> {
        let url = url.trim_end_matches('/');
        let wrong = |why: &str| WrongUse(format!("--url {}: {why}", output::line(url, 200)));
        let Some(host) = url.strip_prefix("http://") else {
            return Err(wrong(
                "an address begins with http://, such as http://127.0.0.1:11435; TLS is not spoken here",
            ));
        };
        if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("this is no address"));
        }
        if host
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            return Err(wrong("keys are named by --key-file, not in the address"));
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .build()
            .into();
        Ok(Self {
            agent,
            url: url.to_owned(),
            key,
        })
    }

    /// What the machine is doing.
    ///
    /// # Errors
    /// If no server answers, or not with a state.
    pub(super) fn state(&self) -> anyhow::Result<State> {
        self.get("/api/troika/state")
    }

    /// The same as the server writes it.
    ///
    /// # Errors
    /// As [`Client::state`].
    pub(super) fn state_json(&self) -> anyhow::Result<Value> {
        self.get("/api/troika/state")
    }

    /// How the jobs of a request were placed.
    ///
    /// # Errors
    /// If the server does not answer, or does not know it any more.
    pub(super) fn placements(&self, request: &str) -> anyhow::Result<Vec<Placement>> {
        self.get(&format!("/api/troika/placements/{}", encoded(request)))
    }

    /// The same as the server writes it.
    ///
    /// # Errors
    /// As [`Client::placements`].
    pub(super) fn placements_json(&self, request: &str) -> anyhow::Result<Value> {
        self.get(&format!("/api/troika/placements/{}", encoded(request)))
    }

    /// Sets what the machine is to be good at.
    ///
    /// # Errors
    /// If the server does not answer, or does not allow it.
    pub(super) fn set_policy(&self, name: &str) -> anyhow::Result<()> {
        let mut request = self.agent.put(format!("{}/api/troika/policy", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = json!({"policy": name}).to_string();
        let sent = request
            .header("content-type", "application/json")
            .send(&body);
        self.read(sent).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let text = self.read(request.call())?;
        let other = || format!("what answers at {} is no Troika of this version", self.url);
        serde_json::from_str(&text).with_context(other)
    }

    /// The text of an answer, if it is one of success.
    fn read(
        &self,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<String> {
        let mut response = sent.map_err(|error| {
            anyhow!(error).context(format!(
                "no server answers at {}; `troika serve` starts one, --url names another",
                self.url
            ))
        })?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body
            .read_to_string()
            .with_context(|| format!("the answer of {} broke off", self.url))?;
        match status {
            200..300 => Ok(text),
            401 | 403 => Err(anyhow!(
                "{}; put a key into a file and name it by --key-file, or set TROIKA_KEY",
                told(&text).unwrap_or_else(|| "the server needs an API key".to_owned())
            )),
            404 if told(&text).is_none() => Err(anyhow!(
                "what answers at {} is no Troika of this version",
                self.url
            )),
            _ => Err(anyhow!(
                "the server answered {status}: {}",
                told(&text).unwrap_or_else(|| output::line(&text, 200))
            )),
        }
    }
}

/// A part of a path: a client may call its request anything.
fn encoded(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// The message of an error's body.
fn told(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let message = body.pointer("/error/message").or(body.get("error"))?;
    Some(output::line(message.as_str()?, 400))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server for one request; what it was asked.
    fn answering(status: &str, body: &str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut asked, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                asked += &line;
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            asked + &String::from_utf8(body).unwrap()
        });
        (url, asked)
    }

    fn client(url: &str) -> Client {
        Client::new(url, Some("tk-1-2".to_owned())).expect("is an address")
    }

    fn refusal(status: &str, body: &str) -> String {
        let (url, asked) = answering(status, body);
        let error = client(&url).state().expect_err("is no state");
        asked.join().unwrap();
        format!("{error:#}")
    }

    #[test]
    fn a_state_is_asked_for_with_the_key() {
        let text = include_str!("../../../../server/src/web/fixtures/busy.json");
        let (url, asked) = answering("200 OK", text);
        assert_eq!(client(&url).state().expect("a state").devices.len(), 3);
        let asked = asked.join().unwrap().to_lowercase();
        assert!(
            asked.starts_with("get /api/troika/state http/1.1"),
            "{asked}"
        );
        assert!(asked.contains("authorization: bearer tk-1-2"), "{asked}");
    }

    #[test]
    fn a_policy_is_put() {
        let (url, asked) = answering("200 OK", "{}");
        client(&url).set_policy("frugal").expect("is taken");
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("PUT /api/troika/policy"), "{asked}");
        assert!(asked.ends_with(r#"{"policy":"frugal"}"#), "{asked}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let body = r#"{"error": {"message": "this server needs an API key\u001b[2J"}}"#;
        let error = refusal("401 Unauthorized", body);
        assert!(error.contains("key\u{fffd}[2J; put a key"), "{error}");
        let error = refusal("404 Not Found", "<html>");
        assert!(error.contains("is no Troika"), "{error}");
        let error = refusal("200 OK", "{}");
        assert!(error.contains("is no Troika"), "{error}");
        let error = refusal("302 Found", "");
        assert!(error.contains("answered 302"), "{error}");
        // A port that was just given back answers nobody.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = client(&url).state().expect_err("nobody is there");
        assert!(error.to_string().contains("`troika serve` starts one"));
    }

    #[test]
    fn addresses_and_numbers_are_looked_at_first() {
        for url in [
            "https://127.0.0.1",
            "127.0.0.1:11435",
            "http://",
            "http://a b",
            "http://me:secret@host",
        ] {
            assert!(Client::new(url, None).is_err(), "{url}");
        }
        assert_eq!(encoded("req_a-1"), "req_a-1");
        assert_eq!(encoded("../a?b ä"), "%2E%2E%2Fa%3Fb%20%C3%A4");
    }
}
