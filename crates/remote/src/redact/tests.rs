//! What is taken out of prompts, and what of it comes back.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use troika_engine::chat::{ChatMessage, Content, FunctionCall, ToolCall};
use troika_job::{ChatPrompt, Delta, Event, FinishReason, Part, Prompt};

use super::*;
use crate::{Config, Facts, Judged, Rules};

const ALL: [Redact; 6] = placeholder::KINDS;

/// As the judge lets it go.
fn public(job: Job) -> Public<Job> {
    static RULES: LazyLock<Rules> = LazyLock::new(|| {
        let config: Config = toml::from_str(
            r#"
        [[remote]]
        name = "far"
        url = "https://api.example.com/v1"
        api = "openai"
        models = { large = "large" }
        [[rule]]
        name = "all"
        action = "remote"
        "#,
        )
        .unwrap();
        Rules::new(&config).unwrap()
    });
    match RULES.judge(job, &Facts::default()) {
        Judged::MayLeave(public, ..) => public,
        Judged::Stays(_, why) => panic!("{why}"),
    }
}

fn redactor(names: &[&str]) -> Redactor {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let files = Vec::new();
    Redactor::new(&RedactLists { names, files }).unwrap()
}

fn chat(messages: Vec<ChatMessage>) -> Job {
    Job {
        model: "large".to_owned(),
        prompt: Prompt::Chat(Box::new(ChatPrompt {
            messages,
            ..ChatPrompt::default()
        })),
        ..Job::default()
    }
}

fn says(role: &str, text: &str) -> ChatMessage {
    ChatMessage {
        role: role.to_owned(),
        content: Content::Text(text.to_owned()),
        ..ChatMessage::default()
    }
}

