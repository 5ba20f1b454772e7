//! Where a row's facts are from, and the days that rows name.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Where a fact was read, and when.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The page or data set, beginning with `https://`.
    pub url: String,
    /// The day on which it was read, or the data set's own.
    pub date: Date,
    /// What the figure needs to be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A day, in TOML a date (`2026-11-21`) or the same as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(jiff::civil::Date);

impl Date {
    /// The day on which this is called, by the system's clock and time zone.
    pub fn today() -> Self {
        Self(jiff::Zoned::now().date())
    }

    /// Days from this one to `later`; negative if it is earlier.
    pub fn days_until(self, later: Self) -> i32 {
        later.0.duration_since(self.0).as_hours() as i32 / 24
    }

    /// The year.
    pub fn year(self) -> i16 {
        self.0.year()
    }
}

impl std::str::FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is not a day; write one as 2026-11-21"))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DateVisitor)
    }
}

/// Takes text, and TOML's own dates, which come as a map that only [`toml`] understands.
struct DateVisitor;

impl<'de> Visitor<'de> for DateVisitor {
    type Value = Date;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a day such as 2026-11-21")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Date, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Date, A::Error> {
        let datetime =
            toml::value::Datetime::deserialize(de::value::MapAccessDeserializer::new(map))?;
        datetime.to_string().parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_dates_and_as_text() {
        let want: Date = "2026-02-28".parse().expect("is a day");
        for date in ["2026-02-28", "\"2026-02-28\""] {
            let text = format!("url = \"https://example.org\"\ndate = {date}");
            let source: Source = toml::from_str(&text).expect("parses");
            assert_eq!(source.date, want, "{date}");
        }
        for date in ["\"2026-02-30\"", "2026", "true", "\"yesterday\""] {
            let text = format!("url = \"https://example.org\"\ndate = {date}");
            assert!(toml::from_str::<Source>(&text).is_err(), "{date}");
        }
        let json = serde_json::to_string(&want).expect("is text");
        assert_eq!(json, "\"2026-02-28\"");
    }

    #[test]
    fn days_are_counted() {
        let day = |text: &str| text.parse::<Date>().expect("is a day");
        assert_eq!(day("2026-02-28").days_until(day("2026-03-01")), 1);
        assert_eq!(day("2026-03-01").days_until(day("2025-03-01")), -365);
    }
}
