//! Conversations that are kept: stored, searched, shown.
//!
//! [`Store`] is one file with all conversations, each with its messages as a tree; it finds words in them. [`Renderer`] makes
//! a tree of allowed elements of Markdown, also while it is still being written: what a browser is given holds no HTML, so
//! nothing that a model writes can be more than text. Neither knows HTTP, models or clocks.
#![forbid(unsafe_code)]

mod export;
mod fold;
mod node;
mod render;
mod store;

pub use export::markdown;
pub use node::{Align, Element, Node, Tag};
pub use render::{Renderer, Update, render};
pub use store::{
    Change, Chat, Draft, Ending, Finish, Found, Listed, Message, New, Opened, Owner, Params, Part,
    Role, Store, StoreError, Usage,
};
