//! Calculators that people know, exact.
//!
//! Money and energy are counted in decimals, so that what is printed is what a person gets with pencil and paper. Rates of
//! processors are `f64`. Nothing here estimates; that is [`crate::cost`].

mod memory;
mod power;
mod rate;

pub use self::memory::{Ask, CacheShape, Described, On, described, known};
pub use self::power::{PowerCost, PowerUse, TooLarge};
pub use self::rate::{Density, Incomparable, convert, format_name, parse_format, parse_hz, tops};
