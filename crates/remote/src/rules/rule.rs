//! A rule, checked and ready to be held against jobs.

use troika_scheduler::Class;

use super::bound::Bound;
use super::explain::{Have, LookedAt, Unmet};
use super::{Asks, Facts, RemoteIndex};
use crate::config::{self, Action, Config, Faults, Redact, is_name, model_name, nearest};

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) action: Action,
    /// All endpoints if absent.
    pub(super) to: Option<Vec<RemoteIndex>>,
    pub(super) redact: Vec<Redact>,
    pub(super) model: Option<String>,
    when: Conditions,
}

#[derive(Debug)]
struct Conditions {
    class: Option<Vec<Class>>,
    key: Option<Vec<String>>,
    header: Vec<(String, String)>,
    model: Option<Vec<ModelPattern>>,
    prompt_tokens: Option<Bound>,
    ttft_s: Option<Bound>,
    queue: Option<Bound>,
    on_battery: Option<bool>,
    battery: Option<Bound>,
    money_left: Option<Bound>,
    tools: Option<bool>,
}

/// A model's name, or how it begins.
#[derive(Clone, Debug)]
pub(super) struct ModelPattern {
    /// As the owner wrote it.
    pub(super) text: String,
    name: String,
    is_beginning: bool,
}

impl ModelPattern {
    pub(super) fn new(
        text: &str,
        field: impl FnOnce() -> String,
        faults: &mut Faults,
    ) -> Option<Self> {
        let (name, is_beginning) = match text.trim().strip_suffix('*') {
            Some(beginning) => (beginning.to_lowercase(), true),
            None => (model_name(text), false),
        };
        if name.contains('*') || (name.is_empty() && !is_beginning) {
            let message = format!("{text:?} names no model; `*` stands at the end, for anything");
            faults.add(field(), message);
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            name,
            is_beginning,
        })
    }

    pub(super) fn matches(&self, model: &str) -> bool {
        match self.is_beginning {
            // What comes behind the name may be what the pattern begins to name: `qwen3:*`.
            true => {
                model_name(model).starts_with(&self.name)
                    || model.trim().to_lowercase().starts_with(&self.name)
            }
            false => model_name(model) == self.name,
        }
    }
}

/// The rules of a configuration, and what is wrong with them.
pub(super) fn all(config: &Config, faults: &mut Faults) -> Vec<Rule> {
    let rules = config.rule.iter().enumerate();
    rules
        .map(|(i, rule)| {
            let field = |name: &str| format!("rule[{i}].{name}");
            if !is_name(&rule.name) {
                let message = "a rule is named by up to 64 characters that can be seen";
                faults.add(field("name"), message);
            } else if config.rule[..i].iter().any(|other| other.name == rule.name) {
                faults.add(
                    field("name"),
                    format!("there is a rule `{}` already", rule.name),
                );
            }
            match rule.action {
                Action::LocalOnly => check_staying(rule, field, faults),
                _ => check_leaving(rule, config, field, faults),
            }
            Rule {
                name: rule.name.clone(),
                action: rule.action,
                to: ends(rule, config, field, faults),
                redact: rule.redact.clone(),
                model: rule.model.clone(),
                when: Conditions::new(&rule.when, field, faults),
            }
        })
        .collect()
}

/// What makes no sense where nothing leaves.
fn check_staying(rule: &config::Rule, field: impl Fn(&str) -> String, faults: &mut Faults) {
    let given = [
        ("to", rule.to.is_some()),
        ("redact", !rule.redact.is_empty()),
        ("model", rule.model.is_some()),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        let message = "it has no meaning where jobs stay; leave it out, or take another action";
        faults.add(field(name), message);
    }
}

