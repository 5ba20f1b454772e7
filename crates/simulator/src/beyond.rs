//! What is beyond the machine: endpoints that answer in a time and for a price of their own, and the jobs that may go there.

use std::collections::BTreeMap;
use std::str::FromStr;

use rand_pcg::Pcg64Mcg;
use troika_scheduler::{Class, DeviceId, Elsewhere, Work};

use crate::chance::{Chance as _, chance};
use crate::log::Arrival;

/// An endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualRemote {
    /// Its name, without `remote:`.
    pub name: String,
    /// Seconds until its first token.
    pub ttft_s: f64,
    /// Tokens a second of each answer.
    pub tps: f64,
    /// What a million tokens of prompts cost.
    pub input: f64,
    /// What a million tokens of answers cost.
    pub output: f64,
    /// The share that may go there of the jobs that may leave.
    pub share: f64,
    /// Jobs that it takes at the same time; any number if absent.
    pub concurrent: Option<usize>,
    /// What goes wrong there.
    pub faults: RemoteFaults,
}

/// How much goes wrong at an endpoint. Nothing does by default.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RemoteFaults {
    /// Share of jobs that come back undone before anything was said.
    pub refuses: f64,
    /// Share of jobs that end in the middle of an answer.
    pub breaks: f64,
    /// Share of jobs that take ten times as long.
    pub slow: f64,
    /// Seconds from one time when it does not answer to the next, on the average; 0: it always does.
    pub down_every_s: f64,
    /// Seconds that such a time lasts, on the average.
    pub down_s: f64,
}

const KEYS: &str = "ttft, tps, input, output, share, concurrent";

/// Why words are no endpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{words:?} is no endpoint: {why}; write NAME:ttft=0.4,tps=80,input=0.5,output=1.5, and share=…, concurrent=… if wanted"
)]
pub struct RemoteError {
    words: String,
    why: String,
}

impl FromStr for VirtualRemote {
    type Err = RemoteError;

    fn from_str(words: &str) -> Result<Self, RemoteError> {
        let wrong = |why: String| RemoteError {
            words: words.to_owned(),
            why,
        };
        let (name, settings) = words.split_once(':').unwrap_or((words, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong("a name has small letters, digits and `-`".to_owned()));
        }
        let mut values: BTreeMap<&str, f64> = BTreeMap::new();
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if !KEYS.split(", ").any(|known| known == key) {
                return Err(wrong(format!("it has no setting {key:?}; it has {KEYS}")));
            }
            let number = value
                .parse()
                .ok()
                .filter(|v: &f64| v.is_finite() && *v >= 0.0);
            let number =
                number.ok_or_else(|| wrong(format!("{key} is a number, and not {value:?}")))?;
            values.insert(key, number);
        }
        let value = |key| values.get(key).copied();
        let needed = |key| value(key).ok_or_else(|| wrong(format!("{key} is missing")));
        let tps = needed("tps")?;
        if tps <= 0.0 {
            return Err(wrong("tps is above 0".to_owned()));
        }
        let share = value("share").unwrap_or(1.0);
        if share > 1.0 {
            return Err(wrong("share is 1 at most".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            ttft_s: needed("ttft")?,
            tps,
            input: needed("input")?,
            output: needed("output")?,
            share,
            concurrent: value("concurrent").map(|most| most as usize),
            faults: RemoteFaults::default(),
        })
    }
}

impl VirtualRemote {
    /// As it is called where devices are named.
    pub(crate) fn device_name(&self) -> String {
        format!("remote:{}", self.name)
    }

    /// What a job costs there.
    pub(crate) fn money(&self, prompt_tokens: u32, written: u32) -> f64 {
        (self.input * f64::from(prompt_tokens) + self.output * f64::from(written)) / 1e6
    }

    /// It, as a place for an arrival.
    pub(crate) fn place(&self, device: DeviceId, arrival: &Arrival) -> Elsewhere {
        let written = match arrival.work {
            Work::Write { n, max_tokens } => n.saturating_mul(max_tokens),
            Work::Embed | Work::Load => 0,
        };
        Elsewhere {
            device,
            ttft_s: self.ttft_s,
            tps: self.tps,
            spread: 1.5,
            money: Some(self.money(arrival.prompt_tokens, written)),
        }
    }
}

