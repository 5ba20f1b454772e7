//! What the architectures have in common: the two ends of the network, attention, and the feed-forward layer.

mod attention;
mod ends;
mod feed_forward;

pub(super) use attention::{Parts, Scope, SelfAttention};
pub(super) use ends::{Ends, Scores};
pub(super) use feed_forward::FeedForward;
