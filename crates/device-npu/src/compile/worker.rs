//! The parent's side of a compilation: a child process that does it, and may crash, hang or talk nonsense.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use troika_device::Cancelled;

use super::loss::Loss;
use super::process;
use super::wire::{Message, Request};
use crate::{CompileProgress, Error, Phase};

/// How often the caller is asked whether it still wants the result, and the child whether it lives.
const TICK: Duration = Duration::from_millis(50);
/// So many of them without a word, after the child has ended, mean that there is none to come.
const SILENT_MAX: u32 = 10;
/// How long a child that has said how it went may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes of the child's words that are kept.
const LAST_WORDS: usize = 2000;
/// How long is waited for them after its end.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(500);
/// A longer line is none of ours.
const LINE_MAX: usize = 1 << 16;

/// How a compiling process is started: a program that calls [`serve`](super::serve).
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables for it, beside those of this process.
    pub env: Vec<(OsString, OsString)>,
    /// How long a compilation may take; as long as it likes if `None`.
    pub timeout: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// What the weights lost, if that was asked for.
    pub loss: Option<Loss>,
}

impl Worker {
    /// Compiles in a process of its own. `progress` is called many times a second, whether there is any or not, and may
    /// end it; the process is killed then, and all that it has started.
    ///
    /// # Errors
    /// What the child says; [`Error::CompilerDied`] if it ended without a word or took too long; [`Error::Io`] if it
    /// cannot be started.
    pub fn run(
        &self,
        request: &Request,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Done, Error> {
        let mut running = Running::start(self, request).map_err(|source| Error::Io {
            path: self.program.clone(),
            source,
        })?;
        let said = running.listen(self.timeout, progress)?;
        match said {
            Message::Done { loss } => Ok(Done { loss }),
            Message::Failed(failure) => Err(failure.into()),
            Message::Progress(_) => unreachable!("progress ends nothing. This is a bug."),
        }
    }
}

/// The child while it runs. It is dead when this is dropped.
struct Running {
    child: Child,
    messages: Receiver<Message>,
    /// Reads the error output to its end.
    errors: JoinHandle<()>,
    words: Words,
}

impl Running {
    fn start(worker: &Worker, request: &Request) -> io::Result<Self> {
        let mut command = Command::new(&worker.program);
        command
            .args(&worker.args)
            .envs(worker.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::apart(&mut command).spawn()?;
        let words = Words::default();
        let (heard, messages) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped. This is a bug.");
        let stderr = child.stderr.take().expect("it is piped. This is a bug.");
        listen_to(stdout, words.clone(), heard);
        let running = Self {
            child,
            messages,
            errors: remember(stderr, words.clone()),
            words,
        };
        running.ask(request)
    }

    /// The pipe stays open: its end would tell the child that we are gone.
    fn ask(mut self, request: &Request) -> io::Result<Self> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        if let Some(stdin) = &mut self.child.stdin {
            // A child that died at once is told of by how it ended.
            let _ = stdin.write_all(line.as_bytes());
        }
        Ok(self)
    }

    /// Waits for the child's last message.
    fn listen(
        &mut self,
        timeout: Option<Duration>,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Message, Error> {
        let started = Instant::now();
        let mut silent = 0;
        let mut last = CompileProgress {
            phase: Phase::Lower,
            done: 0,
            total: 0,
        };
        loop {
            match self.messages.recv_timeout(TICK) {
                Ok(Message::Progress(heard)) => last = heard,
                Ok(end) => {
                    self.say_goodbye();
                    return Ok(end);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
                // What it has started may hold the pipe open for ever.
                Err(RecvTimeoutError::Timeout) if self.has_ended() => {
                    silent += 1;
                    if silent == SILENT_MAX {
                        return Err(self.died());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if progress(last).is_break() {
                return Err(Error::Cancelled);
            }
            if let Some(limit) = timeout.filter(|limit| started.elapsed() > *limit) {
                return Err(Error::CompilerDied {
                    how: format!(
                        "was ended after {} s, as it was not done",
                        limit.as_secs_f64()
                    ),
                    last: self.words.text(),
                });
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Some libraries fall over, or asleep, while they are put away. The result stands.
    fn say_goodbye(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until && !self.has_ended() {
            thread::sleep(TICK);
        }
    }

    /// Why there is no result.
    fn died(&mut self) -> Error {
        // Its output is closed, so it ends soon, or is made to.
        let until = Instant::now() + FAREWELL;
        let how = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break process::ending(status),
                Ok(None) if Instant::now() < until => thread::sleep(TICK),
                Ok(None) => break "closed its output, and went on".to_owned(),
                Err(error) => break format!("is lost: {error}"),
            }
        };
        // Its last words may still be on their way; what it has started may hold the pipe open for ever.
        let until = Instant::now() + LAST_WORDS_WAIT;
        while Instant::now() < until && !self.errors.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        Error::CompilerDied {
            how,
            last: self.words.text(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = process::kill(&mut self.child) {
            tracing::warn!("the compiler's process cannot be ended: {error}");
        }
        let _ = self.child.wait();
    }
}

/// The end of what a child said to nobody in particular.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<VecDeque<u8>>>);

impl Words {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.trim() {
            "" => "none".to_owned(),
            text => text.to_owned(),
        }
    }
}

fn remember(mut from: ChildStderr, words: Words) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            words.add(&buffer[..read]);
        }
    })
}

fn listen_to(mut from: ChildStdout, words: Words, heard: Sender<Message>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            for &byte in &buffer[..read] {
                if byte != b'\n' && line.len() < LINE_MAX {
                    line.push(byte);
                    continue;
                }
                if let Some(message) = Message::parse(&String::from_utf8_lossy(&line)) {
                    // Nobody listens after the last message.
                    let _ = heard.send(message);
                } else if !line.is_empty() {
                    line.push(b'\n');
                    words.add(&line);
                }
                line.clear();
            }
        }
        words.add(&line);
    });
}
