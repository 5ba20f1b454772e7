//! A remote endpoint that answers the examples, for comparison: those that the owner's rules let go, and once the owner has
//! agreed to what that costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rust_decimal::Decimal;
use serde_json::json;
use troika_remote::receipts::{self, Durability, Ledger as _, Receipts};
use troika_remote::redact::Redactor;
use troika_remote::{Facts, Judged, Leave, Loaded, Public, RemoteIndex, Remotes, Tag};
use troika_server::Answer;
use troika_server::job::{Completed, Event, Job, Sampling, Wishes};

use super::WritingArgs;
use super::answers::{Answered, Answers, key};
use super::desk::Desk;
use super::examples::Example;
use super::student::prompt;
use crate::exit::WrongUse;

/// Requests that may fail before the rest is not tried.
const FAILURES_MAX: usize = 3;

/// An endpoint, and the rules of what may go there.
pub(super) struct Teacher {
    loaded: Arc<Loaded>,
    index: RemoteIndex,
    /// The local model that jobs ask for; its rules and its name there are theirs.
    model: String,
    sampling: Sampling,
    max_tokens: Option<usize>,
    parallel: usize,
}

/// An example that may go, and by which rule.
struct Going<'a> {
    example: &'a Example,
    key: String,
    job: Public<Job>,
    leave: Leave,
    prompt_tokens: usize,
}

/// What came of asking.
pub(super) enum Asked {
    /// The answers, where there are any, in the order of the examples.
    Answered(Vec<Option<Answered>>),
    /// Somebody stopped it.
    Stopped,
}