/// The endpoints of a simulation, and who may go there.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Beyond {
    /// The endpoints. Their numbers follow those of the machine's devices.
    pub remotes: Vec<VirtualRemote>,
    /// The endpoints that jobs may go to, by their places among the arrivals. All others stay.
    pub may_go: BTreeMap<usize, Vec<usize>>,
}

impl Beyond {
    /// Jobs of these classes may leave, each for as many of the endpoints as their shares say.
    pub fn of_classes(
        remotes: Vec<VirtualRemote>,
        arrivals: &[Arrival],
        classes: &[Class],
        seed: u64,
    ) -> Self {
        let mut rng = chance(seed, 4);
        let mut may_go = BTreeMap::new();
        for (at, arrival) in arrivals.iter().enumerate() {
            if classes.contains(&arrival.class) {
                let mut to = |remote: &VirtualRemote| rng.happens(remote.share);
                let places = remotes.iter().enumerate();
                let places: Vec<_> = places.filter(|(_, r)| to(r)).map(|(at, _)| at).collect();
                may_go.insert(at, places);
            }
        }
        Self { remotes, may_go }
    }

    /// Endpoints of all sorts, and jobs that may go there by chance; as often as not, there are none.
    pub(crate) fn storm(arrivals: &[Arrival], rng: &mut Pcg64Mcg) -> Self {
        if rng.happens(0.4) {
            return Self::default();
        }
        let count = 1 + rng.below(3);
        let remotes = (0..count).map(|number| {
            let mut share = |most: f64| match rng.happens(0.5) {
                true => most * rng.unit(),
                false => 0.0,
            };
            let faults = RemoteFaults {
                refuses: share(0.5),
                breaks: share(0.2),
                slow: share(0.3),
                down_every_s: share(60.0),
                down_s: 1.0 + share(20.0),
            };
            VirtualRemote {
                name: format!("far{number}"),
                ttft_s: 0.05 * 40f64.powf(rng.unit()),
                tps: 5.0 * 40f64.powf(rng.unit()),
                input: 0.0,
                output: if rng.happens(0.3) {
                    0.0
                } else {
                    0.1 * 100f64.powf(rng.unit())
                },
                share: 0.3 + 0.7 * rng.unit(),
                concurrent: rng.happens(0.4).then(|| 1 + rng.below(6)),
                faults,
            }
        });
        let remotes: Vec<_> = remotes.collect();
        let public = rng.unit();
        let may_go = arrivals.iter().enumerate().filter_map(|(at, _)| {
            let leaves = rng.happens(public);
            let mut to = |remote: &VirtualRemote| leaves && rng.happens(remote.share);
            let places = remotes.iter().enumerate();
            let places: Vec<_> = places.filter(|(_, r)| to(r)).map(|(at, _)| at).collect();
            (!places.is_empty()).then_some((at, places))
        });
        Self {
            may_go: may_go.collect(),
            remotes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_said_in_a_line() {
        let far: VirtualRemote = "far:ttft=0.4,tps=80,input=0.5,output=1.5,concurrent=4"
            .parse()
            .expect("it is one");
        assert_eq!((far.ttft_s, far.share, far.concurrent), (0.4, 1.0, Some(4)));
        // A thousand tokens in, two hundred out.
        assert!((far.money(1000, 200) - 0.0008).abs() < 1e-12);
        for (words, why) in [
            ("Far:ttft=1", "small letters"),
            ("far", "tps is missing"),
            ("far:tps=0,ttft=1,input=0,output=0", "above 0"),
            ("far:tps=1,ttft=x", "ttft is a number"),
            ("far:colour=2", "no setting \"colour\""),
            ("far:tps=1,ttft=1,input=0,output=0,share=2", "1 at most"),
        ] {
            let error = words.parse::<VirtualRemote>().expect_err(words).to_string();
            assert!(
                error.contains(why) && error.contains("NAME:ttft"),
                "{error}"
            );
        }
    }
}
