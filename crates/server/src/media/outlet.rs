//! The way from a model's thread to the client that waits, and what is told on it.
//!
//! The thread never waits for a client longer than the patience that the whole errand has; a client that leaves is
//! noticed at the next piece.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::shelf::Loaded;
use crate::{ApiError, ErrorKind};

/// Pieces that wait for their client: of sound, some minutes.
const PIECES: usize = 1024;
/// How long a model waits for a client that reads slowly, over all of an errand.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to run the model that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lost {
    /// `openvino on npu0`.
    pub(super) candidate: String,
    /// What it lacks.
    pub(super) why: String,
}

/// An errand's turn has come, and this does it.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// `npu0`.
    pub(super) device: String,
    /// `rten 0.27`.
    pub(super) library: String,
    /// Ways that would have been better.
    pub(super) lost: Vec<Lost>,
    /// Time until its turn came.
    pub(super) queue: Duration,
    /// Time to open the model; none if it was open.
    pub(super) load: Duration,
}

/// An errand is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    /// Time that the model worked.
    pub(super) run: Duration,
    /// Of the device while the errand was its own; `None` without a meter.
    pub(super) joules: Option<f64>,
}

/// What a client is told, in this order: once, as often as there is something, once.
#[derive(Debug)]
pub(super) enum Told<T> {
    Begun(Begun),
    Piece(T),
    Done(Ran),
}

/// Why an errand was not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nobody waits for it any more.
    Left,
    /// It makes no sense, or comes too late.
    Refused(ApiError),
    /// The model, its library or its device failed; another may do better.
    Model(String),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// The thread's end of the way.
pub(super) struct Outlet<T> {
    sender: mpsc::Sender<Result<Told<T>, ApiError>>,
    runtime: Handle,
    patience: Duration,
    due: Option<Instant>,
    /// Not told yet: another device may still take over.
    begun: Option<Begun>,
    has_told: bool,
    run: Duration,
}

/// The client's end.
pub(super) type Inlet<T> = mpsc::Receiver<Result<Told<T>, ApiError>>;

impl<T> Outlet<T> {
    /// Both ends. To be called where the server's runtime is.
    pub(super) fn channel(due: Option<Instant>) -> (Self, Inlet<T>) {
        let (sender, receiver) = mpsc::channel(PIECES);
        let outlet = Self {
            sender,
            runtime: Handle::current(),
            patience: PATIENCE,
            due,
            begun: None,
            has_told: false,
            run: Duration::ZERO,
        };
        (outlet, receiver)
    }

    /// Whether it is worth going on.
    ///
    /// # Errors
    /// If the client has left, or its deadline has passed.
    pub(super) fn check(&self) -> Result<(), Failed> {
        if self.sender.is_closed() {
            return Err(Failed::Left);
        }
        match self.due {
            Some(due) if due <= Instant::now() => Err(too_late().into()),
            _ => Ok(()),
        }
    }

    /// Counts the time that the model works.
    pub(super) fn timed<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let result = work();
        self.run += started.elapsed();
        result
    }

    /// Tells a piece of the answer.
    ///
    /// # Errors
    /// If the client has left, or reads too slowly.
    pub(super) fn tell(&mut self, piece: T) -> Result<(), Failed> {
        self.tell_begun()?;
        self.has_told = true;
        self.send(Ok(Told::Piece(piece)))
    }

    fn tell_begun(&mut self) -> Result<(), Failed> {
        match self.begun.take() {
            Some(begun) => self.send(Ok(Told::Begun(begun))),
            None => Ok(()),
        }
    }

    fn send(&mut self, told: Result<Told<T>, ApiError>) -> Result<(), Failed> {
        let told = match self.sender.try_send(told) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Failed::Left),
            Err(mpsc::error::TrySendError::Full(told)) => told,
        };
        let started = Instant::now();
        let sent = self
            .runtime
            .block_on(self.sender.send_timeout(told, self.patience));
        self.patience = self.patience.saturating_sub(started.elapsed());
        sent.map_err(|_| Failed::Left)
    }
}

pub(super) fn too_late() -> ApiError {
    let message = "the deadline passed before the answer was there; set a later one, or none";
    ApiError::new(ErrorKind::Deadline, message)
}

/// Something that a model is to do.
pub(super) trait Work: Send {
    /// See [`Outlet::check`].
    fn check(&self) -> Result<(), Failed>;

    /// Whether a piece of the answer is on its way, so that nobody else can begin anew.
    fn has_told(&self) -> bool;

    /// Does it.
    fn run(&mut self, model: &mut Loaded, begun: Begun) -> Result<(), Failed>;

    /// It is done.
    fn done(&mut self, joules: Option<f64>);

    /// It will not be done.
    fn refuse(&mut self, error: ApiError);
}

/// Work that is written as a function.
pub(super) struct Errand<T, F> {
    pub(super) outlet: Outlet<T>,
    pub(super) run: F,
}

impl<T, F> Work for Errand<T, F>
where
    T: Send,
    F: FnMut(&mut Loaded, &mut Outlet<T>) -> Result<(), Failed> + Send,
{
    fn check(&self) -> Result<(), Failed> {
        self.outlet.check()
    }

    fn has_told(&self) -> bool {
        self.outlet.has_told
    }

    fn run(&mut self, model: &mut Loaded, begun: Begun) -> Result<(), Failed> {
        self.outlet.begun = Some(begun);
        (self.run)(model, &mut self.outlet)
    }

    fn done(&mut self, joules: Option<f64>) {
        let run = self.outlet.run;
        // A client that has left has no use for it.
        let _ = self
            .outlet
            .tell_begun()
            .and_then(|()| self.outlet.send(Ok(Told::Done(Ran { run, joules }))));
    }

    fn refuse(&mut self, error: ApiError) {
        let _ = self.outlet.send(Err(error));
    }
}
