//! What is odd about a configuration that makes sense: it is not refused, and probably not meant.

use super::Loaded;
use crate::config::{Action, Config, Redact, When};

impl Loaded {
    /// What is odd about it, in sentences; nothing if nothing is.
    pub fn remarks(&self) -> Vec<String> {
        let config = &self.config;
        let mut remarks = Vec::new();
        unreached(config, &mut remarks);
        unused(config, &mut remarks);
        money(config, &mut remarks);
        let names = config
            .rule
            .iter()
            .find(|rule| rule.redact.contains(&Redact::Names));
        if let Some(rule) = names
            && config.redact.names.is_empty()
            && config.redact.files.is_empty()
        {
            remarks.push(format!(
                "Rule `{}` takes out names, and [redact] lists none.",
                rule.name
            ));
        }
        remarks
    }
}

fn unreached(config: &Config, remarks: &mut Vec<String>) {
    let always = config
        .rule
        .iter()
        .position(|rule| rule.when == When::default());
    if let Some(first) = always
        && let Some(next) = config.rule.get(first + 1)
    {
        remarks.push(format!(
            "Rule `{}` always matches, so `{}` and what follows is never reached.",
            config.rule[first].name, next.name
        ));
    }
}

fn unused(config: &Config, remarks: &mut Vec<String>) {
    for remote in &config.remote {
        let mut leaving = config
            .rule
            .iter()
            .filter(|rule| rule.action != Action::LocalOnly);
        let names = |to: &Vec<String>| to.contains(&remote.name);
        if !leaving.any(|rule| rule.to.as_ref().is_none_or(names)) {
            remarks.push(format!("No rule lets anything go to `{}`.", remote.name));
        }
    }
}

fn money(config: &Config, remarks: &mut Vec<String>) {
    let hybrid = &config.hybrid;
    if hybrid.budget_per_day.is_none() && hybrid.budget_per_month.is_none() {
        let counts = config
            .rule
            .iter()
            .find(|rule| rule.when.money_left.is_some());
        if let Some(rule) = counts {
            remarks.push(format!(
                "Rule `{}` asks for the money that is left, and there is no budget: it never matches.",
                rule.name
            ));
        }
        return;
    }
    for remote in &config.remote {
        if remote.price.is_none() {
            remarks.push(format!(
                "There is a budget, and `{}` has no price: nothing goes there.",
                remote.name
            ));
        } else if remote.limits.answer_tokens.is_none() {
            remarks.push(format!(
                "There is a budget, and `{}` has no limits.answer_tokens: requests that set no limit themselves do not go there.",
                remote.name
            ));
        }
    }
}
