//! The layers together, in front of the real routes.
