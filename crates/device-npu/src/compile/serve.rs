//! The child's side of a [`Worker`](super::Worker): compiles one model, and says how it goes.

use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use troika_device::Cancelled;
use troika_gguf::ModelFile;

use super::loss::{Compare, Loss};
use super::wire::{Message, Request};
use crate::device::Compiled;
use crate::{Backend, CompileProgress, Error, Phase};

/// Progress within a phase is told no more often.
const BREATH: Duration = Duration::from_millis(100);

/// Reads a [`Request`] from the first line of `input`, does it with one of `backends`, and writes to `output` how it
/// goes. When `input` ends before that, the parent is gone, and `abandoned` is called, which should end the process: no
/// compiler listens to anyone.
///
/// # Errors
/// If the request cannot be read, or nobody reads `output`. What goes wrong with the work itself is told to the parent.
pub fn serve(
    mut input: impl BufRead + Send + 'static,
    output: &mut dyn Write,
    backends: &[Arc<dyn Backend>],
    compare: &dyn Compare,
    abandoned: impl FnOnce() + Send + 'static,
) -> Result<(), Error> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(failed)?;
    let request: Request = serde_json::from_str(&line).map_err(|error| Error::Invalid {
        what: "the worker's request".to_owned(),
        reason: error.to_string(),
    })?;
    // Nobody waits for this thread: it reads until the parent ends.
    thread::spawn(move || {
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        abandoned();
    });
    let mut teller = Teller { output, told: None };
    let message = match work(&request, backends, compare, &mut teller) {
        Ok(loss) => Message::Done { loss },
        Err(error) => Message::Failed(error.into()),
    };
    teller.say(&message).map_err(failed)
}

fn work(
    request: &Request,
    backends: &[Arc<dyn Backend>],
    compare: &dyn Compare,
    teller: &mut Teller<'_>,
) -> Result<Option<Loss>, Error> {
    let backend = backends
        .iter()
        .find(|backend| backend.name() == request.backend)
        .ok_or_else(|| Error::Invalid {
            what: request.backend.clone(),
            reason: "the worker has no such backend".to_owned(),
        })?;
    if backend.version() != request.version {
        return Err(Error::Invalid {
            what: request.backend.clone(),
            reason: format!(
                "its version is {} now, and was {}; try again",
                backend.version(),
                request.version
            ),
        });
    }
    let file = ModelFile::open(&request.model).map_err(troika_device::Error::from)?;
    let options = &request.options;
    let mut progress = |progress| teller.progress(progress);
    backend.compile(&file, options, &request.directory, &mut progress)?;
    if !request.compares {
        return Ok(None);
    }
    let compiled = Compiled::new(Arc::clone(backend), options.clone(), &request.directory);
    let (done, total) = (0, 0);
    let phase = Phase::Compare;
    if progress(CompileProgress { phase, done, total }).is_break() {
        return Err(Error::Cancelled);
    }
    let loss = compare.compare(&file, &compiled, options, &mut progress)?;
    Ok(Some(loss))
}

/// Tells the parent.
struct Teller<'o> {
    output: &'o mut dyn Write,
    told: Option<(Phase, Instant)>,
}

impl Teller<'_> {
    /// Breaks when nobody listens any more.
    fn progress(&mut self, progress: CompileProgress) -> ControlFlow<Cancelled> {
        let is_last = progress.total > 0 && progress.done == progress.total;
        if !is_last
            && self
                .told
                .is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < BREATH)
        {
            return ControlFlow::Continue(());
        }
        self.told = Some((progress.phase, Instant::now()));
        match self.say(&Message::Progress(progress)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(Cancelled),
        }
    }

    fn say(&mut self, message: &Message) -> std::io::Result<()> {
        self.output.write_all(message.line().as_bytes())?;
        self.output.flush()
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Io {
        path: PathBuf::from("the worker's pipe"),
        source,
    }
}
