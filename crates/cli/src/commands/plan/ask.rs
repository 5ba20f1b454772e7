//! The six questions: what for, where, how soon, on which power, for how much, on which software.
//!
//! An empty answer leaves the default. An answer that makes no sense is asked for again.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::ValueEnum;
use rustyline::config::{Behavior, Config};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use troika_planner::catalogue::Catalogue;
use troika_planner::plan::workload::Form;

use super::flags::Word;
use crate::exit::Interrupted;
use crate::output;

/// Whether somebody is there to be asked.
pub(super) fn is_possible() -> bool {
    std::io::stdin().is_terminal() && output::stderr_is_terminal()
}

/// Where answers come from.
trait Answers {
    fn answer(&mut self, question: &str) -> anyhow::Result<String>;
}

struct Terminal(rustyline::Editor<(), MemHistory>);

impl Answers for Terminal {
    fn answer(&mut self, question: &str) -> anyhow::Result<String> {
        match self.0.readline(&format!("{question}: ")) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Err(Interrupted.into()),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

/// Asks, and makes a workload of the answers.
pub(super) fn questions(catalogue: &Catalogue) -> anyhow::Result<Form> {
    let config = Config::builder().behavior(Behavior::PreferTerm).build();
    let history = MemHistory::with_config(&config);
    let editor = rustyline::Editor::with_history(config, history).context("cannot read from the terminal")?;
    output::say("Six questions; Enter leaves what is in brackets. Flags and `--workload FILE` say the same, and more.");
    ask(&mut Terminal(editor), catalogue)
}

fn ask(answers: &mut dyn Answers, catalogue: &Catalogue) -> anyhow::Result<Form> {
    let task = choice(answers, "1. What for? chat, code, agent, rag, embed, transcribe, vision [chat]")?;
    let model = text(answers, "   Which model? A name, a .gguf file, or best [best]", |name| {
        let known = name == "best" || name.contains(['/', '.']) || catalogue.model(name).is_ok();
        if known { Ok(()) } else { Err(catalogue.model(name).err().map_or_else(String::new, |unknown| unknown.to_string())) }
    })?;
    let users = amount(answers, "   How many users at once? [1]", 1.0)?.map(|users| users as u32);
    let privacy = choice(answers, "2. Where may it run? local-only, any [any]")?;
    let country = text(answers, "   In which country? [US]", |name| {
        catalogue.country(name).map(|_| ()).map_err(|unknown| unknown.to_string())
    })?;
    let ttft_s = amount(answers, "3. How soon must it answer? Seconds to the first token [by task]", 0.0)?;
    let tps = amount(answers, "   How fast? Tokens a second for each user [by task]", 0.0)?;
    let supply = choice(answers, "4. On which power? mains, battery [mains]")?;
    let budget_usd = money(answers, "5. How much may be spent at once, in USD? [no limit]")?;
    let budget_usd_month = money(answers, "   And a month? [no limit]")?;
    let ecosystem = choice(
        answers,
        "6. On which software? cuda, rocm, metal, vulkan, sycl, openvino, qnn, vitisai, coreml, cpu [any]",
    )?;
    Ok(Form {
        task,
        model,
        users,
        privacy,
        country,
        ttft_s,
        tps,
        supply,
        budget_usd,
        budget_usd_month,
        ecosystem,
        ..Form::default()
    })
}

/// Asks until the answer makes sense.
fn until<T>(
    answers: &mut dyn Answers,
    question: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<Option<T>> {
    loop {
        let answer = answers.answer(question)?;
        if answer.is_empty() {
            return Ok(None);
        }
        match read(&answer) {
            Ok(value) => return Ok(Some(value)),
            Err(why) => output::say(format_args!("   {why}")),
        }
    }
}

fn choice<T: Copy>(answers: &mut dyn Answers, question: &str) -> anyhow::Result<Option<T>>
where
    Word<T>: ValueEnum,
{
    until(answers, question, |answer| {
        let word = Word::<T>::from_str(answer, true);
        word.map(|word| word.0).map_err(|_| format!("{answer:?} is none of these"))
    })
}

fn text(
    answers: &mut dyn Answers,
    question: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> anyhow::Result<Option<String>> {
    until(answers, question, |answer| check(answer).map(|()| answer.to_owned()))
}

/// A number above `least`, or from it on if it is 1.
fn amount(answers: &mut dyn Answers, question: &str, least: f64) -> anyhow::Result<Option<f64>> {
    until(answers, question, |answer| {
        let value = answer.parse().ok().filter(|value: &f64| value.is_finite());
        let value = value.filter(|&value| value > least || (least > 0.0 && value >= least));
        value.ok_or_else(|| format!("{answer:?} is not a number above {least}"))
    })
}

fn money(answers: &mut dyn Answers, question: &str) -> anyhow::Result<Option<f64>> {
    until(answers, question, |answer| {
        let value = answer.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
        value.ok_or_else(|| format!("{answer:?} is not an amount"))
    })
}

#[cfg(test)]
mod tests {
    use troika_planner::plan::workload::{Privacy, Supply, Task};

    use super::*;

    struct Script(std::vec::IntoIter<&'static str>);

    impl Answers for Script {
        fn answer(&mut self, _: &str) -> anyhow::Result<String> {
            Ok(self.0.next().expect("no more questions than answers").to_owned())
        }
    }

    fn answered(answers: &[&'static str]) -> Form {
        let mut script = Script(answers.to_vec().into_iter());
        let form = ask(&mut script, Catalogue::builtin()).expect("is answered");
        assert_eq!(script.0.next(), None, "no fewer questions than answers");
        form
    }

    #[test]
    fn silence_leaves_every_default() {
        assert_eq!(answered(&[""; 12][..11]), Form::default());
    }

    #[test]
    fn nonsense_is_asked_for_again() {
        let form = answered(&[
            "cooking", "rag", "", "many", "-1", "4", "local-only", "", "nan", "1.5", "", "battery", "-5", "2000", "", "",
        ]);
        assert_eq!((form.task, form.users, form.privacy), (Some(Task::Rag), Some(4), Some(Privacy::LocalOnly)));
        assert_eq!((form.ttft_s, form.supply, form.budget_usd), (Some(1.5), Some(Supply::Battery), Some(2000.0)));
    }
}
