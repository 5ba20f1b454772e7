//! Endpoints against a fake one in this process, which does what it is told to: also what real ones do on bad days.

mod fake;
mod faults;
mod keeping;
mod talking;
