//! conformance (below)
