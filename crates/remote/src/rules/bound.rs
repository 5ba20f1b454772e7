//! Bounds on numbers: `">8000"`, `"<=0.2"`, `">=100, <8000"`.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

/// What a number is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    Number(Decimal),
    /// The job's own deadline.
    Deadline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    AtLeast,
    More,
}

/// One or several comparisons that all have to hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    parts: Vec<(Relation, Limit)>,
    text: String,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(|part| {
            let wrong = || {
                format!(
                    "{text:?} is no bound; write it like `\">8000\"`, `\"<=0.2\"` or `\">=100, <8000\"`"
                )
            };
            let part = part.trim();
            let (relation, limit) = [
                ("<=", Relation::AtMost),
                (">=", Relation::AtLeast),
                ("<", Relation::Less),
                (">", Relation::More),
            ]
            .into_iter()
            .find_map(|(sign, relation)| Some((relation, part.strip_prefix(sign)?.trim())))
            .ok_or_else(wrong)?;
            let limit = match limit {
                "deadline" => Limit::Deadline,
                number => Limit::Number(number.parse().map_err(|_| wrong())?),
            };
            Ok((relation, limit))
        });
        Ok(Self {
            parts: parts.collect::<Result<_, String>>()?,
            text: text.trim().to_owned(),
        })
    }
}

impl Bound {
    /// Whether it asks for the deadline.
    pub(super) fn has_deadline(&self) -> bool {
        self.parts
            .iter()
            .any(|(_, limit)| *limit == Limit::Deadline)
    }

    /// Whether it holds of a number; never of one that is none, nor against a deadline that there is not.
    pub(super) fn holds(&self, value: f64, deadline: Option<f64>) -> bool {
        self.parts.iter().all(|(relation, limit)| {
            let limit = match limit {
                Limit::Number(limit) => limit.to_f64(),
                Limit::Deadline => deadline,
            };
            limit
                .and_then(|limit| value.partial_cmp(&limit))
                .is_some_and(|order| relation.is(order))
        })
    }

    /// Whether it holds of money.
    pub(super) fn holds_of_money(&self, value: Decimal) -> bool {
        self.parts.iter().all(|(relation, limit)| match limit {
            Limit::Number(limit) => relation.is(value.cmp(limit)),
            Limit::Deadline => false,
        })
    }
}

impl Relation {
    fn is(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::AtLeast => order.is_ge(),
            Self::More => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_of_numbers() {
        for (bound, value, want) in [
            (">8000", 8000.0, false),
            (">8000", 8001.0, true),
            (">=8000", 8000.0, true),
            ("<0.2", 0.2, false),
            ("<=0.2", 0.2, true),
            (" >= 100 , < 8000", 100.0, true),
            (">=100, <8000", 8000.0, false),
            (">2", f64::INFINITY, true),
            (">2", f64::NAN, false),
            ("<2", f64::NAN, false),
        ] {
            let bound: Bound = bound.parse().unwrap();
            assert_eq!(bound.holds(value, None), want, "{bound} {value}");
        }
        let late: Bound = ">deadline".parse().unwrap();
        assert!(late.has_deadline());
        assert!(late.holds(3.0, Some(2.0)) && !late.holds(2.0, Some(2.0)));
        assert!(!late.holds(3.0, None), "there is none to miss");
    }

    #[test]
    fn money_is_exact() {
        let bound: Bound = ">=0.3".parse().unwrap();
        let tenth = Decimal::new(1, 1);
        assert!(bound.holds_of_money(tenth + tenth + tenth));
        assert!(!bound.holds_of_money(Decimal::new(29999, 5)));
    }

    #[test]
    fn what_is_no_bound_is_told_by_example() {
        for text in [
            "", "8000", "=5", ">", "> 1 <2", ">1e400x", ">eighty", ">1,", ">-",
        ] {
            let wrong = text.parse::<Bound>().unwrap_err();
            assert!(wrong.contains(">8000"), "{text}: {wrong}");
        }
    }
}
