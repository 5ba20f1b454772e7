//! What is wrong with a file is told by line and field, and with what would be right.

use super::{OPEN, REMOTES};
use crate::config::{Config, ConfigError, Fault};
use crate::rules::{Loaded, Rules};

fn faults(text: &str) -> Vec<Fault> {
    match Loaded::parse(text) {
        Err(ConfigError::Wrong { faults, .. }) => faults,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is sound:\n{text}"),
    }
}

/// Behind [`REMOTES`], a line that is wrong.
fn check(line: &str, field: &str, part: &str) {
    let before = format!("{REMOTES}\n");
    let text = format!("{before}{line}\n");
    let faults = faults(&text);
    let told = faults.iter().map(Fault::to_string).collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{line}: {told:?}");
    assert!(told[0].contains(part), "{line}: {told:?}");
    assert_eq!(faults[0].field, field, "{line}: {told:?}");
    let first = 1 + before.matches('\n').count();
    let last = first + line.matches('\n').count();
    let at = faults[0].line.unwrap();
    assert!((first..=last).contains(&at), "{line}: {told:?}");
}

#[test]
fn names_that_there_are_not() {
    let rule = |rest: &str| format!("[[rule]]\nname = 'it'\naction = 'remote'\n{rest}");
    for (line, field, part) in [
        ("[hybird]", "hybird", "did you mean `hybrid`?"),
        (
            "[hybrid]\nbudget_per_dya = 3",
            "hybrid.budget_per_dya",
            "did you mean `budget_per_day`?",
        ),
        (&rule("whne = {}"), "rule[0].whne", "did you mean `when`?"),
        (
            &rule("when = { prompt_token = '>3' }"),
            "rule[0].when.prompt_token",
            "`prompt_tokens`?",
        ),
        (
            &rule("when = { class = ['agents'] }"),
            "rule[0].when.class[0]",
            "did you mean `agent`?",
        ),
        (
            &rule("redact = ['email']"),
            "rule[0].redact[0]",
            "did you mean `emails`?",
        ),
        (
            &rule("to = ['ours', 'deer']"),
            "rule[0].to[1]",
            "no remote `deer`; did you mean `dear`?",
        ),
        (
            &rule("to = ['moon']"),
            "rule[0].to[0]",
            "known are dear, ours",
        ),
        (
            &rule("model = 'bigg'"),
            "rule[0].model",
            "did you mean `big`?",
        ),
        (
            &rule("to = ['ours']\nmodel = 'big'"),
            "rule[0].model",
            "known are qwen3:8b",
        ),
        (
            "[[rule]]\nname = 'it'\naction = 'remot'",
            "rule[0].action",
            "did you mean `remote`?",
        ),
        (
            "[cascade]\njudge = 'sample'",
            "cascade.judge",
            "did you mean `samples`?",
        ),
    ] {
        check(line, field, part);
    }
}

#[test]
fn values_that_make_no_sense() {
    let rule = |rest: &str| format!("[[rule]]\nname = 'it'\naction = 'remote'\n{rest}");
    let kept = |rest: &str| format!("[[rule]]\nname = 'it'\naction = 'local-only'\n{rest}");
    for (line, field, part) in [
        ("[hybrid", "", "unclosed"),
        (
            "[hybrid]\nbudget_per_day = -1",
            "hybrid.budget_per_day",
            "less than nothing",
        ),
        ("[hybrid]\ncurrency = 'euro'", "hybrid.currency", "`EUR`"),
        (
            "[hybrid]\nprivate_content = ['a', '(b']",
            "hybrid.private_content[1]",
            "unclosed group",
        ),
        (
            "[hybrid]\nprivate_content = ['a*']",
            "hybrid.private_content[0]",
            "where there is nothing",
        ),
        (
            "[hybrid]\nprivate_models = ['a*b']",
            "hybrid.private_models[0]",
            "stands at the end",
        ),
        (
            "[hybrid]\nprivate_keys = ['']",
            "hybrid.private_keys[0]",
            "names no key",
        ),
        (
            "[[rule]]\nname = ''\naction = 'remote'",
            "rule[0].name",
            "64 characters",
        ),
        (&rule("to = []"), "rule[0].to", "leave it out for all"),
        (&rule("to = ['ours', 'ours']"), "rule[0].to[1]", "twice"),
        (
            &rule("when = { prompt_tokens = 8000 }"),
            "rule[0].when.prompt_tokens",
            "`\">8000\"`",
        ),
        (
            &rule("when = { prompt_tokens = '8000' }"),
            "rule[0].when.prompt_tokens",
            "`\">8000\"`",
        ),
        (
            &rule("when = { queue = '>deadline' }"),
            "rule[0].when.queue",
            "only ttft_s",
        ),
        (
            &rule("when = { class = [] }"),
            "rule[0].when.class",
            "never match",
        ),
        (
            &rule("when = { header = { 'a b' = 'c' } }"),
            "rule[0].when.header",
            "no header's name",
        ),
        (
            &rule("when = { model = ['*x'] }"),
            "rule[0].when.model[0]",
            "at the end",
        ),
        (
            &kept("to = ['ours']"),
            "rule[0].to",
            "no meaning where jobs stay",
        ),
        (
            &kept("redact = ['emails']"),
            "rule[0].redact",
            "no meaning where jobs stay",
        ),
        ("[cascade]\nsamples = 1", "cascade.samples", "two answers"),
        (
            "[cascade.thresholds]\nqwen = nan",
            "cascade.thresholds.qwen",
            "no number",
        ),
    ] {
        check(line, field, part);
    }
}

