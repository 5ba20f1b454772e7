//! Two sorts of things, and the wall between them: what stays on this machine, and what may leave it.
//!
//! [`Public`] is made in one place, by the judge of the rules, and everything that sends takes one. [`Private`] has no way
//! to become one. What is shown here, the compiler holds to:
//!
//! ```
//! # use troika_remote::{Private, Public};
//! # use troika_job::Job;
//! fn send(job: &Public<Job>) { /* the way out */ }
//! fn here(job: Private<Job>) -> Job { job.stay() }
//! ```
//!
//! Nobody outside makes a [`Public`]:
//!
//! ```compile_fail,E0451
//! # use troika_remote::Public;
//! let leaked = Public { what: "a private prompt", terms: Default::default() };
//! ```
//!
//! ```compile_fail,E0624
//! # use troika_remote::Public;
//! let leaked: Public<&str> = Public::new("a private prompt", Default::default(), panic!());
//! ```
//!
//! A job without a judgement cannot be sent:
//!
//! ```compile_fail,E0308
//! # use troika_remote::Public;
//! # use troika_job::Job;
//! fn send(job: &Public<Job>) { /* the way out */ }
//! send(&Job::default());
//! ```
//!
//! A private one cannot either, and nothing turns it into one that can:
//!
//! ```compile_fail,E0308
//! # use troika_remote::{Private, Public};
//! # use troika_job::Job;
//! fn send(job: &Public<Job>) { /* the way out */ }
//! fn leak(job: Private<Job>) { send(&job) }
//! ```
//!
//! ```compile_fail,E0308
//! # use troika_remote::{Private, Public};
//! # use troika_job::Job;
//! fn send(job: &Public<Job>) { /* the way out */ }
//! fn leak(job: Private<Job>) { send(&job.stay()) }
//! ```
//!
//! ```compile_fail,E0277
//! # use troika_remote::{Private, Public};
//! # use troika_job::Job;
//! fn leak(job: Private<Job>) -> Public<Job> { job.into() }
//! ```
//!
//! And what may leave is not changed on the way:
//!
//! ```compile_fail,E0594
//! # use troika_remote::Public;
//! # use troika_job::Job;
//! fn slip_in(mut job: Public<Job>, private: Job) { *job.get() = private; }
//! ```

use std::fmt;

use crate::config::{Redact, Remote};
use crate::redact::Pen;
use crate::rules::{Asks, Seal};

/// What stays on this machine.
pub struct Private<T>(T);

impl<T> Private<T> {
    pub(crate) fn new(what: T) -> Self {
        Self(what)
    }

    /// It is done here. What comes out has no label any more, and no sender takes it.
    pub fn stay(self) -> T {
        self.0
    }
}

/// What may leave this machine, for the endpoints of its leave and on its terms.
#[derive(Clone)]
pub struct Public<T> {
    what: T,
    terms: Terms,
}

/// On which terms something may leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Names and addresses of the endpoints: what stands at a place of the configuration may have changed since.
    pub(crate) to: Vec<(String, String)>,
    /// What is to be taken out first.
    pub(crate) redact: Vec<Redact>,
    /// What the job calls its model, if it asks for another there.
    pub(crate) own_model: Option<String>,
}

/// Why something may leave, and not there or not like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// Its rule does not name the endpoint.
    #[error("its rule does not let it go to `{0}`")]
    NotThere(String),
    /// Its rule wants something taken out first.
    #[error("its rule lets it go only with {} taken out", .0.iter().map(|it| it.name()).collect::<Vec<_>>().join(", "))]
    NotRedacted(Vec<Redact>),
}

impl<T> Public<T> {
    /// Only the judge has a [`Seal`].
    pub(crate) fn new(what: T, terms: Terms, _: Seal) -> Self {
        Self { what, terms }
    }

    /// What it is, to look at: with the model that is asked for there. Whoever sends asks [`Public::sendable`].
    pub fn get(&self) -> &T {
        &self.what
    }

    /// What it is, to be sent to this endpoint.
    ///
    /// # Errors
    /// If its rule does not name the endpoint, or wants something taken out that is still in it.
    pub fn sendable(&self, to: &Remote) -> Result<&T, Barred> {
        let named = |(name, url): &(String, String)| *name == to.name && *url == to.url;
        if !self.terms.to.iter().any(named) {
            return Err(Barred::NotThere(to.name.clone()));
        }
        match self.terms.redact.is_empty() {
            true => Ok(&self.what),
            false => Err(Barred::NotRedacted(self.terms.redact.clone())),
        }
    }

    /// What is to be taken out before it may be sent.
    pub fn to_redact(&self) -> &[Redact] {
        &self.terms.redact
    }

    /// The same with less in it: `done` is what was taken out. Only the redactor has a [`Pen`].
    pub(crate) fn map(&self, done: &[Redact], _: Pen, without: impl FnOnce(&T) -> T) -> Self {
        let mut terms = self.terms.clone();
        terms.redact.retain(|wanted| !done.contains(wanted));
        Self {
            what: without(&self.what),
            terms,
        }
    }
}

impl<T: Clone + Asks> Public<T> {
    /// The same, to be done here, by the model that it asked for itself.
    pub fn stay(&self) -> T {
        let mut what = self.what.clone();
        if let Some(own) = &self.terms.own_model {
            what.set_model(own);
        }
        what
    }
}

// A prompt is in neither's debug form: those end in logs.
impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(..)")
    }
}

impl<T> fmt::Debug for Public<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
