//! Numbers in schemas: what the parser computes in 64 bits, and wrongly beyond.

use serde_json::{Number, Value};

/// Bounds beyond this are drawn in to it: the next number of 53 bits below 2^63. Answers that keep to it keep to what
/// was asked for, and 64-bit integers, whose limits generators of schemas like to write down, lose a thousandth of a
/// millionth of nothing.
const MAGNITUDE_MAX: f64 = 9_223_372_036_854_774_784.0;

/// A number that a multiple is of, without its point. The parser builds a state for each remainder.
const MULTIPLE_MAX: u64 = 10_000;

/// A bound to put in the place of this one, if it needs another.
pub(super) fn drawn_in(keyword: &str, value: &Value) -> Option<Value> {
    let bound = value.as_f64()?;
    let drawn = match keyword {
        "minimum" | "exclusiveMinimum" if bound < -MAGNITUDE_MAX => -MAGNITUDE_MAX,
        "maximum" | "exclusiveMaximum" if bound > MAGNITUDE_MAX => MAGNITUDE_MAX,
        _ => return None,
    };
    Some(Value::from(drawn as i64))
}

/// Checks a bound that is not drawn in.
pub(super) fn check_bound(keyword: &str, value: &Value) -> Result<(), String> {
    match value {
        // Older drafts make the neighbour exclusive by a flag.
        Value::Bool(_) if keyword.starts_with("exclusive") => Ok(()),
        Value::Number(number) => {
            check_number(number).map_err(|reason| format!("`{keyword}`: {reason}"))
        }
        _ => Err(format!("`{keyword}` is a number")),
    }
}

/// Checks the numbers among values that an answer is compared with.
pub(super) fn check_constant(value: &Value) -> Result<(), String> {
    match value {
        Value::Number(number) => check_number(number),
        Value::Array(items) => items.iter().try_for_each(check_constant),
        Value::Object(members) => members.values().try_for_each(check_constant),
        _ => Ok(()),
    }
}

fn check_number(number: &Number) -> Result<(), String> {
    let is_held = match (number.as_i64(), number.as_f64()) {
        (Some(whole), Some(float)) => float as i64 == whole && float.abs() <= MAGNITUDE_MAX,
        (None, Some(float)) => float.abs() <= MAGNITUDE_MAX,
        _ => false,
    };
    match is_held {
        true => Ok(()),
        false => Err(format!(
            "the number {number} is not supported: whole numbers beyond 2^53 are not held exactly"
        )),
    }
}

/// The different `multipleOf` of a schema.
#[derive(Default)]
pub(super) struct Multiples {
    seen: Vec<u64>,
}

/// Whatever of them meets, the least common multiple fits in 32 bits.
const PRODUCT_MAX: u64 = 1 << 31;

impl Multiples {
    /// Checks a `multipleOf`, and counts it against what all of them may come to: the parser multiplies those that meet.
    pub(super) fn check(&mut self, value: &Value) -> Result<(), String> {
        let digits = value.as_f64().and_then(whole_digits);
        let Some(digits) = digits.filter(|digits| (1..=MULTIPLE_MAX).contains(digits)) else {
            return Err(format!(
                "`multipleOf` is a number above 0 that has {MULTIPLE_MAX} at most without its point, not {value}"
            ));
        };
        if self.seen.contains(&digits) {
            return Ok(());
        }
        self.seen.push(digits);
        let product = self.seen.iter().copied().fold(1, u64::saturating_mul);
        match product {
            0..=PRODUCT_MAX => Ok(()),
            _ => Err("there are too many different `multipleOf` in the schema".to_owned()),
        }
    }
}

/// A number without its decimal point: 25 for 0.25.
fn whole_digits(number: f64) -> Option<u64> {
    (0..10i32)
        .map(|places| number.abs() * 10f64.powi(places))
        .find(|shifted| (shifted - shifted.round()).abs() < 1e-9)
        .map(|shifted| shifted.round() as u64)
}
