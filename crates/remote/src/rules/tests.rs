//! Judgements as owners see them, and that nothing private ever leaves.

mod mistakes;
mod money;
mod property;

use serde_json::json;
use troika_engine::chat::{ChatMessage, Content, ContentPart, FunctionCall, ToolCall};
use troika_job::{ChatPrompt, EmbedJob, Format, Job, Prompt, Wishes};
use troika_scheduler::Class;

use super::*;
use crate::privacy::Barred;

/// Two endpoints: one that is dear and knows everything, one without a price.
const REMOTES: &str = r#"
[[remote]]
name = "dear"
url = "https://api.example.com/v1"
api = "openai"
models = { "qwen3:8b" = "gpt-large", "big" = "gpt-huge" }
price = { input = 2, output = 10 }
limits = { prompt_tokens = 10_000 }

[[remote]]
name = "ours"
url = "https://ai.example.org"
api = "ollama"
models = { "qwen3:8b" = "qwen3:235b" }
"#;

/// Rules in front of two endpoints.
pub(super) fn loaded(rules: &str) -> Loaded {
    Loaded::parse(&format!("{rules}\n{REMOTES}")).unwrap_or_else(|error| panic!("{error}"))
}

/// A conversation of one turn.
pub(super) fn says(text: &str) -> Job {
    chat(vec![ChatMessage::new("user", text)])
}

fn chat(messages: Vec<ChatMessage>) -> Job {
    let prompt = ChatPrompt {
        messages,
        ..ChatPrompt::default()
    };
    Job {
        model: "qwen3:8b".to_owned(),
        prompt: Prompt::Chat(Box::new(prompt)),
        n: 1,
        max_tokens: Some(1000),
        ..Job::default()
    }
}

fn facts() -> Facts {
    Facts {
        prompt_tokens: Some(100),
        ..Facts::default()
    }
}

/// The rule that lets it go, and where to; or why it stays.
fn judged(rules: &str, job: Job, facts: &Facts) -> Result<Leave, String> {
    match loaded(rules).rules.judge(job, facts) {
        Judged::Stays(_, explanation) => {
            assert!(explanation.stays());
            Err(explanation.to_string())
        }
        Judged::MayLeave(_, leave, explanation) => {
            assert!(!explanation.stays());
            Ok(leave)
        }
    }
}

/// A rule that lets everything go, behind what else a file says.
const OPEN: &str = "[[rule]]\nname = \"all\"\naction = \"remote\"\n";

/// Whether all of it leaves; otherwise, why not.
fn leaves(more: &str, job: Job, facts: &Facts) -> Result<(), String> {
    judged(&format!("{more}\n{OPEN}"), job, facts).map(|_| ())
}

#[test]
fn without_rules_everything_stays() {
    assert_eq!(
        judged("", says("hello"), &facts()).unwrap_err(),
        "it stays on this machine: there are no rules"
    );
    let empty = Loaded::empty();
    let judged = empty.rules.judge(says("hello"), &facts());
    assert!(matches!(judged, Judged::Stays(..)));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = r#"
        [[rule]]
        name = "long"
        when = { prompt_tokens = ">8000" }
        action = "compete"

        [[rule]]
        name = "at work"
        when = { key = ["work"] }
        action = "local-only"

        [[rule]]
        name = "rest"
        action = "fallback"
        to = ["ours", "dear"]
        redact = ["emails"]
    "#;
    let with = |tokens, key: Option<&str>| Facts {
        prompt_tokens: Some(tokens),
        key: key.map(str::to_owned),
        ..Facts::default()
    };
    let long = judged(rules, says("hello"), &with(9000, Some("work"))).unwrap();
    assert_eq!((&*long.rule, long.action), ("long", Action::Compete));
    assert_eq!(long.to, [RemoteIndex(0), RemoteIndex(1)]);
    assert_eq!(
        judged(rules, says("hello"), &with(10, Some("work"))).unwrap_err(),
        "it stays on this machine: rule `at work` says so"
    );
    let rest = judged(rules, says("hello"), &with(10, None)).unwrap();
    assert_eq!((&*rest.rule, rest.action), ("rest", Action::Fallback));
    assert_eq!(
        rest.to,
        [RemoteIndex(1), RemoteIndex(0)],
        "in the rule's order"
    );
    assert_eq!(rest.redact, [Redact::Emails]);
    // Too long for one of its endpoints.
    let longer = judged(rules, says("hello"), &with(10_001, None)).unwrap();
    assert_eq!(longer.to, [RemoteIndex(1)]);
}

