//! How parsing and rendering fail.

use std::fmt;

/// Why evaluation stopped. The interpreter adds the line.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::chat) enum Fault {
    /// `raise_exception(message)`: the template refuses the conversation.
    Raised(String),
    /// The template used more than it may.
    Limit(Limit),
    /// Anything that Python would raise, in words.
    Failed(String),
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of the template's text.
    Source,
    /// Nesting of statements and parentheses in the template's text.
    Nesting,
    /// Containers within containers.
    ValueDepth,
    /// Macros that call macros.
    Recursion,
    /// Time, counted in steps.
    Steps,
    /// Memory that the template's values hold.
    Heap,
    /// Length of the rendered text.
    Output,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "length",
            Self::Nesting => "nesting",
            Self::ValueDepth => "depth of a value",
            Self::Recursion => "recursion",
            Self::Steps => "time",
            Self::Heap => "memory",
            Self::Output => "length of its output",
        })
    }
}

impl Fault {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// A fault with the line it happened on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::chat) struct Error {
    pub(in crate::chat) line: u32,
    pub(in crate::chat) fault: Fault,
}
