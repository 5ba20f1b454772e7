//! A conversation as a text that people read.

use std::fmt::Write as _;

use crate::store::{Chat, Message, Role};

/// The branch that is shown as Markdown: a heading for each message, its text as it was written.
pub fn markdown(chat: &Chat, messages: &[Message]) -> String {
    let mut out = String::new();
    let title = chat.title.as_deref().unwrap_or("Conversation");
    let _ = writeln!(out, "# {}", one_line(title));
    if let Some(system) = &chat.params.system {
        let _ = write!(out, "\n## System\n\n{}\n", system.trim_end());
    }
    for message in branch(chat.leaf, messages) {
        let who = match message.role {
            Role::User => "User",
            Role::Assistant => message.model.as_deref().unwrap_or("Assistant"),
        };
        let _ = write!(
            out,
            "\n## {}\n\n{}\n",
            one_line(who),
            message.content.trim_end()
        );
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The messages that lead to `leaf`, oldest first.
fn branch(leaf: Option<u64>, messages: &[Message]) -> Vec<&Message> {
    let mut branch = Vec::new();
    let mut next = leaf;
    while let Some(n) = next {
        let Ok(at) = messages.binary_search_by_key(&n, |message| message.n) else {
            break;
        };
        branch.push(&messages[at]);
        // A parent is older than its children, so that this ends.
        next = messages[at].parent.filter(|parent| *parent < n);
    }
    branch.reverse();
    branch
}