fn conversation(job: &Job) -> &ChatPrompt {
    match &job.prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn text(job: &Public<Job>, turn: usize) -> &str {
    match &conversation(job.get()).messages[turn].content {
        Content::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

/// All that an endpoint is sent, as JSON.
fn serialized(job: &Job) -> String {
    let chat = conversation(job);
    let messages = serde_json::to_string(&chat.messages).unwrap();
    format!(
        "{messages} {} {} {:?}",
        Value::from(chat.tools.clone()),
        Value::from(chat.template_variables.clone()),
        job.stop
    )
}

fn one(names: &[&str], said: &str) -> (String, Redacted<Job>) {
    let job = public(chat(vec![says("user", said)]));
    let redacted = redactor(names).apply(&job, &ALL).unwrap();
    (text(&redacted.job, 0).to_owned(), redacted)
}

/// The text as it comes back in pieces.
fn restored(map: &Placeholders, pieces: &[&str]) -> String {
    let mut restorer = map.restore();
    let mut out = String::new();
    let events = pieces.iter().map(|piece| {
        Event::Delta(Delta {
            parts: vec![Part::Content((*piece).to_owned())],
            ..Delta::default()
        })
    });
    let last = Event::Finished {
        choice: 0,
        finish: FinishReason::EndOfText,
    };
    for event in events.chain([last]) {
        for event in restorer.event(event) {
            if let Event::Delta(delta) = event {
                for part in delta.parts {
                    match part {
                        Part::Content(text) => out.push_str(&text),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
    out
}

#[test]
fn what_is_taken_out_comes_back() {
    for (said, want) in [
        ("Write to anna@example.com.", "Write to [EMAIL_1]."),
        (
            "anna@example.com, bert@example.com, anna@example.com",
            "[EMAIL_1], [EMAIL_2], [EMAIL_1]",
        ),
        ("call +49 171 2345678", "call [PHONE_1]"),
        ("DE89 3704 0044 0532 0130 00, ok", "[IBAN_1], ok"),
        ("4111 1111 1111 1111", "[CARD_1]"),
        ("ANNA SCHMIDT and Anna Schmidt's", "[NAME_1] and [NAME_2]'s"),
        (
            "password=hunter2! again: xhunter2, hunter2",
            "password=[SECRET_1]! again: xhunter2, [SECRET_1]",
        ),
        // Its own words keep their meaning.
        (
            "[EMAIL_1] [ email-2 ] a@b.de",
            "[EMAIL_1] [ email-2 ] [EMAIL_3]",
        ),
        ("nothing at all", "nothing at all"),
    ] {
        let (out, redacted) = one(&["anna schmidt"], said);
        assert_eq!(out, want);
        assert_eq!(restored(&redacted.map, &[&out]), said);
    }
}

#[test]
fn escapes_hide_nothing() {
    for (said, want) in [
        (r#"{"a":"\nanna@example.com"}"#, r#"{"a":"\n[EMAIL_1]"}"#),
        (
            r#"{"n": "M\u00fcller", "z": 1.50}"#,
            r#"{"n": "[NAME_1]", "z": 1.50}"#,
        ),
        (r#"so: "x\nM\u00fcller\n""#, r#"so: "x\n[NAME_1]\n""#),
        (
            r#"{"x": "{\"n\": \"M\\u00fcller\"}"}"#,
            r#"{"x": "{\"n\": \"[NAME_1]\"}"}"#,
        ),
        ("?to=anna%40example.com&x", "?to=[EMAIL_1]&x"),
        (
            r#"{"password": "swordfish", "m": "Müller"}"#,
            r#"{"password": "[SECRET_1]", "m": "[NAME_1]"}"#,
        ),
        (r#"{"card": 4111111111111111}"#, r#"{"card": "[CARD_1]"}"#),
    ] {
        let (out, redacted) = one(&["Müller"], said);
        assert_eq!(out, want);
        assert!(redacted.counts.values().sum::<u64>() > 0);
    }
}

#[test]
fn everything_that_is_sent_is_searched() {
    let mut call = says("assistant", "I ask a@b.de");
    call.reasoning_content = Some("about a@b.de".to_owned());
    call.tool_calls = vec![ToolCall {
        id: Some("call_1".to_owned()),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: "mail".to_owned(),
            arguments: json!(r#"{"to": "a@b.de", "c@d.de": 1}"#),
        },
    }];
    let mut speaker = says("user", "a@b.de");
    speaker.name = Some("Anna".to_owned());
    let mut job = chat(vec![
        says("system", "of a@b.de"),
        speaker,
        call,
        says("tool", "a@b.de: ok"),
    ]);
    let Prompt::Chat(chat) = &mut job.prompt else {
        unreachable!();
    };
    chat.tools = vec![
        json!({"type": "function", "function": {"name": "mail", "description": "for a@b.de",
        "parameters": {"properties": {"to": {"enum": ["a@b.de", "x"], "default": {"k": "a@b.de"}}}}}}),
    ];
    chat.template_variables
        .insert("v".to_owned(), json!(["a@b.de"]));
    job.stop = vec!["a@b.de".to_owned()];
    let redacted = redactor(&["Anna"]).apply(&public(job), &ALL).unwrap();
    let sent = serialized(redacted.job.get());
    for out in ["a@b.de", "c@d.de", "Anna"] {
        assert!(!sent.contains(out), "{sent}");
    }
    assert_eq!(sent.matches("[EMAIL_1]").count(), 11, "{sent}");
    assert_eq!(redacted.counts[&Redact::Emails], 12);
    let turn = &conversation(redacted.job.get()).messages;
    assert_eq!(turn[1].name.as_deref(), Some("NAME_1"));
    let arguments = turn[2].tool_calls[0].function.arguments.as_str().unwrap();
    assert_eq!(arguments, r#"{"to": "[EMAIL_1]", "[EMAIL_2]": 1}"#);

    let mut restorer = redacted.map.restore();
    let mut call = turn[2].tool_calls[0].clone();
    call.function.arguments = json!(r#"{"to":"[Email 1]","n":["[EMAIL_9]"]}"#);
    let events = restorer.event(Event::Delta(Delta {
        parts: vec![
            Part::Reasoning("for [EMA".to_owned()),
            Part::Reasoning("IL_1]".to_owned()),
            Part::Content("so [".to_owned()),
            Part::ToolCall(call),
        ],
        ..Delta::default()
    }));
    let [Event::Delta(delta)] = &events[..] else {
        panic!("{events:?}");
    };
    let [
        Part::Reasoning(a),
        Part::Reasoning(b),
        Part::Content(c),
        Part::Content(d),
        Part::ToolCall(call),
    ] = &delta.parts[..]
    else {
        panic!("{delta:?}");
    };
    assert_eq!((&**a, &**b, &**c, &**d), ("for ", "a@b.de", "so ", "["));
    assert_eq!(
        call.function.arguments,
        json!(r#"{"to":"a@b.de","n":["[EMAIL_9]"]}"#)
    );
    let stop = FinishReason::StopString("[EMAIL_1]".to_owned());
    let ended = restorer.event(Event::Finished {
        choice: 0,
        finish: stop,
    });
    let finish = FinishReason::StopString("a@b.de".to_owned());
    assert_eq!(ended, [Event::Finished { choice: 0, finish }]);
}

#[test]
fn what_cannot_be_taken_out_stays() {
    let refused = |change: fn(&mut Job)| {
        let mut job = chat(vec![says("user", "hi, the api_key=\"k3y-4-all\"")]);
        change(&mut job);
        redactor(&["Anna"])
            .apply(&public(job), &ALL)
            .unwrap_err()
            .to_string()
    };
    fn tools(job: &mut Job, tool: Value) {
        if let Prompt::Chat(chat) = &mut job.prompt {
            chat.tools = vec![tool];
        }
    }
    let told = refused(|job| tools(job, json!({"function": {"name": "ask_anna"}})));
    assert_eq!(
        told,
        "names in a tool's definition cannot be taken out without breaking the request, so it does not leave this machine"
    );
    let told = refused(|job| {
        tools(
            job,
            json!({"function": {"parameters": {"properties": {"k3y-4-all": {}}}}}),
        )
    });
    assert!(told.starts_with("secrets in a tool's definition"), "{told}");
    let told = refused(|job| job.format = Format::Regex("a@b\\.de|c@d.de".to_owned()));
    assert!(told.starts_with("emails in a grammar"), "{told}");
    let told = refused(|job| {
        if let Prompt::Chat(chat) = &mut job.prompt {
            let parts = json!([{"type": "text", "text": "to anna@exa"}, {"type": "text", "text": "mple.com"}]);
            chat.messages[0] =
                serde_json::from_value(json!({"role": "user", "content": parts})).unwrap();
        }
    });
    assert!(told.contains("over the seam of its parts"), "{told}");
}

#[test]
fn answers_in_json_stay_json() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMII\"\nBAAA\n-----END PRIVATE KEY-----";
    let mut job = chat(vec![says("user", &format!("key: {pem}"))]);
    job.format = Format::JsonObject;
    let redacted = redactor(&[]).apply(&public(job), &ALL).unwrap();
    let out = restored(&redacted.map, &["{\"k\": \"[SECR", "ET_1]\"}"]);
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert!(
        value["k"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY-----\n")
    );
}

#[test]
fn small_changes_are_borne_and_others_left() {
    let (_, redacted) = one(&[], "a@b.de c@d.de");
    for (said, want) in [
        ("[email_1]", "a@b.de"),
        ("[ Email 2 ]", "c@d.de"),
        (r"[EMAIL\_1]", "a@b.de"),
        ("[EMAIL-1][EMAIL1]", "a@b.dea@b.de"),
        ("[[EMAIL_1]]([EMAIL_2])", "[a@b.de](c@d.de)"),
        (
            "[EMAIL_3] [PHONE_1] [EMAILS_1] [EMAIL_] EMAIL_1 [EMAIL_1",
            "[EMAIL_3] [PHONE_1] [EMAILS_1] [EMAIL_] EMAIL_1 [EMAIL_1",
        ),
        (
            "[EMAIL_99999999999] [1] [ü [",
            "[EMAIL_99999999999] [1] [ü [",
        ),
    ] {
        assert_eq!(restored(&redacted.map, &[said]), want);
        // Cut anywhere between characters.
        for (at, _) in said.char_indices() {
            let (a, b) = said.split_at(at);
            assert_eq!(restored(&redacted.map, &[a, b]), want, "{a}|{b}");
        }
        let letters: Vec<_> = said.chars().map(String::from).collect();
        let letters: Vec<_> = letters.iter().map(|it| &**it).collect();
        assert_eq!(restored(&redacted.map, &letters), want);
    }
}

#[test]
fn the_next_turn_begins_with_the_same_bytes() {
    let first = vec![says("user", "a@b.de, c@d.de"), says("assistant", "c@d.de")];
    let mut second = first.clone();
    second.push(says("user", "e@f.de, a@b.de"));
    let redacted = |messages| redactor(&[]).apply(&public(chat(messages)), &ALL).unwrap();
    let (first, second) = (redacted(first), redacted(second));
    for turn in 0..2 {
        assert_eq!(text(&first.job, turn), text(&second.job, turn));
    }
    assert_eq!(text(&second.job, 2), "[EMAIL_3], [EMAIL_1]");
}

/// Pieces of texts: words, values, what looks like placeholders, and anything else.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,6}",
        1 => "[a-z]{2,8}@[a-z]{2,8}\\.(de|com)",
        1 => "\\+49 1[5-7][0-9] [0-9]{7}",
        1 => "ghp_[A-Za-z0-9]{36}",
        1 => "password=[a-z]{3}[0-9]{3}[a-z]{3}",
        1 => Just("4111 1111 1111 1111".to_owned()),
        1 => Just("DE89370400440532013000".to_owned()),
        1 => Just("Anna Schmidt".to_owned()),
        1 => Just("müller".to_owned()),
        1 => "\\[ ?(EMAIL|name|Phone|SECRET)[_ ][1-3]\\]",
        1 => "[\\[\\]_ \n]{1,3}",
        1 => "\\PC{1,3}",
    ]
}

fn said() -> impl Strategy<Value = String> {
    let gap = prop_oneof![4 => Just(" "), 1 => Just("\n"), 1 => Just(", ")];
    let piece = (piece(), gap).prop_map(|(piece, gap)| piece + gap);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Made once: patterns take their time.
static LISTED: LazyLock<Redactor> = LazyLock::new(|| redactor(&["Anna Schmidt", "Müller"]));

/// All values that are found in texts, and looked for everywhere.
fn values(redactor: &Redactor, texts: &[String]) -> Vec<String> {
    let found = texts
        .iter()
        .flat_map(|text| redactor.find(text, &ALL, None));
    found
        .filter(|it| it.value.chars().count() >= 8)
        .map(|it| it.value)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn an_echo_in_any_pieces_is_what_was_said(said in said(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        // Escapes come back undone.
        prop_assume!(!said.contains(['\\', '%']));
        let job = public(chat(vec![says("user", &said)]));
        let redacted = LISTED.apply(&job, &ALL).unwrap();
        let out = text(&redacted.job, 0);
        let mut cuts: Vec<_> = cuts.iter().map(|it| it.index(out.len() + 1)).filter(|at| out.is_char_boundary(*at)).collect();
        cuts.extend([0, out.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|it| &out[it[0]..it[1]]).collect();
        prop_assert_eq!(restored(&redacted.map, &pieces), said, "sent {}", out);
    }

    #[test]
    fn nothing_that_was_found_is_sent(texts in prop::collection::vec(said(), 1..5), escapes in any::<bool>()) {
        let values = values(&LISTED, &texts);
        let mut turns: Vec<_> = texts.iter().map(|text| says("user", text)).collect();
        // As a tool tells it, in JSON without any sign beyond ASCII.
        let quoted = texts.iter().map(|text| Value::from(text.clone()).to_string());
        let ascii = |text: String| match escapes {
            true => text.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }).collect(),
            false => text,
        };
        turns.extend(quoted.clone().map(|text| says("tool", &format!("{{\"r\": {}}}", ascii(text)))));
        turns.extend(quoted.map(|text| says("user", &format!("it says {}", ascii(text)))));
        let redacted = LISTED.apply(&public(chat(turns)), &ALL).unwrap();
        let sent = serialized(redacted.job.get());
        let read: Vec<_> = view::View::all(&sent).into_iter().map(|view| view.text).collect();
        for value in values {
            prop_assert!(!read.iter().any(|text| text.contains(&value)), "{} in {}", value, sent);
        }
        for turn in &conversation(redacted.job.get()).messages {
            if let (Content::Text(text), "tool") = (&turn.content, &*turn.role) {
                prop_assert!(json::is_json(text), "{}", text);
            }
        }
    }
}

/// What it takes of a long prompt: it is on the way to the first token.
#[test]
fn a_long_prompt_is_searched_quickly() {
    let words = "The quick brown fox, no. 12 of 4096, wrote \\n to fox@example.com about https://example.com/a%20b. ";
    let job = public(chat(vec![says("user", &words.repeat(1000))]));
    let redactor = redactor(&["Anna Schmidt", "Müller"]);
    let start = std::time::Instant::now();
    let redacted = redactor.apply(&job, &ALL).unwrap();
    println!(
        "{} KB searched in {:?}",
        words.len() * 1000 / 1024,
        start.elapsed()
    );
    assert_eq!(redacted.counts[&Redact::Emails], 1000);
}
