//! A server that runs with the configuration file of the manifests, and answers what they ask of it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{all_of, configuration, container, documents, files, folder};
use crate::{directory, stdout, troika_in};

/// A pod, as far as a process is one.
struct Pod {
    child: Child,
    url: String,
    key: String,
    agent: ureq::Agent,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pod {
    /// Starts it, and waits for its startup probe as the kubelet does.
    fn start() -> Self {
        let home = directory("kubernetes-pod");
        let made = troika_in(
            &home,
            &[
                "keys",
                "add",
                "test",
                "--scope",
                "admin",
                "--scope",
                "inference",
            ],
            b"",
        );
        let file = home.join("file.toml");
        std::fs::write(&file, configuration()).expect("is written");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = free.local_addr().expect("has one").port();
        drop(free);
        let path = |name: &str| home.join(name).to_str().expect("is text").to_owned();
        let child = Command::new(env!("CARGO_BIN_EXE_troika"))
            .args([
                "serve",
                "--config",
                &path("file.toml"),
                "--host",
                "127.0.0.1",
            ])
            // What of the file is the pod's own, and not this machine's.
            .args([
                "--port",
                &port.to_string(),
                "--models-dir",
                &path("models"),
                "--onnx-dir",
                &path("onnx"),
            ])
            .args(["--keys-file", &path("keys.toml")])
            .env("TROIKA_HOME", &home)
            .env("TROIKA_ALLOWED_HOSTS", allowed_hosts())
            .env("TROIKA_GPU", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let pod = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            key: stdout(&made).trim().to_owned(),
            agent: config.build().into(),
        };
        let probe = container()["startupProbe"].clone();
        let path = probe["httpGet"]["path"]
            .as_str()
            .expect("is a path")
            .to_owned();
        let patience = probe["periodSeconds"].as_u64().expect("s")
            * probe["failureThreshold"].as_u64().expect("n");
        let until = Instant::now() + Duration::from_secs(patience);
        while pod.try_get(&path, "troika") != Some(200) {
            assert!(Instant::now() < until, "the startup probe gave up");
            std::thread::sleep(Duration::from_millis(200));
        }
        pod
    }

    fn try_get(&self, path: &str, host: &str) -> Option<u16> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("Host", host);
        request.call().ok().map(|answer| answer.status().as_u16())
    }

    fn get(&self, path: &str) -> u16 {
        self.try_get(path, "troika").expect("answers")
    }

    /// An answer of the model inside, so that there are numbers.
    fn ask(&self) {
        let body = serde_json::json!({
            "model": "stories", "max_tokens": 8, "messages": [{"role": "user", "content": "Once"}],
        });
        let request = self.agent.post(format!("{}/v1/chat/completions", self.url));
        let answer = request
            .header("Authorization", format!("Bearer {}", self.key))
            .header("Content-Type", "application/json")
            .send(body.to_string());
        assert_eq!(answer.expect("answers").status(), 200);
    }

    fn metrics(&self) -> String {
        let request = self.agent.get(format!("{}/metrics", self.url));
        let request = request.header("Authorization", format!("Bearer {}", self.key));
        let mut answer = request.call().expect("answers");
        assert_eq!(answer.status(), 200);
        answer.body_mut().read_to_string().expect("is text")
    }
}

/// The names that the manifests have the server known by.
fn allowed_hosts() -> String {
    let env = container()["env"].clone();
    let entry = env
        .as_array()
        .expect("is a list")
        .iter()
        .find(|entry| entry["name"] == "TROIKA_ALLOWED_HOSTS");
    entry.expect("is told")["value"]
        .as_str()
        .expect("is text")
        .to_owned()
}

/// Names of metrics in a query: words that begin with `troika_`.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split(|c: char| !is_of_name(c))
        .filter(|word| word.starts_with("troika_"))
        .map(str::to_owned)
        .collect()
}

/// Everything that the adapter's rules and KEDA ask Prometheus for.
fn queries() -> Vec<String> {
    let mut found = Vec::new();
    for document in documents() {
        for key in ["seriesQuery", "metricsQuery", "query"] {
            let mut values = Vec::new();
            all_of(&document, key, &mut values);
            found.extend(
                values
                    .into_iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
    }
    assert!(found.len() >= 6, "{found:?}");
    found
}

#[test]
fn probes_routes_and_metrics_are_answered() {
    let pod = Pod::start();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = container()[probe]["httpGet"]["path"].clone();
        assert_eq!(pod.get(path.as_str().expect("is a path")), 200, "{probe}");
    }
    for host in allowed_hosts().split(',') {
        assert_eq!(
            pod.try_get("/v1/models", host),
            Some(401),
            "{host} is a name, and a key is wanted"
        );
    }
    assert_eq!(pod.try_get("/v1/models", "evil.example"), Some(403));

    // What the gateway lets through is there, and what Prometheus reads wants a key.
    for document in documents() {
        let mut endpoints = Vec::new();
        all_of(&document, "podMetricsEndpoints", &mut endpoints);
        for endpoint in endpoints.into_iter().filter_map(Value::as_array).flatten() {
            assert_eq!(pod.get(endpoint["path"].as_str().expect("is a path")), 401);
            assert_eq!(endpoint["authorization"]["type"], "Bearer");
        }
        if document["kind"] == "HTTPRoute" {
            let prefixes = document["spec"]["rules"][0]["matches"].clone();
            let prefixes: BTreeSet<_> = prefixes
                .as_array()
                .expect("is a list")
                .iter()
                .map(|rule| {
                    rule["path"]["value"]
                        .as_str()
                        .expect("is a path")
                        .to_owned()
                })
                .collect();
            assert_eq!(prefixes.len(), 2);
            for (prefix, route) in [("/v1", "/v1/models"), ("/api", "/api/tags")] {
                assert!(prefixes.contains(prefix), "{prefix}");
                assert_eq!(pod.get(route), 401, "{route}");
            }
        }
    }

    pod.ask();
    let metrics = pod.metrics();
    for name in queries().iter().flat_map(|query| metrics_in(query)) {
        let is_there = metrics
            .lines()
            .any(|line| line.starts_with(&format!("{name}{{")));
        assert!(is_there, "the server tells no {name}");
    }
}

#[test]
fn the_autoscaler_asks_for_what_the_adapter_makes() {
    let made: BTreeSet<String> = files(&folder().join("components/monitoring"))
        .iter()
        .flat_map(|(_, text)| serde_saphyr::from_multiple::<Value>(text).expect("is YAML"))
        .filter_map(|document| document["rules"]["custom"].as_array().cloned())
        .flatten()
        .map(|rule| rule["name"]["as"].as_str().expect("has a name").to_owned())
        .collect();
    let scaler = super::base("HorizontalPodAutoscaler", "troika");
    let metrics = scaler["spec"]["metrics"].as_array().expect("is a list");
    let asked: BTreeSet<String> = metrics
        .iter()
        .map(|metric| {
            metric["pods"]["metric"]["name"]
                .as_str()
                .expect("has a name")
                .to_owned()
        })
        .collect();
    assert_eq!(asked, made);
}

#[test]
fn queries_are_taken_apart() {
    let names = metrics_in("sum(troika_a{x=\"troika\"}) by (pod) + rate(troika_b_total[2m])");
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["troika_a", "troika_b_total"]
    );
    let kustomization: PathBuf = folder().join("base/kustomization.yaml");
    assert!(kustomization.is_file());
}
