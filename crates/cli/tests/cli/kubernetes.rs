//! The manifests of `deploy/kubernetes` say what is true of the program: each flag, setting, variable, route, port and metric
//! in them is one that there is. Whether Kubernetes takes them, `cargo xtask kubernetes` says.

mod served;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use troika_server::Settings;
use troika_server::settings::{FIELDS, Sources};

use crate::{stdout, troika};

/// The folder of the manifests.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// Every YAML file below a folder, by its path.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("is a folder")
        .map(|entry| entry.expect("is an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            let text = std::fs::read_to_string(&path).expect("is text");
            found.push((path, text));
        }
    }
    found
}

/// Every document of every file, patches within kustomizations included.
fn documents() -> Vec<Value> {
    let mut all = Vec::new();
    for (path, text) in files(&folder()) {
        let read: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for document in read {
            let patches = document["patches"].as_array().cloned().unwrap_or_default();
            for patch in patches {
                let text = patch["patch"].as_str().expect("is text");
                let patch: Value = serde_saphyr::from_str(text).expect("is YAML");
                all.push(patch);
            }
            all.push(document);
        }
    }
    assert!(all.len() > 20, "{}", all.len());
    all
}

/// The one of the base that has this kind and name.
fn base(kind: &str, name: &str) -> Value {
    let all = files(&folder().join("base"));
    let mut documents = all
        .iter()
        .flat_map(|(_, text)| serde_saphyr::from_multiple::<Value>(text).expect("is YAML"));
    let found =
        documents.find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("the base has no {kind} {name}"))
}

/// All values that stand behind a key, wherever it is.
fn all_of<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key {
                    found.push(value);
                }
                all_of(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| all_of(item, key, found)),
        _ => {}
    }
}

/// The text of the configuration file.
fn configuration() -> String {
    let map = base("ConfigMap", "troika");
    map["data"]["config.toml"]
        .as_str()
        .expect("is text")
        .to_owned()
}

/// The settings that the configuration file comes to.
fn settings() -> Settings {
    let home = crate::directory("kubernetes-settings");
    let file = home.join("config.toml");
    std::fs::write(&file, configuration()).expect("is written");
    let sources = Sources {
        home,
        file: Some(file),
        env: Vec::new(),
        flags: Vec::new(),
    };
    sources.resolve().expect("the program takes it").settings
}

