//! Which NPUs and which libraries there are, or what is missing.
