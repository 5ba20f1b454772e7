//! Times as loggers write them: one way for the whole table, which its first row decides.

use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, tz::TimeZone};

/// How the times of a table are written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Clock {
    /// A number of units since any beginning; so many units are a second.
    Count { per_second: f64 },
    /// With a zone, as RFC 3339 wants it.
    Zoned,
    /// A date and a time without a zone, in this pattern.
    Civil(&'static str),
    /// A time of day; a day that ends goes on with the next.
    OfDay(&'static str),
}

/// Patterns of dates. Where day and month could be either, differences within a day do not depend on it.
const CIVIL: [&str; 12] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f",
    "%m/%d/%Y %I:%M:%S%.f %p",
    "%m/%d/%Y %H:%M:%S%.f",
    "%d/%m/%Y %H:%M:%S%.f",
    "%d-%m-%Y %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
];

const OF_DAY: [&str; 3] = ["%H:%M:%S%.f", "%I:%M:%S%.f %p", "%H:%M"];

/// Rows that are asked how times are written.
const ASKED: usize = 50;

impl Clock {
    /// The way in which the first rows write their times; `None` if there is none that most of them share.
    pub(super) fn of(times: impl Iterator<Item = String> + Clone) -> Option<Self> {
        let asked: Vec<String> = times.take(ASKED).collect();
        let understood = |clock: &Self| {
            asked
                .iter()
                .filter(|time| clock.seconds(time).is_some())
                .count()
        };
        let first = asked.iter().find_map(|time| number(time));
        let count = first.map(|first| Self::Count {
            per_second: units_per_second(first),
        });
        let civil = CIVIL.into_iter().map(Self::Civil);
        let of_day = OF_DAY.into_iter().map(Self::OfDay);
        // The one that understands most rows; of equals `min` takes the first in the list.
        let best = count
            .into_iter()
            .chain([Self::Zoned])
            .chain(civil)
            .chain(of_day)
            .min_by_key(|clock| asked.len() - understood(clock))?;
        let rows = understood(&best);
        (rows > 0 && rows * 2 >= asked.len()).then_some(best)
    }

    /// A time in seconds from the beginning that this clock has.
    pub(super) fn seconds(&self, text: &str) -> Option<f64> {
        let text = text.trim();
        match *self {
            Self::Count { per_second } => number(text).map(|count| count / per_second),
            Self::Zoned => {
                let stamp: Timestamp = text.parse().ok()?;
                Some(stamp.as_nanosecond() as f64 / 1e9)
            }
            Self::Civil(pattern) => {
                let time = DateTime::strptime(pattern, text).ok()?;
                let stamp = TimeZone::UTC.to_timestamp(time).ok()?;
                Some(stamp.as_nanosecond() as f64 / 1e9)
            }
            Self::OfDay(pattern) => {
                let time = Time::strptime(pattern, text).ok()?;
                let midnight = Time::midnight();
                Some(time.duration_since(midnight).as_secs_f64())
            }
        }
    }

    /// When a table begins, if its first time tells: RFC 3339 where the zone is known, without a zone where not.
    pub(super) fn started(&self, first: Option<String>) -> Option<String> {
        let first = first?;
        match *self {
            Self::Zoned => Some(first.trim().to_owned()),
            Self::Civil(pattern) => DateTime::strptime(pattern, first.trim())
                .ok()
                .map(|time| time.to_string()),
            // A count from 2001 on is one since 1970.
            Self::Count { .. } => {
                let seconds = self.seconds(&first).filter(|&seconds| seconds > 1e9)?;
                let stamp = Timestamp::from_second(seconds as i64).ok()?;
                Some(stamp.to_string())
            }
            Self::OfDay(_) => None,
        }
    }
}

/// A plain number, be it with a decimal comma.
fn number(text: &str) -> Option<f64> {
    let value: f64 = text.trim().replace(',', ".").parse().ok()?;
    value.is_finite().then_some(value)
}

/// Seconds, milli-, micro- or nanoseconds since 1970 differ by their length; smaller numbers are seconds.
fn units_per_second(first: f64) -> f64 {
    match first.abs() {
        count if count < 1e11 => 1.0,
        count if count < 1e14 => 1e3,
        count if count < 1e17 => 1e6,
        _ => 1e9,
    }
}
