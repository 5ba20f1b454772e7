//! What was spent today and this month, kept from one run to the next.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use troika_base::Joules;

/// The file's name in `TROIKA_HOME`.
const FILE: &str = "energy-day.json";

/// A file that is larger was not written by us.
const BYTES_MAX: u64 = 4 << 10;

/// As much as is lost at most when the power goes.
const PERIOD: Duration = Duration::from_secs(60);

/// More than any machine uses in a day.
const WATT_HOURS_MAX: f64 = 1e7;

/// Watt-hours spent since the last midnight, and in the month of it.
#[derive(Debug)]
pub struct EnergyDay {
    path: PathBuf,
    day: Day,
    /// Since when there is something to write; `None` if there is nothing.
    unsaved: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Day {
    date: Date,
    watt_hours: f64,
    month: EnergyMonth,
}

/// What was spent in a month.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EnergyMonth {
    /// The day of it on which counting began.
    pub since: Date,
    /// Watt-hours since then, those of the last day among them.
    pub watt_hours: f64,
}

impl Day {
    /// A day on which nothing was spent yet, after `before`.
    fn after(before: Option<Self>, date: Date) -> Self {
        let month = before.map(|day| day.month);
        let month = month.filter(|it| it.since.first_of_month() == date.first_of_month());
        let none = EnergyMonth {
            since: date,
            watt_hours: 0.0,
        };
        Self {
            date,
            watt_hours: 0.0,
            month: month.unwrap_or(none),
        }
    }
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// `2026-03-02`.
    date: String,
    watt_hours: f64,
    /// The day on which counting began in its month; the same day in a file that knows no months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month_since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month_watt_hours: Option<f64>,
}

/// Why the day's energy is not kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: what was spent today will be forgotten at the next start", path.display())]
pub struct DayError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl EnergyDay {
    /// Goes on with what was spent today; `home` is `TROIKA_HOME`. The second value is what people should know: the file
    /// was damaged or could not be read, and the day begins at 0.
    pub fn open(home: &Path, today: Date) -> (Self, Option<String>) {
        let path = home.join(FILE);
        let (day, note) = match read(&path) {
            Ok(Some(day)) if day.date == today => (day, None),
            // Yesterday's, or there is none.
            Ok(before) => (Day::after(before, today), None),
            Err(why) => {
                let note = format!(
                    "{} {why}: what was spent today is counted from 0 again",
                    path.display()
                );
                (Day::after(None, today), Some(note))
            }
        };
        let day = Self {
            path,
            day,
            unsaved: None,
        };
        (day, note)
    }

    /// The day that it is here.
    pub fn today() -> Date {
        Zoned::now().date()
    }

    /// Adds what was used. On another day than before, counting begins at 0. What is no energy is passed over.
    pub fn spend(&mut self, joules: Joules, today: Date) {
        if today != self.day.date {
            self.day = Day::after(Some(self.day), today);
        }
        let watt_hours = joules.0 / 3600.0;
        if (0.0..=WATT_HOURS_MAX).contains(&watt_hours) {
            self.day.watt_hours += watt_hours;
            self.day.month.watt_hours += watt_hours;
        }
        self.unsaved.get_or_insert_with(Instant::now);
    }

    /// Watt-hours spent today; 0 if nothing was spent on this day yet.
    pub fn spent_wh(&self, today: Date) -> f64 {
        match self.day.date == today {
            true => self.day.watt_hours,
            false => 0.0,
        }
    }

    /// What another process, or another part of this one, has kept of the month in which `today` is, a minute ago at most.
    /// `None` where nothing is known of it.
    pub fn month_at(home: &Path, today: Date) -> Option<EnergyMonth> {
        let day = read(&home.join(FILE)).ok()??;
        let is_now = day.month.since.first_of_month() == today.first_of_month();
        is_now.then_some(day.month)
    }

    /// Writes the file if something was spent a minute ago or longer. Waits for the disk, so it is not for the thread that
    /// runs steps.
    ///
    /// # Errors
    /// If the file cannot be written. It is tried again a minute later.
    pub fn save_if_due(&mut self) -> Result<(), DayError> {
        match self.unsaved {
            Some(since) if since.elapsed() >= PERIOD => self.save(),
            _ => Ok(()),
        }
    }

