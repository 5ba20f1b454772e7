//! Where drafts come from: the text itself, or a smaller model.

use anyhow::Context as _;
use troika_device::LoadOptions;
use troika_engine::{DRAFT_MAX, DraftModel, Drafter, Model, PromptLookup, Session};

use crate::exit::WrongUse;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load::{self, Processor};
use crate::model;
use crate::output::Console;

/// Guesses that make an answer faster where they are right; the text is the same.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Drafts")]
pub(super) struct DraftArgs {
    /// Guess tokens ahead, and read them together: `ngram` guesses what the text said before (code, quotations,
    /// summaries), a smaller MODEL of the same family what it would say. The text stays the same
    #[arg(long, value_name = "ngram|MODEL")]
    draft: Option<String>,
    /// Tokens that are guessed ahead at most
    #[arg(long, value_name = "N", default_value_t = DRAFT_MAX, value_parser = reach, requires = "draft")]
    draft_max: usize,
}

/// Drafts for one conversation.
pub(super) struct Drafting<'m> {
    pub(super) drafter: Box<dyn Drafter + 'm>,
    /// Tokens at most.
    pub(super) most: usize,
}

impl DraftArgs {
    /// The smaller model, if one is named.
    ///
    /// # Errors
    /// If it is not there, or does not load.
    pub(super) fn model(
        &self,
        home: &Home,
        device: &Processor,
        n_ctx: usize,
        console: &Console,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<Model>> {
        let Some(name) = self.draft.as_deref().filter(|name| *name != "ngram") else {
            return Ok(None);
        };
        let file = model::need(name, home)?.open()?;
        let spec = troika_engine::model_spec(&file).context("cannot load the draft model")?;
        let options = LoadOptions::new(n_ctx.min(spec.n_ctx));
        let (model, _) = load::model(&file, device.device(), options, console, interrupt)?;
        Ok(Some(model))
    }

    /// What drafts for `target`. `model` is what [`Self::model`] gave.
    ///
    /// # Errors
    /// [`WrongUse`] if the smaller model has another vocabulary.
    pub(super) fn drafting<'m>(
        &self,
        model: Option<&'m mut Model>,
        target: &Model,
    ) -> Result<Option<Drafting<'m>>, WrongUse> {
        let drafter: Box<dyn Drafter + 'm> = match (&self.draft, model) {
            (None, _) => return Ok(None),
            (Some(_), None) => Box::new(PromptLookup::default()),
            (Some(_), Some(model)) => {
                let drafter = DraftModel::new(Session::new(model), target);
                Box::new(drafter.map_err(|error| WrongUse(format!("--draft: {error}")))?)
            }
        };
        let most = self.draft_max;
        Ok(Some(Drafting { drafter, most }))
    }
}

fn reach(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=DRAFT_MAX).contains(&n) => Ok(n),
        _ => Err(format!("must be from 1 to {DRAFT_MAX}")),
    }
}
