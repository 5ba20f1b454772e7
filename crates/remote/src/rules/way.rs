//! Where a job may go that a rule lets go: the endpoints that serve it, and that the money suffices for.

use rust_decimal::Decimal;

use super::explain::Way;
use super::rule::Rule;
use super::{Asks, Facts, Leave, RemoteIndex};
use crate::config::{Config, Price, Remote};

/// Tokens that an interface puts around each text of a prompt at most: a role, a beginning and an end.
const TOKENS_AROUND: usize = 16;

/// The endpoints, and whether money is counted.
#[derive(Debug)]
pub(super) struct Ways {
    remotes: Vec<Remote>,
    has_budget: bool,
}

impl Ways {
    pub(super) fn new(config: &Config) -> Self {
        let hybrid = &config.hybrid;
        Self {
            remotes: config.remote.clone(),
            has_budget: hybrid.budget_per_day.is_some() || hybrid.budget_per_month.is_some(),
        }
    }

    /// Names and addresses.
    pub(super) fn addresses(&self, of: &[RemoteIndex]) -> Vec<(String, String)> {
        let remotes = of.iter().map(|index| &self.remotes[index.0]);
        remotes
            .map(|remote| (remote.name.clone(), remote.url.clone()))
            .collect()
    }

    /// The leave that the rule gives, and what became of each of its endpoints.
    pub(super) fn leave(
        &self,
        rule: &Rule,
        what: &impl Asks,
        facts: &Facts,
    ) -> (Vec<Way>, Option<Leave>) {
        let model = rule.model.as_deref().unwrap_or(what.model());
        let prompt_tokens = facts.prompt_tokens.unwrap_or_else(|| tokens_at_most(what));
        let all: Vec<_> = (0..self.remotes.len()).map(RemoteIndex).collect();
        let named = rule.to.as_ref().unwrap_or(&all);
        let mut ways = Vec::new();
        let mut to = Vec::new();
        for &index in named {
            let remote = &self.remotes[index.0];
            let worst_cost = remote.price.and_then(|price| {
                let answer_tokens = match (what.answer_tokens(), remote.limits.answer_tokens) {
                    (Some(own), Some(most)) => own.min(most),
                    (own, most) => own.or(most)?,
                };
                let each = cost(price, prompt_tokens, answer_tokens)?;
                each.checked_mul(what.answers().into())
            });
            let there = remote.model(model);
            let why_not = match there {
                _ if what
                    .device()
                    .is_some_and(|it| remote_of(it) != Some(&*remote.name)) =>
                {
                    Some("is not the device that is asked for".to_owned())
                }
                None => Some(format!("does not serve `{model}`")),
                Some(_) => too_long(remote, facts)
                    .or_else(|| self.too_dear(remote, worst_cost, facts.money_left)),
            };
            if why_not.is_none() {
                to.push((index, worst_cost));
            }
            ways.push(Way {
                to: remote.name.clone(),
                model: there.map(str::to_owned),
                worst_cost,
                why_not,
            });
        }
        if to.is_empty() {
            return (ways, None);
        }
        let costs: Option<Vec<_>> = to.iter().map(|(_, cost)| *cost).collect();
        let leave = Leave {
            rule: rule.name.clone(),
            action: rule.action,
            to: to.iter().map(|(index, _)| *index).collect(),
            redact: rule.redact.clone(),
            model: rule.model.clone(),
            worst_cost: costs.and_then(|costs| costs.into_iter().max()),
        };
        (ways, Some(leave))
    }

    /// Why there is not money enough, where it is counted.
    fn too_dear(
        &self,
        remote: &Remote,
        worst_cost: Option<Decimal>,
        left: Option<Decimal>,
    ) -> Option<String> {
        if !self.has_budget {
            return None;
        }
        let why = match (worst_cost, left) {
            (None, _) if remote.price.is_none() => "has no price, and there is a budget".to_owned(),
            (None, _) => "may answer at any length, and there is a budget; set max_tokens, or its \
                          limits.answer_tokens"
                .to_owned(),
            (Some(_), None) => {
                "costs money, and how much is left of the budget is not known".to_owned()
            }
            (Some(cost), Some(left)) if cost > left => {
                let left = left.max(Decimal::ZERO).normalize();
                format!("may cost {}, and {left} is left", cost.normalize())
            }
            (Some(_), Some(_)) => return None,
        };
        Some(why)
    }
}

/// The endpoint that a device's name stands for.
pub(super) fn remote_of(device: &str) -> Option<&str> {
    device.strip_prefix("remote:")
}

fn too_long(remote: &Remote, facts: &Facts) -> Option<String> {
    let most = remote.limits.prompt_tokens?;
    let tokens = facts.prompt_tokens.filter(|tokens| *tokens > most)?;
    Some(format!(
        "takes prompts of {most} tokens, and this one has {tokens}"
    ))
}

/// What an answer costs at most; `None` beyond all numbers. Nothing is taken to be in the endpoint's cache.
fn cost(price: Price, prompt_tokens: usize, answer_tokens: usize) -> Option<Decimal> {
    let million = Decimal::from(1_000_000);
    let input = price.input.max(price.cached.unwrap_or_default());
    let prompt = Decimal::from(prompt_tokens).checked_mul(input)?;
    let answers = Decimal::from(answer_tokens).checked_mul(price.output)?;
    prompt.checked_add(answers)?.checked_div(million)
}

/// Tokens of a prompt that nobody has counted: a token has a byte at least.
fn tokens_at_most(what: &impl Asks) -> usize {
    let texts = what.texts();
    texts.iter().map(|text| text.len() + TOKENS_AROUND).sum()
}