impl Teacher {
    /// The endpoint of this name.
    ///
    /// # Errors
    /// [`WrongUse`] if there is none.
    pub(super) fn new(
        name: &str,
        loaded: &Arc<Loaded>,
        model: &str,
        writing: &WritingArgs,
    ) -> Result<Self, WrongUse> {
        let remotes = &loaded.config.remote;
        let Some(index) = remotes.iter().position(|remote| remote.name == name) else {
            let known: Vec<_> = remotes.iter().map(|remote| &*remote.name).collect();
            let known = match &*known {
                [] => "it names none".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            return Err(WrongUse(format!(
                "--remote {name}: there is no such remote in hybrid.toml; {known}"
            )));
        };
        Ok(Self {
            loaded: Arc::clone(loaded),
            index: RemoteIndex(index),
            model: model.to_owned(),
            sampling: Sampling {
                temperature: writing.temperature,
                ..Sampling::default()
            },
            max_tokens: writing.max_tokens,
            parallel: writing.parallel,
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.loaded.config.remote[self.index.0].name
    }

    /// Asks for all answers that are not known and may be asked for. `tried` is what the local model said, by whose numbers the
    /// cost is foretold; unless `agreed`, nothing is sent, and that is told.
    ///
    /// # Errors
    /// If nobody has agreed, money is short, receipts cannot be written, or too many requests fail.
    pub(super) fn answer(
        &self,
        examples: &[Example],
        tried: &[Answered],
        answers: &mut Answers,
        (state, agreed): (&Path, bool),
        desk: &Desk<'_>,
    ) -> anyhow::Result<Asked> {
        let keys: Vec<String> = examples.iter().map(|example| self.key(example)).collect();
        let unknown: Vec<usize> = (0..examples.len())
            .filter(|&i| answers.get(&keys[i]).is_none())
            .collect();
        let mut stopped = false;
        if !unknown.is_empty() {
            // Held as long as requests go out: no two programs may write receipts at once.
            let path = state.join(receipts::FILE);
            let receipts = Arc::new(Receipts::open(&path, Durability::default())?);
            let left = self.money_left(&receipts);
            let remotes = Remotes::open(&self.loaded.config, state, Arc::clone(&receipts) as _)?;
            let wanted = unknown.into_iter();
            let wanted = wanted.map(|i| (&examples[i], &tried[i], keys[i].clone()));
            let going = self.judge(wanted, left, desk);
            self.agree(&going, &remotes, left, agreed, tried)?;
            stopped = !self.ask(going, &remotes, answers, desk)?;
        }
        match stopped {
            true => Ok(Asked::Stopped),
            false => Ok(Asked::Answered(
                keys.iter().map(|key| answers.get(key).cloned()).collect(),
            )),
        }
    }

    /// The examples that the rules let go to this endpoint; tells how many stay, and why.
    fn judge<'a>(
        &self,
        wanted: impl Iterator<Item = (&'a Example, &'a Answered, String)>,
        money_left: Option<Decimal>,
        desk: &Desk<'_>,
    ) -> Vec<Going<'a>> {
        let mut stay: BTreeMap<String, usize> = BTreeMap::new();
        let mut going = Vec::new();
        for (example, tried, key) in wanted {
            let facts = Facts {
                prompt_tokens: Some(tried.prompt_tokens),
                money_left,
                ..Facts::default()
            };
            let why = match self.loaded.rules.judge(self.job(example), &facts) {
                Judged::MayLeave(job, leave, _) if leave.to.contains(&self.index) => {
                    going.push(Going {
                        example,
                        key,
                        job,
                        leave,
                        prompt_tokens: tried.prompt_tokens,
                    });
                    continue;
                }
                Judged::MayLeave(_, leave, _) => {
                    format!(
                        "rule `{}` does not let it go to `{}`",
                        leave.rule,
                        self.name()
                    )
                }
                Judged::Stays(_, why) => why.to_string(),
            };
            *stay.entry(why).or_default() += 1;
        }
        for (why, count) in stay {
            desk.console.note(format_args!(
                "{count} examples are not asked of `{}`: {why}",
                self.name()
            ));
        }
        going
    }

    /// Tells what asking costs, and goes on only if somebody agreed.
    fn agree(
        &self,
        going: &[Going<'_>],
        remotes: &Remotes,
        left: Option<Decimal>,
        agreed: bool,
        tried: &[Answered],
    ) -> anyhow::Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        // Nobody knows how long its answers are; those of the local model are the only ones there are.
        let written: usize = tried
            .iter()
            .map(|answered| answered.completion_tokens)
            .sum();
        let answer = self
            .max_tokens
            .unwrap_or(written.div_ceil(tried.len().max(1)));
        let costs = going.iter().map(|going| {
            let cost = remotes.cost(self.index, going.prompt_tokens, answer)?;
            Some(cost.amount)
        });
        let cost: Option<Decimal> = costs.sum();
        let currency = &self.loaded.config.hybrid.currency;
        let mut told = format!("asking `{}` for {} answers ", self.name(), going.len());
        let _ = match cost {
            Some(cost) => write!(
                told,
                "costs about {} {currency}, if they have {answer} tokens each",
                cost.round_dp(4).normalize()
            ),
            None => write!(
                told,
                "costs nobody knows what: it has no price in hybrid.toml"
            ),
        };
        if let (Some(cost), Some(left)) = (cost, left)
            && cost > left
        {
            bail!(
                "{told}, and {} {currency} of the budget are left",
                left.normalize()
            );
        }
        match agreed {
            true => Ok(()),
            false => Err(WrongUse(format!("{told}; nothing was sent. Say --yes to ask")).into()),
        }
    }

    /// Asks for all of them; `false` if somebody stopped it.
    fn ask(
        &self,
        going: Vec<Going<'_>>,
        remotes: &Remotes,
        answers: &mut Answers,
        desk: &Desk<'_>,
    ) -> anyhow::Result<bool> {
        let redactor = Redactor::new(&self.loaded.config.redact)?;
        let limit = self.loaded.config.remote[self.index.0].limits.concurrent;
        let parallel = limit
            .map_or(self.parallel, |limit| limit.min(self.parallel))
            .max(1);
        let questions = going
            .iter()
            .map(|going| self.send(going, remotes, &redactor));
        let mut failures = 0;
        desk.ask(
            "asking the remote",
            0,
            questions.collect(),
            parallel,
            |answered| {
                match answered {
                    Ok(answered) => return answers.keep(answered),
                    Err(error) if failures == FAILURES_MAX => return Err(error),
                    Err(error) => desk.console.note(format_args!("left out: {error:#}")),
                }
                failures += 1;
                Ok(())
            },
        )
    }

    async fn send(
        &self,
        going: &Going<'_>,
        remotes: &Remotes,
        redactor: &Redactor,
    ) -> anyhow::Result<Answered> {
        let context = || {
            format!(
                "line {}: `{}` gave no answer",
                going.example.line,
                self.name()
            )
        };
        let started = std::time::Instant::now();
        let redacted = redactor
            .apply(&going.job, &going.leave.redact)
            .with_context(context)?;
        let tag = Tag {
            request_id: request_id(going.example),
            rule: going.leave.rule.clone(),
            redacted: redacted.counts.clone(),
            prompt_tokens: Some(going.prompt_tokens),
        };
        let (events, answer) = Answer::channel(self.model.clone(), 1);
        let usage = remotes.send(self.index, &redacted.job, &tag, &events).await;
        let usage = usage.with_context(context)?;
        // The answer's other end is here, and takes it.
        let _ = events.send(Ok(Event::Done(usage)));
        let completed = answer.collect().await.with_context(context)?;
        let Completed { choices, usage } = redacted.map.restore().completed(completed);
        let sent = usage.report.map(|report| report.sent).unwrap_or_default();
        let costs = sent.iter().map(|sent| Some(sent.cost.as_ref()?.amount));
        let answer = choices.into_iter().next().map(|choice| choice.content);
        Ok(Answered {
            key: going.key.clone(),
            score: None,
            why: None,
            answer: answer.unwrap_or_default(),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            reference_tokens: 0,
            joules: None,
            seconds: started.elapsed().as_secs_f64(),
            cost: costs.sum(),
        })
    }

    /// The job as a client would send it.
    fn job(&self, example: &Example) -> Job {
        Job {
            model: self.model.clone(),
            prompt: example.prompt.clone(),
            n: 1,
            max_tokens: self.max_tokens,
            sampling: self.sampling.clone(),
            wishes: Wishes {
                request_id: request_id(example),
                ..Wishes::default()
            },
            ..Job::default()
        }
    }

    /// Money that may still be spent, by the tighter of the budgets.
    fn money_left(&self, receipts: &Receipts) -> Option<Decimal> {
        let hybrid = &self.loaded.config.hybrid;
        let spent = receipts.spent(&hybrid.currency);
        let day = hybrid.budget_per_day.map(|budget| budget - spent.today);
        let month = hybrid
            .budget_per_month
            .map(|budget| budget - spent.this_month);
        day.into_iter().chain(month).min()
    }

    fn key(&self, example: &Example) -> String {
        let remote = &self.loaded.config.remote[self.index.0];
        key(&json!({
            "version": 1,
            "remote": remote.url,
            "model": remote.model(&self.model),
            // A rule may have another model asked.
            "rules": self.loaded.config.rule.iter().map(|rule| &rule.model).collect::<Vec<_>>(),
            "temperature": self.sampling.temperature,
            "max_tokens": self.max_tokens,
            "prompt": prompt(&example.prompt),
        }))
    }
}

fn request_id(example: &Example) -> String {
    format!("calibrate-{}", example.line)
}