#[test]
fn every_condition_holds_and_does_not() {
    let header = |value: &str| vec![("x-team".to_owned(), value.to_owned())];
    let deadline = |ttft_s, deadline_s| Facts {
        ttft_s: Some(ttft_s),
        deadline_s,
        ..Facts::default()
    };
    let none = Facts::default();
    let with = |change: fn(&mut Facts)| {
        let mut facts = Facts::default();
        change(&mut facts);
        facts
    };
    let cases = [
        (
            "class = ['batch', 'background']",
            with(|it| it.class = Class::Batch),
            none.clone(),
        ),
        (
            "key = ['laptop']",
            with(|it| it.key = Some("laptop".into())),
            with(|it| it.key = Some("Laptop".into())),
        ),
        (
            "header = { X-Team = 'red' }",
            Facts {
                headers: header(" red "),
                ..none.clone()
            },
            Facts {
                headers: header("blue"),
                ..none.clone()
            },
        ),
        (
            "header = { X-Team = '*' }",
            Facts {
                headers: header(""),
                ..none.clone()
            },
            none.clone(),
        ),
        (
            "prompt_tokens = '>=100'",
            with(|it| it.prompt_tokens = Some(100)),
            with(|it| it.prompt_tokens = Some(99)),
        ),
        ("ttft_s = '>2.5'", deadline(3.0, None), deadline(2.5, None)),
        (
            "ttft_s = '>deadline'",
            deadline(3.0, Some(2.0)),
            deadline(3.0, None),
        ),
        (
            "ttft_s = '>deadline'",
            deadline(f64::INFINITY, Some(2.0)),
            deadline(1.0, Some(2.0)),
        ),
        (
            "queue = '>3'",
            with(|it| it.queue = Some(4)),
            with(|it| it.queue = Some(3)),
        ),
        (
            "on_battery = true",
            with(|it| it.on_battery = Some(true)),
            with(|it| it.on_battery = Some(false)),
        ),
        (
            "battery = '<20'",
            with(|it| it.battery = Some(19.9)),
            with(|it| it.battery = Some(20.0)),
        ),
        (
            "money_left = '>1.50'",
            with(|it| it.money_left = Some(Decimal::new(151, 2))),
            with(|it| it.money_left = Some(Decimal::new(150, 2))),
        ),
    ];
    for (when, holds, does_not) in cases {
        let rule = format!("[[rule]]\nname = \"it\"\nwhen = {{ {when} }}\naction = \"remote\"");
        assert!(
            judged(&rule, says("hello"), &holds).is_ok(),
            "{when} {holds:?}"
        );
        assert!(
            judged(&rule, says("hello"), &does_not).is_err(),
            "{when} {does_not:?}"
        );
        if !when.contains("class") {
            let field = when.split(' ').next().unwrap();
            let (explanation, leave) = loaded(&rule).rules.explain(&says("hello"), &none);
            assert!(leave.is_none(), "{when} of what is not known");
            let unmet = &explanation.rules[0].unmet[0];
            assert!(unmet.field.starts_with(field), "{unmet}");
            assert_eq!(unmet.have, Have::Unknown, "{unmet}");
        }
    }
}

#[test]
fn conditions_on_the_job_itself() {
    let cases = [
        ("model = ['qwen3*']", true),
        ("model = ['QWEN3:8B']", true),
        ("model = ['qwen3:8b:latest']", true),
        ("model = ['qwen3']", false),
        ("model = ['*']", true),
        ("tools = false", true),
        ("tools = true", false),
    ];
    for (when, want) in cases {
        let rule = format!("[[rule]]\nname = \"it\"\nwhen = {{ {when} }}\naction = \"remote\"");
        assert_eq!(
            judged(&rule, says("hello"), &facts()).is_ok(),
            want,
            "{when}"
        );
    }
    let mut job = says("hello");
    let Prompt::Chat(chat) = &mut job.prompt else {
        unreachable!()
    };
    chat.tools
        .push(json!({"type": "function", "function": {"name": "clock"}}));
    let rule = "[[rule]]\nname = \"it\"\nwhen = { tools = true }\naction = \"remote\"";
    assert!(judged(rule, job, &facts()).is_ok());
}

#[test]
fn a_header_that_came_twice_keeps_more_here_and_lets_less_go() {
    let twice = ["red", "blue"].map(|value| ("X-Team".to_owned(), value.to_owned()));
    let facts = Facts {
        headers: twice.to_vec(),
        ..facts()
    };
    let rule = |action: &str| {
        format!(
            "[[rule]]\nname = \"team\"\nwhen = {{ header = {{ x-team = \"red\" }} }}\naction = \"{action}\"\n"
        )
    };
    assert!(judged(&rule("remote"), says("hello"), &facts).is_err());
    let kept = leaves(&rule("local-only"), says("hello"), &facts).unwrap_err();
    assert!(kept.contains("rule `team` says so"), "{kept}");
}

