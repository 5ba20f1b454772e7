//! What was measured of endpoints, as the scheduler and the page see it, and the file in which it outlives the program.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an answer weighs against all before it: the last ten or so count.
const WEIGHT: f64 = 0.2;

/// What is known of an endpoint; what was not measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Seconds from a request to the first of its answer.
    pub ttft_s: Option<f64>,
    /// Tokens per second from then on.
    pub tps: Option<f64>,
    /// How far off `ttft_s` is, on average, as a share of it.
    pub spread: Option<f64>,
    /// The share of requests that failed for the endpoint's sake.
    pub error_rate: Option<f64>,
    /// Requests that this rests on.
    pub requests: u64,
    /// It would take a request now.
    pub is_open: bool,
    /// Why it would not.
    pub why_not: Option<String>,
}

/// Measurements of one endpoint. Recent ones weigh more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Measured {
    /// Whom they are of: another address under the same name is another endpoint.
    pub(crate) url: String,
    ttft_s: Option<f64>,
    deviation_s: Option<f64>,
    tps: Option<f64>,
    error_rate: Option<f64>,
    requests: u64,
}

impl Measured {
    /// Nothing yet, of whom is at this address.
    pub(crate) fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..Self::default()
        }
    }

    /// An answer's numbers.
    pub(crate) fn answered(&mut self, ttft: Duration, tps: Option<f64>) {
        let ttft_s = ttft.as_secs_f64();
        if let Some(expected) = self.ttft_s {
            add(&mut self.deviation_s, (ttft_s - expected).abs());
        }
        add(&mut self.ttft_s, ttft_s);
        if let Some(tps) = tps {
            add(&mut self.tps, tps);
        }
        self.count(0.0);
    }

    /// A request that failed for the endpoint's sake.
    pub(crate) fn failed(&mut self) {
        self.count(1.0);
    }

    fn count(&mut self, error: f64) {
        add(&mut self.error_rate, error);
        self.requests += 1;
    }

    /// The measurements as others see them, with nothing said of whether it is open.
    pub(crate) fn profile(&self) -> Profile {
        let spread = self.deviation_s.zip(self.ttft_s.filter(|&it| it > 0.0));
        Profile {
            ttft_s: self.ttft_s,
            tps: self.tps,
            spread: spread.map(|(deviation, ttft)| deviation / ttft),
            error_rate: self.error_rate,
            requests: self.requests,
            is_open: false,
            why_not: None,
        }
    }
}

/// The mean, in which the past fades.
fn add(mean: &mut Option<f64>, value: f64) {
    *mean = Some(match *mean {
        None => value,
        Some(mean) => mean + WEIGHT * (value - mean),
    });
}

/// The file of all endpoints' measurements, by name.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
}

pub(crate) type All = BTreeMap<String, Measured>;

impl Store {
    /// `remotes.json` in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("remotes.json"),
        }
    }

    /// What was measured before. A file that is not there or not understood is as if nothing was: it can be measured
    /// again.
    pub(crate) fn read(&self) -> All {
        let Ok(bytes) = std::fs::read(&self.path) else {
            return All::new();
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "the measurements of remotes are not understood, and begin anew");
            All::new()
        })
    }

    /// Replaces the file, in one step.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, all: &All) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, all)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_follow_what_happens() {
        let mut measured = Measured::default();
        assert_eq!(measured.profile(), Profile::default());
        measured.answered(Duration::from_secs(2), Some(100.0));
        let first = measured.profile();
        assert_eq!(
            (first.ttft_s, first.tps, first.spread),
            (Some(2.0), Some(100.0), None)
        );
        for _ in 0..100 {
            measured.answered(Duration::from_secs(1), None);
        }
        let later = measured.profile();
        assert!((later.ttft_s.unwrap() - 1.0).abs() < 1e-6, "{later:?}");
        assert_eq!(later.tps, Some(100.0), "what was not measured stays");
        assert!(later.spread.unwrap() < 1e-6 && later.error_rate.unwrap() < 1e-6);
        (0..3).for_each(|_| measured.failed());
        let rate = measured.profile().error_rate.unwrap();
        assert!((rate - (1.0 - 0.8_f64.powi(3))).abs() < 1e-6, "{rate}");
    }

    #[test]
    fn the_file_is_read_again_and_a_broken_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("state"));
        assert_eq!(store.read(), All::new());
        let mut measured = Measured::default();
        measured.answered(Duration::from_millis(300), Some(41.5));
        let all = All::from([("big".to_owned(), measured)]);
        store.write(&all).unwrap();
        assert_eq!(store.read(), all);
        std::fs::write(&store.path, "{").unwrap();
        assert_eq!(store.read(), All::new());
    }
}