#[test]
fn remotes_that_are_none() {
    let remote = |change: (&str, &str)| {
        let lines = [
            ("name", "'third'"),
            ("url", "'https://third.example/v1'"),
            ("api", "'openai'"),
            ("key", "'env:THIRD_KEY'"),
            ("models", "{ a = 'b' }"),
        ];
        let mut lines: Vec<_> = lines
            .into_iter()
            .filter(|(name, _)| *name != change.0)
            .collect();
        lines.push(change);
        let lines = lines
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"));
        format!("[[remote]]\n{}", lines.collect::<String>())
    };
    let sound = format!("{REMOTES}\n{}", remote(("region", "'eu'")));
    assert_eq!(Loaded::parse(&sound).unwrap().config.remote.len(), 3);
    for (name, value, part) in [
        ("name", "'Third One'", "small letters"),
        ("name", "'dear'", "already"),
        ("url", "'third.example'", "no address"),
        ("url", "'https:///v1'", "no address"),
        ("url", "'https://third.example/v1?key=canary'", "no address"),
        ("url", "'https://third.example/../v1'", "no address"),
        ("url", "'https://third.example\\v1'", "no address"),
        ("url", "'https://third.example:99999'", "no address"),
        ("url", "'https://[::1]x/'", "no address"),
        ("url", "'ftp://third.example'", "not spoken"),
        ("url", "'http://third.example'", "allow_plain_http"),
        (
            "url",
            "'http://localhost.third.example'",
            "allow_plain_http",
        ),
        (
            "url",
            "'https://user:canary@third.example'",
            "no name and password",
        ),
        ("key", "'sk-canary-123'", "named by it"),
        ("key", "'env:'", "named by it"),
        ("models", "{}", "serves no model"),
        ("models", "{ a = '' }", "names no model"),
        ("price", "{ input = -1, output = 1 }", "less than nothing"),
        ("limits", "{ concurrent = 0 }", "could ever go"),
        ("limits", "{ concurent = 1 }", "did you mean `concurrent`?"),
        ("api", "'openapi'", "did you mean `openai`?"),
    ] {
        let text = format!("{REMOTES}\n{}", remote((name, value)));
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let told = faults[0].to_string();
        assert!(told.contains(part), "{name} = {value}: {told}");
        assert!(
            faults[0].field.starts_with(&format!("remote[2].{name}")),
            "{told}"
        );
        if !value.starts_with('{') && part != "no address" {
            assert!(!told.contains("canary"), "{told}");
        }
    }
    for url in [
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000",
        "http://localhost/v1",
        "https://api.third.example:8443/openai/v1/",
    ] {
        let text = format!("{REMOTES}\n{}", remote(("url", &format!("'{url}'"))));
        assert!(Loaded::parse(&text).is_ok(), "{url}");
    }
    let plain = remote(("url", "'http://10.0.0.7:8000/v1'")) + "allow_plain_http = true\n";
    assert!(Loaded::parse(&plain).is_ok());
}

#[test]
fn all_mistakes_are_told_in_the_files_order() {
    let text = "\
[hybrid]
currency = 'euro'
private_content = ['(']

[[rule]]
name = 'a'
action = 'remote'
to = ['nowhere']

[[rule]]
name = 'a'
action = 'compete'

[[remote]]
name = 'X'
url = 'https://x.example'
api = 'openai'
models = { a = 'b' }
";
    let error = Loaded::parse(text).unwrap_err().in_file("hybrid.toml");
    same(
        &error.to_string(),
        "hybrid.toml has 5 mistakes:
  line 2, hybrid.currency: \"euro\" is no currency; write it like `EUR`
  line 3, hybrid.private_content[0]: it is no pattern: unclosed group
  line 8, rule[0].to[0]: there is no remote `nowhere`; known are X
  line 11, rule[1].name: there is a rule `a` already
  line 15, remote[0].name: \"X\" is no name; use small letters, digits and `-`, such as `example-eu`",
    );
    let config = Config::parse(text).unwrap();
    let error = Rules::new(&config).unwrap_err().to_string();
    assert!(
        !error.contains("line"),
        "a configuration has no lines: {error}"
    );
    assert_eq!(error.lines().count(), 5);
}

#[track_caller]
fn same(have: &str, want: &str) {
    assert_eq!(have, want, "\n{have}");
}

#[test]
fn rules_without_remotes_that_let_go_are_a_mistake() {
    let faults = faults(OPEN);
    assert_eq!(faults[0].field, "rule[0].action");
    assert!(faults[0].message.contains("no [[remote]]"), "{}", faults[0]);
    assert_eq!(faults[0].line, Some(3));
}
