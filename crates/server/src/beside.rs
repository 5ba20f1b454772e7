//! A run of an always-on model in the accounts of whoever schedules.

use std::fmt;

use troika_base::Joules;

/// A run under way. However it ends, its device is told; [`Self::ended`] tells what it used as well.
pub struct Beside {
    end: Option<Box<dyn FnOnce(Option<Joules>) + Send>>,
}

impl Beside {
    /// A run of whose end `end` is told, with what a meter saw of it.
    pub fn new(end: impl FnOnce(Option<Joules>) + Send + 'static) -> Self {
        Self {
            end: Some(Box::new(end)),
        }
    }

    /// It is over, and used so much, where a meter told it.
    pub fn ended(mut self, joules: Option<Joules>) {
        self.end(joules);
    }

    fn end(&mut self, joules: Option<Joules>) {
        if let Some(end) = self.end.take() {
            end(joules);
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside")
    }
}
