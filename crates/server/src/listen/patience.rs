//! How long a connection may take.
//!
//! hyper has one timer for heads, and it also runs while a kept-alive connection rests between two requests. We tell the
//! two apart by the bytes that came: none, and the connection rests; some, and the head must be whole in time. A
//! connection that never made a request is given no rest.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;

/// How patient we are.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Time for a head, from its first byte on; for the first head, from the connection on.
    pub(super) header: Duration,
    /// Time between two requests.
    pub(super) idle: Duration,
    /// Time for which the client may take nothing.
    pub(super) write: Duration,
    /// Free connections, and how few of them make rests short.
    pub(super) slots: Arc<Semaphore>,
    pub(super) slots_low: usize,
}

/// What the connection and its timer know of each other.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    stage: AtomicU8,
    /// When the first byte of the head came.
    begun: Mutex<Option<Instant>>,
}

/// No request was read yet.
const FRESH: u8 = 0;
/// A request was read; the connection may rest.
const USED: u8 = 1;

/// A connection whose reads are noted and whose writes have a time limit.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    shared: Arc<Shared>,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// The timer for this connection's heads.
#[derive(Clone, Debug)]
pub(super) struct HeadTimer(Arc<Shared>);

impl<S> Patient<S> {
    /// A connection and the timer that hyper is to use for it, and for no other.
    pub(super) fn new(stream: S, limits: Limits) -> (Self, HeadTimer) {
        let shared = Arc::new(Shared {
            limits,
            stage: AtomicU8::new(FRESH),
            begun: Mutex::new(Some(Instant::now())),
        });
        let timer = HeadTimer(Arc::clone(&shared));
        let stalled = None;
        let patient = Self {
            stream,
            shared,
            stalled,
        };
        (patient, timer)
    }

    /// Lets a write wait, but not for ever.
    fn limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.shared.limits.write;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Shared {
    fn begun(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the wait for a head ends, as things stand. `from` is when it began.
    fn deadline(&self, from: Instant) -> Instant {
        match *self.begun() {
            Some(begun) => begun + self.limits.header,
            None if self.limits.slots.available_permits() <= self.limits.slots_low => {
                from + self.limits.header.min(self.limits.idle)
            }
            None => from + self.limits.idle,
        }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// Called when the wait for a head begins.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        if self.0.stage.swap(USED, Ordering::Relaxed) != FRESH {
            *self.0.begun() = None;
        }
        Box::pin(HeadSleep {
            shared: Arc::clone(&self.0),
            from: Instant::now(),
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
        })
    }
}

/// Wakes up every now and then to see whether the head is late.
struct HeadSleep {
    shared: Arc<Shared>,
    from: Instant,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let deadline = self.shared.deadline(self.from);
            if deadline <= now {
                return Poll::Ready(());
            }
            // A head may begin meanwhile, or slots may run short: not later than a head's time from now.
            let next = deadline.min(now + self.shared.limits.header);
            self.sleep.as_mut().reset(next.into());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.shared.begun().get_or_insert_with(Instant::now);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
