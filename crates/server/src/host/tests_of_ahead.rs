//! Devices are told when a step goes on as the one before it, so that they can begin with it: no more and no less often.

use std::ops::ControlFlow;
use std::sync::Mutex;

use troika_device::{
    Around, Batch, Cancelled, Error, LoadOptions, LoadProgress, Outputs, Resident,
};
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;

use super::models::lock;
use super::tests::{Home, STORIES, answer, job};
use super::*;

/// A step: whether it was said to go on, and where its sequences end.
#[derive(Clone, Debug)]
struct Taken {
    ahead: bool,
    ends: Vec<usize>,
}

type Log = Arc<Mutex<Vec<Taken>>>;

struct Told {
    inner: Box<dyn Resident>,
    log: Log,
}

impl Told {
    fn note(&self, batch: &Batch<'_>, ahead: bool) {
        let ends = batch.sequences.iter();
        let ends = ends.map(|s| s.position + s.tokens.len()).collect();
        lock(&self.log).push(Taken { ahead, ends });
    }
}

impl Around for Told {
    fn inner(&self) -> &dyn Resident {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Resident {
        &mut *self.inner
    }

    fn take_step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.note(batch, false);
        self.inner.step(batch)
    }

    fn take_step_ahead(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.note(batch, true);
        self.inner.step_ahead(batch)
    }
}

struct Listening(CpuDevice, Log);

impl Device for Listening {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn description(&self) -> String {
        self.0.description()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let inner = self.0.load(file, options, progress)?;
        let log = Arc::clone(&self.1);
        Ok(Box::new(Told { inner, log }))
    }
}

/// Answers together, and the steps that came of them.
async fn steps_of(name: &str, jobs: Vec<Job>) -> Vec<Taken> {
    let home = Home::new(name);
    let log = Log::default();
    let library = Library::open(home.0.clone(), &[("stories", STORIES)]);
    let cpu = CpuDevice::batch_invariant(2);
    let device = Listening(cpu, Arc::clone(&log));
    let host =
        Host::new(Arc::new(library), Arc::new(device), HostSettings::default()).expect("threads");
    // Loads the model, and answers the known question.
    answer(&host, job("Tom", 1)).await.expect("an answer");
    lock(&log).clear();
    let answers = jobs.into_iter().map(|job| answer(&host, job));
    for done in futures_util::future::join_all(answers).await {
        done.expect("an answer");
    }
    std::mem::take(&mut *lock(&log))
}

fn greedy(prompt: &str, max_tokens: usize) -> Job {
    let mut job = job(prompt, max_tokens);
    job.sampling.temperature = Some(0.0);
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_answer_is_foreseen_and_its_end_too() {
    let steps = steps_of("foreseen", vec![greedy("Once upon a time", 20)]).await;
    for pair in steps.windows(2) {
        if pair[0].ahead {
            let next: Vec<_> = pair[0].ends.iter().map(|end| end + 1).collect();
            assert_eq!(pair[1].ends, next);
        }
    }
    // The prompt, and a token to know the sequence by; of the last one nothing follows.
    let foreseen = steps.iter().filter(|step| step.ahead).count();
    assert_eq!((steps.len(), foreseen), (20, 17), "{steps:?}");
    assert!(!steps.last().expect("steps").ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_go_on_otherwise_is_not_foreseen() {
    let mut penalised = greedy("Once upon a time", 10);
    penalised.sampling.repeat_penalty = Some(1.3);
    let mut shaped = greedy("Once upon a time", 10);
    shaped.format = crate::job::Format::Regex("[a-z ]+".to_owned());
    for (name, other) in [
        ("sampled", job("Once upon a time", 10)),
        ("penalised", penalised),
        ("shaped", shaped),
    ] {
        let steps = steps_of(name, vec![other]).await;
        assert!(steps.len() > 3, "{name}: {steps:?}");
        assert!(steps.iter().all(|step| !step.ahead), "{name}: {steps:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_foreseen_is_enough() {
    let jobs = vec![greedy("Once upon a time", 30), job("Tom", 30)];
    let steps = steps_of("both", jobs).await;
    let wrong = |step: &&Taken| step.ahead && step.ends.len() > 1;
    assert_eq!(steps.iter().filter(wrong).count(), 0, "{steps:?}");
}
