//! Whatever the configuration and the job: as soon as one thing says private, it stays.

use proptest::prelude::*;
use troika_job::{Job, Prompt};

use super::{loaded, says};
use crate::rules::{Facts, Judged, PRIVACY_HEADER};

/// What may be said of a rule: its action, and conditions that often hold.
fn rule() -> impl Strategy<Value = (&'static str, Option<&'static str>, bool)> {
    let action = prop::sample::select(vec![
        "remote",
        "compete",
        "fallback",
        "cascade",
        "local-only",
    ]);
    let when = prop::sample::select(vec![
        "prompt_tokens = '>0'",
        "prompt_tokens = '<50'",
        "queue = '>=0'",
        "tools = false",
        "model = ['*']",
        "key = ['laptop']",
        "header = { X-Troika-Privacy = 'public' }",
        "class = ['interactive']",
    ]);
    (action, prop::option::of(when), any::<bool>())
}

/// What makes a job private.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Wish,
    Label,
    UnknownLabel,
    Key,
    Model,
    Content,
    HiddenContent,
    Tokens,
}

const SIGNS: [Sign; 8] = [
    Sign::Wish,
    Sign::Label,
    Sign::UnknownLabel,
    Sign::Key,
    Sign::Model,
    Sign::Content,
    Sign::HiddenContent,
    Sign::Tokens,
];

fn file(rules: &[(&str, Option<&str>, bool)], signs: &[Sign], budget: bool) -> String {
    let mut text = String::from("[hybrid]\nprivate_content = ['canary']\n");
    if budget {
        text += "budget_per_day = 100\n";
    }
    for sign in signs {
        match sign {
            Sign::Key => text += "private_keys = ['laptop']\n",
            Sign::Model => text += "private_models = ['qwen*']\n",
            _ => {}
        }
    }
    for (i, (action, when, named)) in rules.iter().enumerate() {
        text += &format!("[[rule]]\nname = 'r{i}'\naction = '{action}'\n");
        if let Some(when) = when {
            text += &format!("when = {{ {when} }}\n");
        }
        if *named && *action != "local-only" {
            text += "to = ['dear']\nredact = ['emails']\n";
        }
    }
    text
}

fn mark(job: &mut Job, facts: &mut Facts, sign: Sign) {
    let mut label = |label: &str| {
        facts
            .headers
            .push((PRIVACY_HEADER.to_owned(), label.to_owned()))
    };
    match sign {
        Sign::Wish => job.wishes.local_only = true,
        Sign::Label => label("local-only"),
        Sign::UnknownLabel => label("confidential"),
        Sign::Key => facts.key = Some("laptop".to_owned()),
        Sign::Model => {}
        Sign::Content => job.stop.push("a canary sings".to_owned()),
        Sign::HiddenContent => job
            .stop
            .push("a ｃan\u{200b}a\u{301}r\u{ad}y sings".to_owned()),
        Sign::Tokens => job.prompt = Prompt::Tokens(vec![1]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_private_stays(
        rules in prop::collection::vec(rule(), 0..6),
        signs in prop::sample::subsequence(SIGNS.to_vec(), 0..=3),
        text in "[a-z ]{0,40}",
        tokens in prop::option::of(0_usize..20_000),
        public in 0_usize..3,
        max_tokens in prop::option::of(1_usize..100_000),
        money in prop::option::of(0_i64..1000),
        budget in any::<bool>(),
    ) {
        let mut job = says(&text);
        job.max_tokens = max_tokens;
        let label = (PRIVACY_HEADER.to_owned(), "public".to_owned());
        let mut facts = Facts {
            prompt_tokens: tokens,
            queue: Some(0),
            headers: vec![label; public],
            money_left: money.map(|cents| rust_decimal::Decimal::new(cents, 2)),
            ..Facts::default()
        };
        for sign in &signs {
            mark(&mut job, &mut facts, *sign);
        }
        let loaded = loaded(&file(&rules, &signs, budget));
        match loaded.rules.judge(job, &facts) {
            Judged::Stays(..) => {
                // What has no sign, and no reason else, is let go by the first rule that says so.
                let free = signs.is_empty() && !budget && tokens.is_none_or(|it| it <= 10_000) && !text.contains("canary");
                let open = rules.first().is_some_and(|(action, when, _)| *action != "local-only" && when.is_none());
                prop_assert!(!(free && open));
            }
            Judged::MayLeave(public, leave, explanation) => {
                prop_assert!(signs.is_empty(), "{signs:?}: {explanation}");
                prop_assert!(!leave.to.is_empty());
                prop_assert_ne!(leave.action, crate::config::Action::LocalOnly);
                for (i, remote) in loaded.config.remote.iter().enumerate() {
                    let named = leave.to.contains(&crate::rules::RemoteIndex(i));
                    prop_assert_eq!(public.sendable(remote).is_ok(), named && leave.redact.is_empty());
                }
                if budget {
                    prop_assert!(leave.worst_cost.is_some() && leave.worst_cost <= facts.money_left);
                }
            }
        }
    }
}
