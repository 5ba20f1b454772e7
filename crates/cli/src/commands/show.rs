//! `troika show`: what is in a model file, and how much memory it takes.

mod facts;
mod json;
mod text;

use crate::args::{ModelArgs, context_length};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::model;
use crate::output::{self, Console};

use facts::Facts;

/// Show what is in a model file, and how much memory it takes
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside
    #[arg(value_name = "MODEL")]
    word: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Memory with a context of N tokens; several with commas [default: some lengths up to the model's own]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = context_length)]
    ctx: Vec<usize>,
    /// List the tensors
    #[arg(long)]
    tensors: bool,
    /// Print the chat template and nothing else
    #[arg(long, conflicts_with = "tensors")]
    template: bool,
}

pub(crate) fn run(args: &ShowArgs, console: &Console) -> anyhow::Result<()> {
    let name = match (&args.word, &args.model.model) {
        (Some(_), Some(_)) => {
            return Err(WrongUse("name one model, by word or by --model".to_owned()).into());
        }
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => {
            return Err(
                WrongUse("name a model: `troika list` shows what is installed".to_owned()).into(),
            );
        }
    };
    let source = model::need(name, &Home::from_env()?)?;
    let file = source.open()?;
    let facts = Facts::of(&file, source.manifest(), &args.ctx);
    if args.template {
        let template = facts
            .template
            .ok_or_else(|| anyhow::anyhow!("this model has no chat template"))?;
        return if console.json {
            output::json(&template)
        } else {
            output::answer(format_args!("{template}\n"))
        };
    }
    if console.json {
        return output::json(&json::value(
            &facts,
            source.path().map(|path| path.display().to_string()),
            args.tensors,
        ));
    }
    output::answer(text::page(&facts, args.tensors))
}
