//! `troika rules list`: the rules as they are read, from the first to the last.

use serde_json::json;
use troika_remote::Loaded;
use troika_remote::config::{Action, Redact, Rule, When};

use crate::output::{self, Align, Console};

pub(super) fn run(loaded: &Loaded, console: &Console) -> anyhow::Result<()> {
    let config = &loaded.config;
    if console.json {
        return output::json(&json!({
            "private_keys": config.hybrid.private_keys,
            "private_models": config.hybrid.private_models,
            "private_content": config.hybrid.private_content,
            "rules": config.rule,
        }));
    }
    let mut page = String::from("What stays here, whatever the rules say:\n");
    let hybrid = &config.hybrid;
    let mut stays = vec![(
        "requests with X-Troika-Privacy, unless it says `public`",
        String::new(),
    )];
    for (what, entries) in [
        ("requests of the keys", &hybrid.private_keys),
        ("requests to the models", &hybrid.private_models),
        (
            "texts in which one of these matches:",
            &hybrid.private_content,
        ),
    ] {
        if !entries.is_empty() {
            stays.push((what, entries.join(", ")));
        }
    }
    for (what, entries) in stays {
        page.push_str(&output::wrapped(
            format!("{what} {entries}").trim_end(),
            2,
            100,
        ));
    }
    page.push_str("\nThe first rule that matches decides:\n");
    let heading = ["", "RULE", "WHEN", "ACTION", "TO", "TAKEN OUT", "MODEL"].map(str::to_owned);
    let rules = config.rule.iter().enumerate();
    let rules = rules.map(|(i, rule)| row(i, rule));
    let last = ["", "", "otherwise", "local-only", "", "", ""].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading)
        .chain(rules)
        .chain([last])
        .collect();
    let left = Align::Left;
    page.push_str(&output::table(
        [Align::Right, left, left, left, left, left, left],
        &rows,
    ));
    output::answer(page)
}

fn row(index: usize, rule: &Rule) -> [String; 7] {
    let to = match (&rule.to, rule.action) {
        (_, Action::LocalOnly) => String::new(),
        (Some(to), _) => to.join(", "),
        (None, _) => "any".to_owned(),
    };
    let redact: Vec<_> = rule.redact.iter().map(|it| Redact::name(*it)).collect();
    [
        (index + 1).to_string(),
        output::line(&rule.name, 40),
        output::line(&conditions(&rule.when), 60),
        rule.action.name().to_owned(),
        to,
        redact.join(", "),
        rule.model.clone().unwrap_or_default(),
    ]
}

/// What has to hold, in the order of the fields.
fn conditions(when: &When) -> String {
    let mut all = Vec::new();
    let mut one_of = |field: &str, names: Option<Vec<&str>>| {
        if let Some(names) = names {
            all.push(format!("{field} {}", names.join(" or ")));
        }
    };
    let class = when.class.as_ref();
    one_of(
        "class",
        class.map(|it| it.iter().map(|it| it.name()).collect()),
    );
    let key = when.key.as_ref();
    one_of("key", key.map(|it| it.iter().map(|it| &**it).collect()));
    for (name, value) in &when.header {
        one_of(&format!("header {name}"), Some(vec![value]));
    }
    let model = when.model.as_ref();
    one_of("model", model.map(|it| it.iter().map(|it| &**it).collect()));
    let on_battery = when.on_battery.map(|it| it.to_string());
    let tools = when.tools.map(|it| it.to_string());
    for (field, bound) in [
        ("prompt_tokens", &when.prompt_tokens),
        ("ttft_s", &when.ttft_s),
        ("queue", &when.queue),
        ("on_battery", &on_battery),
        ("battery", &when.battery),
        ("money_left", &when.money_left),
        ("tools", &tools),
    ] {
        one_of(field, bound.as_ref().map(|bound| vec![&**bound]));
    }
    match all.is_empty() {
        true => "always".to_owned(),
        false => all.join(", "),
    }
}