#[test]
fn what_is_private_stays_whatever_the_rules_say() {
    assert_eq!(leaves("", says("hello"), &facts()), Ok(()));
    let mut asked = says("hello");
    asked.wishes.local_only = true;
    let labelled = |label: &str| Facts {
        headers: vec![("x-troika-privacy".to_owned(), label.to_owned())],
        ..facts()
    };
    let keyed = Facts {
        key: Some("doctor".to_owned()),
        ..facts()
    };
    let tokens = Job {
        prompt: Prompt::Tokens(vec![1, 2]),
        ..says("")
    };
    let keys = "hybrid.private_keys = [\"doctor\"]";
    let models = "hybrid.private_models = [\"qwen3:*\"]";
    let content = "hybrid.private_content = ['x{9}', '(?i)project\\s+falcon']";
    let falcon = says("How is Project\nFALCON?");
    for (file, job, facts, why) in [
        ("", asked, facts(), "its request says that it is private"),
        (
            "",
            says("hello"),
            labelled("local-only"),
            "its request says that it is private",
        ),
        (
            "",
            says("hello"),
            labelled("Public"),
            "a label that is not known",
        ),
        (keys, says("hello"), keyed, "the key `doctor`"),
        (models, says("hello"), facts(), "by `qwen3:*`"),
        (content, falcon, facts(), "private_content[1]"),
        ("", tokens, facts(), "numbers of tokens"),
    ] {
        let told = leaves(file, job, &facts).unwrap_err();
        assert!(told.contains(why), "{told}");
        assert!(!told.to_lowercase().contains("falcon"), "{told}");
    }
    assert_eq!(leaves("", says("hello"), &labelled("public")), Ok(()));
    let closed = "[[rule]]\nname = \"none\"\naction = \"local-only\"\n";
    assert!(leaves(closed, says("hello"), &labelled("public")).is_err());
}

#[test]
fn a_job_that_asks_for_a_device_is_done_there_or_not_at_all() {
    let on = |device: &str| {
        let mut job = says("hello");
        job.wishes.device = Some(device.to_owned());
        judged(OPEN, job, &facts())
    };
    let told = on("npu0").unwrap_err();
    assert!(told.contains("asks for the device `npu0`"), "{told}");
    assert_eq!(on("remote:ours").unwrap().to, [RemoteIndex(1)]);
    let told = on("remote:theirs").unwrap_err();
    assert!(told.contains("ours is not the device"), "{told}");
}

#[test]
fn all_hints_are_told_at_once() {
    let file = "hybrid.private_keys = [\"doctor\"]\nhybrid.private_content = ['patient']";
    let mut job = says("the patient is well");
    job.wishes = Wishes {
        local_only: true,
        ..Wishes::default()
    };
    let facts = Facts {
        key: Some("doctor".to_owned()),
        ..facts()
    };
    let told = leaves(file, job, &facts).unwrap_err();
    assert_eq!(told.matches("; ").count(), 2, "{told}");
}

