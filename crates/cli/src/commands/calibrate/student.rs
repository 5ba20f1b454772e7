//! The local model, run as the server runs it, over all examples.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use troika_remote::cascade::{self, Local, Sureness};
use troika_remote::config::{Cascade, Judge};
use troika_scheduler::Class;
use troika_server::job::{Caller, Job, Prompt, Sampling, Wishes};
use troika_server::{Answer, ApiError, Backend, Settings};

use super::WritingArgs;
use super::answers::{Answered, Answers, key};
use super::desk::Desk;
use super::examples::Example;
use crate::commands::serve;
use crate::home::Home;
use crate::model::{self, Source};

/// A model of this machine that is examined.
pub(super) struct Student {
    here: Here,
    name: String,
    digest: String,
    is_built_in: bool,
    cascade: Cascade,
    sampling: Sampling,
    max_tokens: Option<usize>,
    parallel: usize,
}

/// The models on this machine, as the cascade wants them.
#[derive(Clone)]
struct Here(Arc<dyn Backend>);

impl Local for Here {
    fn submit(&self, job: Job) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.0.submit(job, Caller::default())
    }
}

impl Student {
    /// Finds the model, and the devices of this machine.
    ///
    /// # Errors
    /// If there is no such model, or the system refuses threads.
    pub(super) fn new(
        word: &str,
        cascade: &Cascade,
        writing: &WritingArgs,
        mut settings: Settings,
        desk: &Desk<'_>,
    ) -> anyhow::Result<Self> {
        let home = Home::from_env()?;
        let source = model::need(word, &home)?;
        let name = name(word, &source, &mut settings)?;
        // What is asked here is asked of this machine alone.
        settings.offline = true;
        let (here, digest) = {
            let _within = desk.runtime.enter();
            let (backend, _media) = serve::models(&settings, &home, desk.console)?;
            let models = desk.runtime.block_on(backend.models())?;
            let found = models.into_iter().find(|model| model.name == name);
            (Here(backend), found.map(|model| model.digest))
        };
        let Some(digest) = digest else {
            bail!(
                "{word}: the model is damaged, or its file has a name that no model can be asked for by"
            );
        };
        Ok(Self {
            here,
            name,
            digest,
            is_built_in: source.is_built_in(),
            cascade: cascade.clone(),
            sampling: Sampling {
                temperature: writing.temperature,
                seed: Some(writing.seed),
                ..Sampling::default()
            },
            max_tokens: writing.max_tokens,
            parallel: writing.parallel,
        })
    }

    /// What the model is called in a request.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_built_in(&self) -> bool {
        self.is_built_in
    }

    /// The answers to all examples, in their order; those that are known are not asked again. `None` if somebody stopped it,
    /// with what was answered until then kept.
    ///
    /// # Errors
    /// If the model cannot answer one at all: which, and why.
    pub(super) fn answer(
        &self,
        examples: &[Example],
        answers: &mut Answers,
        desk: &Desk<'_>,
    ) -> anyhow::Result<Option<Vec<Answered>>> {
        let keys: Vec<String> = examples.iter().map(|example| self.key(example)).collect();
        let all = examples.iter().zip(&keys);
        let missing = all.filter(|(_, key)| answers.get(key).is_none());
        let questions = missing.map(|(example, key)| self.ask(example, key));
        let questions: Vec<_> = questions.collect();
        let known = examples.len() - questions.len();
        let keep = |answered: anyhow::Result<Answered>| answers.keep(answered?);
        if !desk.ask("answering", known, questions, self.parallel, keep)? {
            return Ok(None);
        }
        Ok(keys.iter().map(|key| answers.get(key).cloned()).collect())
    }

    async fn ask(&self, example: &Example, key: &str) -> anyhow::Result<Answered> {
        let line = example.line;
        let started = Instant::now();
        let job = self.job(example);
        let attempt = cascade::attempt(&self.cascade, &self.here, &job, None, None).await;
        let attempt = attempt
            .with_context(|| format!("`{}` cannot answer the example of line {line}", self.name))?;
        let reference_tokens = match &example.reference {
            Some(reference) => {
                let text = Prompt::Text(reference.clone());
                self.here.0.count_tokens(self.name.clone(), text).await?
            }
            None => 0,
        };
        let (score, why) = match attempt.sureness {
            Sureness::Score(score) => (Some(score), None),
            Sureness::Unknown(why) => (None, Some(why)),
        };
        let report = attempt.usage.report;
        Ok(Answered {
            key: key.to_owned(),
            score,
            why,
            answer: attempt
                .choices
                .into_iter()
                .next()
                .map(|choice| choice.content)
                .unwrap_or_default(),
            prompt_tokens: attempt.usage.prompt_tokens,
            completion_tokens: attempt.usage.completion_tokens,
            reference_tokens,
            joules: report.and_then(|report| report.account.joules),
            seconds: started.elapsed().as_secs_f64(),
            cost: None,
        })
    }

    fn job(&self, example: &Example) -> Job {
        Job {
            model: self.name.clone(),
            prompt: example.prompt.clone(),
            n: 1,
            max_tokens: self.max_tokens,
            sampling: self.sampling.clone(),
            wishes: Wishes {
                request_id: format!("calibrate-{}", example.line),
                class: Some(Class::Background),
                local_only: true,
                ..Wishes::default()
            },
            ..Job::default()
        }
    }

    /// All that the answer and its score depend on.
    fn key(&self, example: &Example) -> String {
        let judge = self.cascade.judge;
        let samples = (judge == Judge::Samples).then_some(self.cascade.samples);
        key(&json!({
            "version": 1,
            "model": self.digest,
            "name": self.name,
            "judge": judge.name(),
            "samples": samples,
            "temperature": self.sampling.temperature,
            "seed": self.sampling.seed,
            "max_tokens": self.max_tokens,
            "prompt": prompt(&example.prompt),
            "reference": example.reference,
        }))
    }
}

/// A prompt as what names it.
pub(super) fn prompt(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Chat(chat) => json!(chat.messages),
        Prompt::Text(text) => json!(text),
        Prompt::Rendered(text) => json!({"rendered": text}),
        Prompt::Tokens(ids) => json!({"tokens": ids}),
    }
}

/// What a model is called in the library; a file that is not in it makes its directory the library.
fn name(word: &str, source: &Source, settings: &mut Settings) -> anyhow::Result<String> {
    let library = Home::library_in(settings.models_dir.clone());
    match (library.find(word), source) {
        (Ok(entry), _) => Ok(entry.name),
        (Err(_), Source::File(path)) => {
            let path = std::path::absolute(path).context("the current directory is gone")?;
            settings.models_dir = path.parent().unwrap_or(Path::new("/")).to_owned();
            let library = Home::library_in(settings.models_dir.clone());
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            Ok(library.find(&stem)?.name)
        }
        (Err(error), _) => Err(error.into()),
    }
}
