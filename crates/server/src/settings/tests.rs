//! Settings from all sources.

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Settings of a file, an environment and flags.
fn resolve(
    file: &str,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Resolved, SettingsError> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), file).unwrap();
    Sources {
        home: home.path().to_owned(),
        file: None,
        env: pairs(env),
        flags: pairs(flags),
    }
    .resolve()
}

fn origin(resolved: &Resolved, key: &str) -> Origin {
    let index = FIELDS.iter().position(|field| field.key == key).unwrap();
    resolved.origins[index].clone()
}

#[test]
fn every_setting_is_listed_once() {
    let all = serde_json::to_value(Settings::default()).unwrap();
    let mut keys: Vec<_> = all.as_object().unwrap().keys().map(|key| &**key).collect();
    let mut listed: Vec<_> = FIELDS.iter().map(|field| field.key).collect();
    keys.sort_unstable();
    listed.sort_unstable();
    assert_eq!(keys, listed);
}

#[test]
fn the_guide_lists_the_settings_as_they_are() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/serve.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let table = guide_table();
    assert!(
        guide.replace("\r\n", "\n").contains(&table),
        "docs/guide/serve.md should have this table:\n{table}"
    );
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let file = "port = 1\nkeep_alive = \"1m\"\nmax_streams = 7\n";
    let env = [
        ("TROIKA_PORT", "2"),
        ("TROIKA_KEEP_ALIVE", "-1"),
        ("TROIKA_ISA", "avx2"),
        ("TROIKA_CTX", ""),
    ];
    let resolved = resolve(file, &env, &[("port", "3")]).unwrap();
    assert_eq!(resolved.settings.port, 3);
    assert_eq!(origin(&resolved, "port"), Origin::Flag("--port".to_owned()));
    assert_eq!(resolved.settings.keep_alive, KeepAlive::Forever);
    let variable = Origin::Env("TROIKA_KEEP_ALIVE".to_owned());
    assert_eq!(origin(&resolved, "keep_alive"), variable);
    assert_eq!(resolved.settings.max_streams, 7);
    assert!(matches!(origin(&resolved, "max_streams"), Origin::File(_)));
    assert_eq!(origin(&resolved, "host"), Origin::Default);
}

#[test]
fn text_becomes_what_is_meant() {
    let env = [
        ("TROIKA_MEMORY_BUDGET", "1.5GiB"),
        (
            "TROIKA_CORS_ORIGINS",
            "https://a.example, http://b.example:81",
        ),
        ("TROIKA_ALLOW_UNAUTHENTICATED_NETWORK", "true"),
        ("TROIKA_HOST", "localhost"),
        ("TROIKA_THREADS", "3"),
        ("TROIKA_LOG_FORMAT", "json"),
        ("TROIKA_POLICY", "prefer_npu"),
        ("TROIKA_RESERVE", "2GiB"),
        ("TROIKA_ENERGY_BUDGET_WH", "0.5"),
        ("TROIKA_RECORD", "load.jsonl"),
        ("TROIKA_VIRTUAL", "dual-3090"),
        ("TROIKA_ENERGY_LOG", "plug.csv"),
    ];
    let settings = resolve("", &env, &[]).unwrap().settings;
    assert_eq!(settings.memory_budget, Some(3 << 29));
    assert_eq!(settings.cors_origins.len(), 2);
    assert!(settings.allow_unauthenticated_network);
    assert!(settings.host.is_loopback());
    assert_eq!(settings.threads, Some(3));
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.policy.name(), "PREFER_NPU");
    assert_eq!(settings.reserve, Some(2 << 30));
    assert_eq!(settings.energy_budget_wh, Some(0.5));
    assert_eq!(settings.record, Some("load.jsonl".into()));
    assert_eq!(settings.energy_log, Some("plug.csv".into()));
    assert_eq!(settings.virtual_machine.as_deref(), Some("dual-3090"));
}

#[test]
fn what_is_printed_can_be_read_back() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings {
        memory_budget: Some(1 << 33),
        threads: Some(2),
        policy: "frugal".parse().unwrap(),
        kv_type: troika_base::KvType::Q8_0,
        reserve: Some(3 << 20),
        energy_budget_wh: Some(120.5),
        draft: crate::Draft::Model {
            name: "small".to_owned(),
            only: Some("big".to_owned()),
        },
        virtual_machine: Some("core-ultra-258v".to_owned()),
        allowed_hosts: vec!["a".to_owned(), "b".to_owned()],
        ..Settings::at(home.path())
    };
    let set = FIELDS
        .iter()
        .filter(|field| !field.json(&settings).is_null());
    let flags = set.map(|field| (field.key.to_owned(), field.text(&settings)));
    let sources = Sources {
        home: home.path().to_owned(),
        flags: flags.collect(),
        ..Sources::default()
    };
    assert_eq!(sources.resolve().unwrap().settings, settings);
}

#[test]
fn the_example_is_a_file_without_effect_until_the_marks_are_gone() {
    let text = example(&Settings::default());
    assert_eq!(
        resolve(&text, &[], &[]).unwrap().settings.port,
        Settings::default().port
    );
    let set = text.lines().filter_map(|line| {
        let line = line.strip_prefix("# ")?;
        (line.contains(" = ") && !line.contains('<')).then_some(line)
    });
    let set: Vec<_> = set.collect();
    assert_eq!(
        set.len(),
        FIELDS.len() - 8,
        "all but those without a default"
    );
    let resolved = resolve(&set.join("\n"), &[], &[]).unwrap();
    assert_eq!(resolved.settings, Settings::default());
}

#[test]
fn mistakes_are_named_with_their_place() {
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c [&'c str]);
    let cases: [Case<'_>; 12] = [
        (
            "prot = 1",
            &[],
            &["no setting `prot`", "did you mean `port`"],
        ),
        ("zzz = 1", &[], &["no setting `zzz`", "troika config"]),
        ("port = \"x\"", &[], &["port", "config.toml"]),
        ("port = ", &[], &["not TOML", "line 1"]),
        (
            "",
            &[("TROIKA_PORT", "99999")],
            &["port (from TROIKA_PORT)"],
        ),
        (
            "",
            &[("TROIKA_HOST", "example.org")],
            &["host", "no address"],
        ),
        (
            "policy = \"turbo\"",
            &[],
            &["policy", "turbo", "balanced, cool", "PREFER_NPU"],
        ),
        (
            "energy_budget_wh = 0",
            &[],
            &["energy_budget_wh", "greater than 0"],
        ),
        (
            "",
            &[("TROIKA_ENERGY_BUDGET_WH", "NaN")],
            &["energy_budget_wh (from TROIKA_ENERGY_BUDGET_WH)"],
        ),
        ("draft = \"big=\"", &[], &["draft", "MODEL=SMALLER"]),
        ("max_streams = 0", &[], &["max_streams", "from 1 to 4096"]),
        (
            "cors_origins = [\"chat.example\"]",
            &[],
            &["cors_origins", "https://chat.example"],
        ),
    ];
    for (file, env, want) in cases {
        let message = resolve(file, env, &[]).unwrap_err().to_string();
        for part in want {
            assert!(message.contains(part), "{file:?} {env:?}: {message}");
        }
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let sources = Sources {
        file: Some("/nowhere/at/all.toml".into()),
        ..Sources::default()
    };
    let error = sources.resolve().unwrap_err();
    assert!(matches!(error, SettingsError::Unreadable { .. }));
}
