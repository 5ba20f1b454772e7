//! Conversations that are kept: `/api/troika/chats`.

/// Conversations that are kept: `/api/troika/chats`.
#[derive(Clone, Debug, Default)]
pub struct Chats;
