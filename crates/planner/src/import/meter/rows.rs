//! The rows of a meter's table one by one, as its program writes them.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Columns, WATTS_MAX, watts};

/// Reads the power of each line, with columns and units found as in a whole table.
///
/// For a table that still grows; one that is complete is read by [`read`](crate::import::read), which sums it up.
#[derive(Default)]
pub struct MeterRows {
    columns: Option<(u8, Columns)>,
}

impl MeterRows {
    /// The watts of a line; `None` for the names of columns, which are learned from it, for remarks and for nonsense.
    ///
    /// Lines come in order, the one with the names before its rows.
    pub fn watts(&mut self, line: &str) -> Option<f64> {
        let columns = self.columns.as_ref();
        if let Some(watts) = columns.and_then(|(d, columns)| power(line, *d, columns)) {
            return Some(watts);
        }
        // The first names, or those of a table that was begun anew.
        for delimiter in [b',', b';', b'\t'] {
            let names: Vec<String> = cells(line, delimiter)?.iter().map(str::to_owned).collect();
            if names.len() < 2 {
                continue;
            }
            if let Ok(columns) = Columns::find(&names) {
                self.columns = Some((delimiter, columns));
                break;
            }
        }
        None
    }
}

impl std::fmt::Debug for MeterRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let column = self
            .columns
            .as_ref()
            .map(|(_, columns)| &columns.power_name);
        write!(f, "MeterRows({column:?})")
    }
}

/// The watts of a row, if it has any that a socket can give.
fn power(line: &str, delimiter: u8, columns: &Columns) -> Option<f64> {
    let row = cells(line, delimiter)?;
    let watts = watts(row.get(columns.power)?, columns.watts)?;
    (0.0..=WATTS_MAX).contains(&watts).then_some(watts)
}

fn cells(line: &str, delimiter: u8) -> Option<StringRecord> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(line.as_bytes());
    reader.records().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_come() {
        let mut rows = MeterRows::default();
        for (line, want) in [
            ("1,40", None),
            ("# a smart plug's log", None),
            ("", None),
            ("time,watts", None),
            ("1,40.5", Some(40.5)),
            ("2, 41 W", Some(41.0)),
            ("3,0.5 kW", Some(500.0)),
            ("4,-3", None),
            ("5,1e9", None),
            ("6,NaN", None),
            ("7", None),
            ("\"unfinished, 12", None),
            ("8,42", Some(42.0)),
            // Another program goes on, in its own way.
            ("Date;Power (mW);Voltage", None),
            ("2026-03-02 10:00:00;12500,5;230", Some(12.5005)),
        ] {
            let got = rows.watts(line);
            let is_same = match (got, want) {
                (Some(got), Some(want)) => (got - want).abs() < 1e-9,
                (got, want) => got == want,
            };
            assert!(is_same, "{line:?} {got:?}");
        }
    }
}