    /// Writes the file if something was spent. It is either the old one or the new one, whatever happens meanwhile.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&mut self) -> Result<(), DayError> {
        if self.unsaved.is_none() {
            return Ok(());
        }
        let form = Written {
            date: self.day.date.to_string(),
            watt_hours: self.day.watt_hours,
            month_since: Some(self.day.month.since.to_string()),
            month_watt_hours: Some(self.day.month.watt_hours),
        };
        let written = crate::store::write(&self.path, &form);
        self.unsaved = written.is_err().then(Instant::now);
        written.map_err(|source| DayError {
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for EnergyDay {
    fn drop(&mut self) {
        // Whoever wants to know whether it is kept has saved it.
        let _ = self.save();
    }
}

/// The file's day; `None` if there is no file. The error is the end of a sentence that begins with the file's name.
fn read(path: &Path) -> Result<Option<Day>, String> {
    let unreadable = |error: io::Error| format!("cannot be read ({error})");
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let form: Written =
        serde_json::from_slice(&bytes).map_err(|error| format!("is damaged ({error})"))?;
    let day_of = |text: &str| {
        let day: Result<Date, _> = text.parse();
        day.map_err(|_| format!("is damaged ({text:?} is no day)"))
    };
    let energy_of = |watt_hours: f64| match (0.0..=WATT_HOURS_MAX).contains(&watt_hours) {
        true => Ok(watt_hours),
        false => Err(format!("is damaged ({watt_hours} Wh in a day or a month)")),
    };
    let date = day_of(&form.date)?;
    let watt_hours = energy_of(form.watt_hours)?;
    let month = EnergyMonth {
        since: form.month_since.as_deref().map_or(Ok(date), day_of)?,
        watt_hours: energy_of(form.month_watt_hours.unwrap_or(watt_hours))?,
    };
    Ok(Some(Day {
        date,
        watt_hours,
        month,
    }))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const WH: Joules = Joules(3600.0);

    #[test]
    fn a_day_goes_on_after_a_restart_and_ends_at_midnight() {
        let home = tempfile::tempdir().expect("a place for files");
        let (monday, tuesday) = (date(2026, 3, 2), date(2026, 3, 3));
        let (mut day, note) = EnergyDay::open(home.path(), monday);
        assert_eq!((note, day.spent_wh(monday)), (None, 0.0));
        day.spend(WH, monday);
        day.spend(Joules(1800.0), monday);
        for nonsense in [-3600.0, f64::NAN, f64::INFINITY] {
            day.spend(Joules(nonsense), monday);
        }
        day.save_if_due().expect("is not due");
        assert!(!home.path().join(FILE).exists());
        drop(day);
        let (mut day, note) = EnergyDay::open(home.path(), monday);
        assert_eq!((note, day.spent_wh(monday)), (None, 1.5));
        assert_eq!(day.spent_wh(tuesday), 0.0);
        day.spend(WH, tuesday);
        assert_eq!(day.spent_wh(tuesday), 1.0);
        day.save().expect("is written");
        let (day, _) = EnergyDay::open(home.path(), date(2026, 3, 4));
        assert_eq!(day.spent_wh(date(2026, 3, 4)), 0.0);
    }

    #[test]
    fn days_add_up_to_months() {
        let home = tempfile::tempdir().expect("a place for files");
        let (first, second, next) = (date(2026, 3, 30), date(2026, 3, 31), date(2026, 4, 1));
        let month = |today| EnergyDay::month_at(home.path(), today);
        assert_eq!(month(first), None);
        let (mut day, _) = EnergyDay::open(home.path(), first);
        day.spend(WH, first);
        day.spend(WH, second);
        day.save().expect("is written");
        let march = EnergyMonth {
            since: first,
            watt_hours: 2.0,
        };
        assert_eq!((month(second), month(next)), (Some(march), None));
        let (mut day, _) = EnergyDay::open(home.path(), next);
        assert_eq!(day.spent_wh(next), 0.0);
        day.spend(WH, next);
        drop(day);
        let april = EnergyMonth {
            since: next,
            watt_hours: 1.0,
        };
        assert_eq!(month(next), Some(april));
        // As it was written before there were months.
        let text = r#"{"date": "2026-04-02", "watt_hours": 3}"#;
        fs::write(home.path().join(FILE), text).expect("writes");
        let (mut day, note) = EnergyDay::open(home.path(), date(2026, 4, 3));
        assert_eq!(note, None);
        day.spend(WH, date(2026, 4, 3));
        day.save().expect("is written");
        let april = EnergyMonth {
            since: date(2026, 4, 2),
            watt_hours: 4.0,
        };
        assert_eq!(month(date(2026, 4, 3)), Some(april));
    }

    #[test]
    fn a_damaged_file_begins_anew_and_says_so() {
        let home = tempfile::tempdir().expect("a place for files");
        let today = date(2026, 3, 2);
        let long = "9".repeat(10_000);
        for text in [
            "",
            "{}",
            r#"{"date": "2026-03-02"}"#,
            r#"{"date": "2026-13-02", "watt_hours": 1}"#,
            r#"{"date": "2026-03-02", "watt_hours": -1}"#,
            r#"{"date": "2026-03-02", "watt_hours": 1e300}"#,
            &long,
        ] {
            fs::write(home.path().join(FILE), text).expect("writes");
            let (mut day, note) = EnergyDay::open(home.path(), today);
            let note = note.expect("says so");
            assert!(note.contains("is damaged"), "{note}");
            day.spend(WH, today);
            day.save().expect("is written");
            let (day, note) = EnergyDay::open(home.path(), today);
            assert_eq!((note, day.spent_wh(today)), (None, 1.0));
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_tried_again() {
        let home = tempfile::tempdir().expect("a place for files");
        let missing = home.path().join("file");
        fs::write(&missing, "").expect("writes");
        let today = date(2026, 3, 2);
        // Its home is a file.
        let (mut day, _) = EnergyDay::open(&missing, today);
        day.spend(WH, today);
        assert!(day.save().is_err());
        fs::remove_file(&missing).expect("is there");
        day.save().expect("is written now");
        assert_eq!(EnergyDay::open(&missing, today).0.spent_wh(today), 1.0);
    }
}