fn check_leaving(
    rule: &config::Rule,
    config: &Config,
    field: impl Fn(&str) -> String,
    faults: &mut Faults,
) {
    if config.remote.is_empty() {
        let message = "there is no [[remote]] that anything could go to";
        faults.add(field("action"), message);
        return;
    }
    let Some(model) = &rule.model else { return };
    let named =
        |remote: &&config::Remote| rule.to.as_ref().is_none_or(|to| to.contains(&remote.name));
    let mut remotes = config.remote.iter().filter(named).peekable();
    // Endpoints that there are not are told elsewhere.
    if remotes.peek().is_none() || remotes.any(|remote| remote.model(model).is_some()) {
        return;
    }
    let known = config.remote.iter().filter(named);
    let known: Vec<_> = known
        .flat_map(|it| it.models.keys())
        .map(|it| &**it)
        .collect();
    let message = format!(
        "none of its endpoints serves `{model}`{}",
        meant(model, &known)
    );
    faults.add(field("model"), message);
}

/// The endpoints that the rule names.
fn ends(
    rule: &config::Rule,
    config: &Config,
    field: impl Fn(&str) -> String,
    faults: &mut Faults,
) -> Option<Vec<RemoteIndex>> {
    let names = rule.to.as_ref()?;
    if names.is_empty() {
        faults.add(
            field("to"),
            "it names no endpoint; leave it out for all of them",
        );
    }
    let known: Vec<_> = config.remote.iter().map(|remote| &*remote.name).collect();
    let mut to = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let found = known.iter().position(|known| known == name);
        match found.map(RemoteIndex) {
            Some(index) if to.contains(&index) => {
                faults.add(
                    field(&format!("to[{i}]")),
                    format!("`{name}` is there twice"),
                );
            }
            Some(index) => to.push(index),
            // That there are none at all is told already.
            None if known.is_empty() => {}
            None => {
                let message = format!("there is no remote `{name}`{}", meant(name, &known));
                faults.add(field(&format!("to[{i}]")), message);
            }
        }
    }
    Some(to)
}