/// Every place of a job that an endpoint would be sent.
#[test]
fn content_is_looked_for_everywhere() {
    let secret = "project falcon";
    let turn = |change: fn(&mut ChatMessage)| {
        let mut turn = ChatMessage::new("assistant", "");
        change(&mut turn);
        chat(vec![ChatMessage::new("user", "hello"), turn])
    };
    let call = |arguments: serde_json::Value| {
        let mut turn = ChatMessage::new("assistant", "");
        turn.tool_calls.push(ToolCall {
            id: None,
            kind: "function".to_owned(),
            function: FunctionCall {
                name: "find".to_owned(),
                arguments,
            },
        });
        chat(vec![turn])
    };
    let with_tool = |tool: serde_json::Value| {
        let mut job = says("hello");
        let Prompt::Chat(chat) = &mut job.prompt else {
            unreachable!()
        };
        chat.tools.push(tool);
        job
    };
    let formatted = |format: Format| Job {
        format,
        ..says("hello")
    };
    let parts = |texts: &[&str]| {
        let parts = texts
            .iter()
            .map(|text| ContentPart::new_text(*text))
            .collect();
        let mut turn = ChatMessage::new("user", "");
        turn.content = Content::Parts(parts);
        chat(vec![turn])
    };
    let jobs = [
        says(secret),
        chat(vec![
            ChatMessage::new("system", secret),
            ChatMessage::new("user", "hello"),
        ]),
        chat(vec![ChatMessage::new(
            "tool",
            "{\"found\": \"project falcon\"}",
        )]),
        turn(|turn| turn.reasoning_content = Some("project falcon".to_owned())),
        turn(|turn| turn.name = Some("project falcon".to_owned())),
        call(json!({"query": [1, {"deep": secret}]})),
        call(json!("{\"query\": \"\\u0070roject falcon\"}")),
        call(json!({"project falcon": null})),
        chat(vec![ChatMessage::new(
            "tool",
            r#" {"found": "project\u0020falcon"}"#,
        )]),
        chat(vec![ChatMessage::new(
            "tool",
            r#"[["{\"quoted\": \"project\\tfalcon\"}"]]"#,
        )]),
        with_tool(json!({"function": {"name": "f", "description": secret}})),
        with_tool(json!({"function": {"parameters": {"properties": {"x": {"enum": [secret]}}}}})),
        formatted(Format::JsonSchema(json!({"title": secret}))),
        formatted(Format::Regex(secret.to_owned())),
        formatted(Format::Lark(secret.to_owned())),
        Job {
            stop: vec![secret.to_owned()],
            ..says("hello")
        },
        Job {
            prompt: Prompt::Text(secret.to_owned()),
            ..says("")
        },
        Job {
            prompt: Prompt::Rendered(secret.to_owned()),
            ..says("")
        },
        parts(&["a", secret]),
        parts(&["pro", "ject fal", "con"]),
        parts(&["project", "falcon"]),
    ];
    let file = "hybrid.private_content = ['project\\sfalcon']";
    for job in jobs {
        let shown = format!("{job:?}");
        let told = leaves(file, job, &facts()).expect_err(&shown);
        assert!(told.contains("private_content[0]"), "{told}");
    }
    let embed = EmbedJob {
        inputs: vec![
            Prompt::Text("a".to_owned()),
            Prompt::Text(secret.to_owned()),
        ],
        ..EmbedJob::default()
    };
    let loaded = loaded(&format!("{file}\n{OPEN}"));
    assert!(matches!(
        loaded.rules.judge(embed, &facts()),
        Judged::Stays(..)
    ));
}

#[test]
fn a_rule_whose_endpoints_do_not_serve_the_model_keeps_it() {
    let job = Job {
        model: "tiny".to_owned(),
        ..says("hello")
    };
    let told = leaves("", job.clone(), &facts()).unwrap_err();
    assert!(
        told.contains("dear does not serve `tiny`; ours does not"),
        "{told}"
    );
    let other = "[[rule]]\nname = \"it\"\naction = \"remote\"\nmodel = \"big\"";
    let leave = judged(other, job, &facts()).unwrap();
    assert_eq!(leave.to, [RemoteIndex(0)]);
    assert_eq!(leave.model.as_deref(), Some("big"));
}

#[test]
fn what_may_leave_goes_on_its_terms_alone() {
    let rules = "[[rule]]\nname = \"it\"\naction = \"fallback\"\nto = [\"dear\"]\nmodel = \"big\"\nredact = [\"names\", \"emails\"]";
    let Loaded { config, rules, .. } = loaded(rules);
    let Judged::MayLeave(public, ..) = rules.judge(says("hello"), &facts()) else {
        panic!("it may leave");
    };
    let [dear, ours] = &*config.remote else {
        unreachable!()
    };
    assert_eq!(public.get().model, "big");
    assert_eq!(
        public.stay().model,
        "qwen3:8b",
        "here it is done as it was asked"
    );
    assert_eq!(
        public.sendable(ours).unwrap_err(),
        Barred::NotThere("ours".to_owned())
    );
    let moved = crate::config::Remote {
        url: "https://elsewhere.example".to_owned(),
        ..dear.clone()
    };
    assert!(
        matches!(public.sendable(&moved), Err(Barred::NotThere(_))),
        "the name alone is not it"
    );
    let both = public.sendable(dear).unwrap_err();
    assert!(both.to_string().contains("names, emails"), "{both}");
    let redactor = crate::redact::Redactor::new(&config.redact).unwrap();
    let half = redactor.apply(&public, &[Redact::Emails]).unwrap().job;
    assert_eq!(half.to_redact(), [Redact::Names]);
    assert!(half.sendable(dear).is_err());
    let all = redactor.apply(&half, &[Redact::Names]).unwrap().job;
    assert_eq!(all.sendable(dear).unwrap().model, "big");
    assert!(
        !format!("{all:?}").contains("hello"),
        "what is logged says nothing"
    );
}
