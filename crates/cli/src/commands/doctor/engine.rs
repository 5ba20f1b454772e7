//! Whether the engine computes: the model inside writes words that are known.

use std::ops::ControlFlow;

use anyhow::Context as _;
use troika_device::LoadOptions;
use troika_engine::sampler::SamplingParams;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Event, GenerateOptions, Model, Session};

use super::Check;
use crate::load;
use crate::model::Source;

const NAME: &str = "engine";

const PROMPT: &str = "Once upon a time";
/// What the likeliest three tokens after it are, on all kernels.
const ANSWER: &str = ", there was";
const TOKENS: usize = 3;

pub(super) fn check() -> Check {
    judge(write())
}

/// What is said if the engine has ended in a way that it never should.
pub(super) fn panicked() -> Check {
    judge(Err(anyhow::anyhow!("it broke off")))
}

fn judge(written: anyhow::Result<String>) -> Check {
    const REPORT: &str = "Try other kernels: `TROIKA_ISA=scalar troika doctor`. If that helps, please report the processor's name.";
    match written {
        Ok(text) if text == ANSWER => Check::ok(
            NAME,
            format!("the model inside writes what it should: {PROMPT}{ANSWER} ..."),
        ),
        Ok(text) => {
            let what = format!(
                "the model inside writes {text:?} after {PROMPT:?}, and should write {ANSWER:?}"
            );
            Check::fault(NAME, what).mend(REPORT)
        }
        Err(error) => {
            Check::fault(NAME, format!("the model inside cannot write: {error:#}")).mend(REPORT)
        }
    }
}

fn write() -> anyhow::Result<String> {
    let device = load::cpu(None)?;
    let file = Source::BuiltIn.open()?;
    let options = LoadOptions::new(64);
    let mut model = Model::load(&file, &device, options, &mut |_| ControlFlow::Continue(()))
        .context("it cannot be loaded")?;
    let encode = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let prompt = model.tokenizer().encode(PROMPT, encode);
    let options = GenerateOptions {
        max_tokens: Some(TOKENS),
        sampling: SamplingParams::greedy(),
        ..GenerateOptions::default()
    };
    let mut text = String::new();
    Session::new(&mut model).generate(&prompt, &options, &mut |event| {
        if let Event::Text(more) = event {
            text.push_str(more);
        }
        ControlFlow::Continue(())
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn the_model_inside_writes_what_is_known() {
        let found = check();
        assert_eq!(found.level, Level::Ok, "{found:?}");
    }

    #[test]
    fn wrong_words_and_errors_are_faults() {
        assert_eq!(judge(Ok(", thera was".to_owned())).level, Level::Fault);
        assert_eq!(panicked().level, Level::Fault);
    }
}
