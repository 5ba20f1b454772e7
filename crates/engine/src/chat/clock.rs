//! The time that a template sees.

use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// A moment and the local time's distance from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00 UTC.
    pub unix_s: i64,
    /// Seconds that local time is ahead of UTC.
    pub utc_offset_s: i32,
}

impl Moment {
    /// This moment, in this machine's time zone.
    pub fn now() -> Self {
        let now = Zoned::now();
        Self {
            unix_s: now.timestamp().as_second(),
            utc_offset_s: now.offset().seconds(),
        }
    }

    /// `strftime(pattern)` in English. Directives that nobody knows stay as they are written.
    pub(super) fn strftime(self, pattern: &str) -> Result<String, String> {
        let written =
            |error: jiff::Error| format!("`strftime_now` cannot write {pattern:?}: {error}");
        let timestamp = Timestamp::from_second(self.unix_s).map_err(written)?;
        let offset = Offset::from_seconds(self.utc_offset_s).map_err(written)?;
        let zoned = timestamp.to_zoned(TimeZone::fixed(offset));
        let mut text = String::new();
        let config = strtime::Config::new().lenient(true);
        strtime::BrokenDownTime::from(&zoned)
            .format_with_config(&config, pattern, &mut text)
            .map_err(written)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_templates_ask_for_them() {
        let moment = Moment {
            unix_s: 1_722_470_400, // 2024-08-01T00:00:00Z
            utc_offset_s: 0,
        };
        for (pattern, text) in [
            ("%d %b %Y", "01 Aug 2024"),
            ("%Y-%m-%d", "2024-08-01"),
            ("%B %d, %Y", "August 01, 2024"),
            (
                "%A, %-d %B %H:%M:%S %p %j %y%%",
                "Thursday, 1 August 00:00:00 AM 214 24%",
            ),
        ] {
            assert_eq!(moment.strftime(pattern).as_deref(), Ok(text));
        }
        let west = Moment {
            utc_offset_s: -3600,
            ..moment
        };
        assert_eq!(west.strftime("%d %b %H:%M").as_deref(), Ok("31 Jul 23:00"));
    }

    #[test]
    fn odd_patterns_do_no_harm() {
        let moment = Moment {
            unix_s: i64::MAX,
            utc_offset_s: 0,
        };
        assert!(moment.strftime("%Y").is_err());
        let moment = Moment {
            unix_s: 0,
            utc_offset_s: 0,
        };
        for pattern in [
            "%",
            "%q",
            "%999999999d",
            "%255d",
            "%:::::z",
            "%.999999999f",
            "\0",
            "%é",
        ] {
            let text = moment.strftime(pattern).unwrap_or_default();
            assert!(text.len() < 1000, "{pattern}: {} bytes", text.len());
        }
    }
}