fn pod() -> Value {
    base("StatefulSet", "troika")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

#[test]
fn every_setting_is_one_and_every_variable_is_read() {
    settings();
    let known: BTreeSet<String> = FIELDS
        .iter()
        .map(|field| field.env())
        .chain(["TROIKA_HOME", "TROIKA_CONFIG"].map(str::to_owned))
        .collect();
    let mut ours = 0;
    for document in documents() {
        let mut lists = Vec::new();
        all_of(&document, "env", &mut lists);
        for entry in lists.into_iter().filter_map(Value::as_array).flatten() {
            let name = entry["name"].as_str().expect("has a name");
            if name.starts_with("TROIKA_") {
                assert!(known.contains(name), "the program reads no {name}");
                ours += 1;
            }
        }
    }
    assert!(ours >= 5, "{ours}");
}

#[test]
fn the_verb_and_its_flags_are_known() {
    let args = container()["args"].clone();
    let args: Vec<&str> = args
        .as_array()
        .expect("is a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let help = stdout(&troika(&["help", args[0]]));
    let flags: Vec<_> = args.iter().filter(|arg| arg.starts_with("--")).collect();
    assert!(!flags.is_empty());
    for flag in flags {
        assert!(help.contains(*flag), "`troika {}` has no {flag}", args[0]);
    }
    let at = args
        .iter()
        .position(|arg| *arg == "--config")
        .expect("is told");
    let mounts = container()["volumeMounts"].clone();
    let mounted = mounts.as_array().expect("is a list");
    assert!(
        mounted
            .iter()
            .any(|mount| mount["mountPath"] == args[at + 1]),
        "{}",
        args[at + 1]
    );
}

#[test]
fn ports_are_the_one_that_is_listened_on() {
    let port = settings().port;
    assert_eq!(container()["ports"][0]["containerPort"], port);
    for name in ["troika", "troika-pods"] {
        let ports = base("Service", name)["spec"]["ports"].clone();
        assert_eq!(
            (&ports[0]["port"], &ports[0]["targetPort"]),
            (&port.into(), &"http".into())
        );
    }
    for document in documents() {
        if document["kind"] == "HTTPRoute" {
            assert_eq!(document["spec"]["rules"][0]["backendRefs"][0]["port"], port);
        }
    }
    // A service `troika` would set TROIKA_PORT to `tcp://...`, which is no port.
    for document in documents() {
        let mut pods = Vec::new();
        all_of(&document, "enableServiceLinks", &mut pods);
        let runs = matches!(document["kind"].as_str(), Some("Pod" | "StatefulSet"));
        let is_whole = document["spec"]["selector"].is_object() || document["kind"] == "Pod";
        if runs && is_whole {
            assert_eq!(
                pods,
                [&Value::Bool(false)],
                "{}",
                document["metadata"]["name"]
            );
        }
    }
}

#[test]
fn there_is_time_to_drain() {
    let pod = pod();
    let seconds = |value: &Value| value.as_u64().expect("seconds");
    let sleep = seconds(&container()["lifecycle"]["preStop"]["sleep"]["seconds"]);
    let drain = settings().drain_timeout.as_secs();
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    assert!(
        grace >= sleep + drain + 10,
        "{sleep} + {drain} s of {grace}"
    );
    let readiness = container()["readinessProbe"].clone();
    let seen = seconds(&readiness["periodSeconds"]) * seconds(&readiness["failureThreshold"]);
    assert!(
        seen < drain,
        "a pod that drains is out of the service before it is gone"
    );
}

#[test]
fn what_a_pod_is_given_is_what_the_server_is_told() {
    let settings = settings();
    let resources = container()["resources"].clone();
    let limit = resources["limits"]["memory"].as_str().expect("is told");
    let limit: u64 = limit
        .strip_suffix("Gi")
        .expect("GiB")
        .parse()
        .expect("a number");
    let budget = settings
        .memory_budget
        .expect("the program sees the node's memory, so it is told");
    assert!(
        budget < limit << 30,
        "connections and caches need something, too"
    );
    assert_eq!(
        resources["requests"]["memory"],
        resources["limits"]["memory"]
    );
    let threads = settings
        .threads
        .expect("the program sees the node's cores, so it is told");
    assert_eq!(resources["requests"]["cpu"], threads.to_string());
    let scaler = base("HorizontalPodAutoscaler", "troika");
    let jobs = &scaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"];
    assert_eq!(*jobs, settings.max_streams.to_string());
    for document in documents() {
        if document["kind"] == "ScaledObject" {
            let threshold = &document["spec"]["triggers"][0]["metadata"]["threshold"];
            assert_eq!(*threshold, settings.max_streams.to_string());
        }
    }
}

#[test]
fn files_are_where_the_server_looks_for_them() {
    let settings = settings();
    let container = container();
    let mounts = container["volumeMounts"].as_array().expect("is a list");
    let mount = |path: &Path| {
        let found = mounts.iter().find(|mount| {
            let at = Path::new(mount["mountPath"].as_str().expect("is a path"));
            path.starts_with(at)
        });
        found.unwrap_or_else(|| panic!("nothing is mounted at {}", path.display()))
    };
    assert_eq!(mount(&settings.models_dir)["name"], "models");
    assert_eq!(mount(&settings.models_dir)["readOnly"], true);
    assert_eq!(mount(&settings.onnx_dir)["name"], "models");
    assert_eq!(mount(&settings.keys_file)["name"], "keys");
    let env = container["env"].as_array().expect("is a list");
    let home = env
        .iter()
        .find(|entry| entry["name"] == "TROIKA_HOME")
        .expect("is told");
    let state = mount(Path::new(home["value"].as_str().expect("is a path")));
    assert_eq!(
        (&state["name"], &state["readOnly"]),
        (&"state".into(), &Value::Null)
    );
    // The keys' file is the secret's key of that name.
    let secret = files(&folder())
        .into_iter()
        .find(|(path, _)| path.ends_with("secret.example.yaml"));
    let (_, text) = secret.expect("is there");
    let secret: Value = serde_saphyr::from_str(&text).expect("is YAML");
    let name = settings
        .keys_file
        .file_name()
        .and_then(|name| name.to_str())
        .expect("is text");
    assert_eq!(secret["stringData"][name], "", "an example has no value");
    assert!(
        pod()["volumes"]
            .as_array()
            .expect("is a list")
            .iter()
            .any(|volume| { volume["secret"]["secretName"] == secret["metadata"]["name"] })
    );
}

#[test]
fn the_user_is_that_of_the_image() {
    let image = folder().join("../../dist/Containerfile");
    let image = std::fs::read_to_string(image).expect("is there");
    let user = pod()["securityContext"]["runAsUser"]
        .as_u64()
        .expect("is told");
    assert!(image.contains(&format!("--uid {user} ")), "{user}");
    assert!(image.contains("TROIKA_HOME=/var/lib/troika"));
    for document in documents() {
        let mut found = Vec::new();
        all_of(&document, "containers", &mut found);
        for container in found.into_iter().filter_map(Value::as_array).flatten() {
            let context = &container["securityContext"];
            // Patches name a container and add to it.
            if container["args"].is_null() && container["command"].is_null() {
                assert!(context.is_null(), "a patch loosens nothing");
                continue;
            }
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"][0], "ALL");
        }
    }
    let context = &pod()["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
}

#[test]
fn nothing_leaves_but_where_a_component_says_so() {
    let policy = base("NetworkPolicy", "troika");
    let spec = &policy["spec"];
    assert_eq!(
        spec["policyTypes"],
        serde_json::json!(["Ingress", "Egress"])
    );
    assert_eq!(spec["egress"], serde_json::json!([]));
    let set = base("StatefulSet", "troika");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(spec["podSelector"]["matchLabels"], *labels);
    for name in ["troika", "troika-pods"] {
        assert_eq!(base("Service", name)["spec"]["selector"], *labels);
    }
    let budget = base("PodDisruptionBudget", "troika");
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn remotes_are_such_as_the_program_takes_and_the_network_lets_through() {
    let documents = documents();
    let map = documents
        .iter()
        .find(|document| {
            document["metadata"]["name"] == "troika-hybrid" && document["kind"] == "ConfigMap"
        })
        .expect("is there");
    let text = map["data"]["hybrid.toml"].as_str().expect("is text");
    let config = troika_remote::Config::parse(text).expect("is understood");
    troika_remote::Rules::new(&config).expect("the rules hold together");
    let policy = documents
        .iter()
        .find(|document| {
            document["metadata"]["name"] == "troika-remotes" && document["kind"] == "NetworkPolicy"
        })
        .expect("is there");
    let ways = policy["spec"]["egress"].as_array().expect("is a list");
    for remote in &config.remote {
        // http://SERVICE.NAMESPACE.svc.cluster.local:PORT/v1
        let host = remote.url.trim_start_matches("http://");
        let (host, rest) = host.split_once(':').expect("has a port");
        let port: u16 = rest
            .split('/')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        let namespace = host.split('.').nth(1).expect("has a namespace");
        let open = ways.iter().any(|way| {
            way["ports"][0]["port"] == port
                && way["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                    == namespace
        });
        assert!(open, "{}", remote.url);
    }
    assert_eq!(ways.len(), config.remote.len() + 1, "and the cluster's DNS");
}