/// What a name may mean, and what is known.
fn meant(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

impl Conditions {
    fn new(when: &config::When, field: impl Fn(&str) -> String, faults: &mut Faults) -> Self {
        let mut bound = |name: &str, text: &Option<String>, of_deadline: bool| {
            let field = || field(&format!("when.{name}"));
            match text.as_ref()?.parse::<Bound>() {
                Ok(bound) if bound.has_deadline() && !of_deadline => {
                    faults.add(field(), "only ttft_s is held against the deadline");
                    None
                }
                Ok(bound) => Some(bound),
                Err(message) => {
                    faults.add(field(), message);
                    None
                }
            }
        };
        let prompt_tokens = bound("prompt_tokens", &when.prompt_tokens, false);
        let ttft_s = bound("ttft_s", &when.ttft_s, true);
        let queue = bound("queue", &when.queue, false);
        let battery = bound("battery", &when.battery, false);
        let money_left = bound("money_left", &when.money_left, false);
        let lists = [
            ("class", when.class.as_ref().map(Vec::len)),
            ("key", when.key.as_ref().map(Vec::len)),
            ("model", when.model.as_ref().map(Vec::len)),
        ];
        for (name, _) in lists.iter().filter(|(_, count)| *count == Some(0)) {
            let message = "none is named, so the rule could never match; leave it out for any";
            faults.add(field(&format!("when.{name}")), message);
        }
        for name in when.header.keys() {
            let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(of_token) {
                let message = format!("{name:?} is no header's name");
                faults.add(field("when.header"), message);
            }
        }
        let model = when.model.as_ref().map(|names| {
            let names = names.iter().enumerate();
            names
                .filter_map(|(i, name)| {
                    ModelPattern::new(name, || field(&format!("when.model[{i}]")), faults)
                })
                .collect()
        });
        let header = when.header.iter();
        Self {
            class: when.class.clone(),
            key: when.key.clone(),
            header: header
                .map(|(name, value)| (name.clone(), value.trim().to_owned()))
                .collect(),
            model,
            prompt_tokens,
            ttft_s,
            queue,
            on_battery: when.on_battery,
            battery,
            money_left,
            tools: when.tools,
        }
    }
}

impl Rule {
    /// All that does not hold of a job, in the order of the fields. Nothing if the rule matches.
    pub(super) fn unmet(&self, what: &impl Asks, facts: &Facts) -> Vec<Unmet> {
        let mut unmet = Unmets::default();
        let when = &self.when;
        let class = Some(facts.class.name());
        unmet.one_of(
            "class",
            &when.class,
            class,
            |want| *want == facts.class,
            |it| it.name(),
        );
        let key = facts.key.as_deref();
        unmet.one_of("key", &when.key, key, |want| Some(&**want) == key, |it| it);
        for (name, want) in &when.header {
            self.header(name, want, facts, &mut unmet);
        }
        let model = what.model();
        unmet.one_of(
            "model",
            &when.model,
            Some(model),
            |want| want.matches(model),
            |it| &it.text,
        );
        let count = |count: Option<usize>| count.map(|count| count as f64);
        unmet.number(
            "prompt_tokens",
            &when.prompt_tokens,
            count(facts.prompt_tokens),
            None,
        );
        unmet.number("ttft_s", &when.ttft_s, facts.ttft_s, facts.deadline_s);
        unmet.number("queue", &when.queue, count(facts.queue), None);
        unmet.truth("on_battery", when.on_battery, facts.on_battery);
        unmet.number("battery", &when.battery, facts.battery, None);
        if let Some(bound) = &when.money_left
            && !facts
                .money_left
                .is_some_and(|left| bound.holds_of_money(left))
        {
            unmet.add(
                "money_left",
                bound,
                facts.money_left.map(|left| left.normalize()),
            );
        }
        unmet.truth("tools", when.tools, Some(what.has_tools()));
        unmet.0
    }
}

impl Rule {
    /// Where a header came twice, one value is enough for a rule that keeps jobs here, and for one that lets them go it has
    /// to be all: who sends both may not have written both.
    fn header(&self, name: &str, want: &str, facts: &Facts, unmet: &mut Unmets) {
        let is = |have: &str| want == "*" || have == want;
        let mut values = facts.header(name).peekable();
        let is_there = values.peek().is_some();
        let holds = match self.action {
            Action::LocalOnly => values.any(is),
            _ => is_there && values.all(is),
        };
        if !holds {
            unmet.0.push(Unmet {
                field: format!("header.{name}"),
                want: want.to_owned(),
                have: if is_there { Have::Other } else { Have::Unknown },
            });
        }
    }

    pub(super) fn looked_at(&self, unmet: Vec<Unmet>) -> LookedAt {
        LookedAt {
            rule: self.name.clone(),
            action: self.action,
            unmet,
        }
    }
}

/// Conditions that do not hold, as they are found.
#[derive(Default)]
struct Unmets(Vec<Unmet>);

impl Unmets {
    fn add(&mut self, field: &str, want: impl ToString, have: Option<impl ToString>) {
        self.0.push(Unmet {
            field: field.to_owned(),
            want: want.to_string(),
            have: have.map_or(Have::Unknown, |have| Have::Is(have.to_string())),
        });
    }

    fn one_of<T>(
        &mut self,
        field: &str,
        wanted: &Option<Vec<T>>,
        have: Option<&str>,
        holds: impl Fn(&T) -> bool,
        name: impl Fn(&T) -> &str,
    ) {
        let Some(wanted) = wanted else { return };
        if !wanted.iter().any(holds) {
            let names: Vec<_> = wanted.iter().map(name).collect();
            self.add(field, names.join(" or "), have);
        }
    }

    fn number(
        &mut self,
        field: &str,
        bound: &Option<Bound>,
        have: Option<f64>,
        deadline: Option<f64>,
    ) {
        if let Some(bound) = bound
            && !have.is_some_and(|have| bound.holds(have, deadline))
        {
            self.add(field, bound, have);
        }
    }

    fn truth(&mut self, field: &str, want: Option<bool>, have: Option<bool>) {
        if let Some(want) = want
            && have != Some(want)
        {
            self.add(field, want, have);
        }
    }
}
