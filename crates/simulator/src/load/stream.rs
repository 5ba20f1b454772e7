//! A stream of jobs of one sort.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_pcg::Pcg64Mcg;
use serde::Deserialize;
use troika_scheduler::{Class, Time, Work};

use super::chance::Spread as _;
use crate::Arrival;
use crate::chance::Chance as _;

/// Jobs of one sort, and when they come.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its name, and the beginning of its owners' names.
    pub name: String,
    /// Where its numbers come from.
    pub source: String,
    /// The model, as the catalogue spells it.
    pub model: String,
    /// How urgent its jobs are.
    pub class: Class,
    /// What is done.
    #[serde(default)]
    pub task: Task,
    /// When they come.
    pub rhythm: Rhythm,
    /// Tokens that a prompt brings.
    pub prompt: Lengths,
    /// Tokens of each answer; absent for vectors.
    pub answer: Option<Lengths>,
    /// Answers to each prompt.
    #[serde(default = "one")]
    pub n: u32,
    /// How many people or programs it comes from.
    #[serde(default = "one")]
    pub owners: u32,
    /// Seconds after which a job's end is worth nothing any more.
    pub deadline_s: Option<f64>,
    /// Seconds after which a client leaves.
    pub leaves_s: Option<f64>,
    /// The one device that may do it.
    pub device: Option<String>,
    /// Whether a scale multiplies it: work of which there is as much as one likes.
    #[serde(default)]
    pub elastic: bool,
}

fn one() -> u32 {
    1
}

/// What a stream's jobs do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Text is written.
    #[default]
    Generate,
    /// A vector is made.
    Embed,
}

/// When jobs come.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Rhythm {
    /// At any moment alike.
    Poisson {
        /// How many, on average.
        per_minute: f64,
    },
    /// One after the other, evenly.
    Every {
        /// So far apart.
        seconds: f64,
    },
    /// Many at once.
    Burst {
        /// How many.
        jobs: u32,
        /// All of them within this time, at any moment alike.
        within_s: f64,
        /// When the first burst begins.
        first_s: f64,
        /// How far bursts are apart.
        every_s: f64,
    },
    /// Conversations: each turn's prompt holds all that was said before it.
    Talks {
        /// Conversations that begin, on average.
        per_minute: f64,
        /// Turns of each, on average; they end with the same likelihood after each turn.
        turns: f64,
        /// From one turn to the next, on average: reading, thinking, tools at work.
        pause_s: f64,
        /// Tokens that a conversation begins with: instructions, tools, files.
        opening: u32,
        /// Tokens of a prompt, at most; what would be longer begins anew with the opening.
        prompt_max: u32,
    },
}

/// Numbers of tokens, spread lognormally.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    /// Half of them are shorter.
    pub median: f64,
    /// How far their logarithm is spread; 0 is always the median.
    pub sigma: f64,
    /// The most.
    pub max: u32,
}

impl Lengths {
    fn draw(&self, dice: &mut Pcg64Mcg) -> u32 {
        let tokens = dice.lognormal(self.median, self.sigma);
        (tokens.round() as u32).clamp(1, self.max)
    }
}

impl Rhythm {
    /// Jobs to expect within so many seconds.
    pub(super) fn expected(&self, seconds: f64, scale: f64) -> f64 {
        match *self {
            Self::Poisson { per_minute } => seconds / 60.0 * per_minute * scale,
            Self::Every { seconds: apart } => seconds / apart * scale,
            Self::Burst {
                jobs,
                first_s,
                every_s,
                ..
            } => ((seconds - first_s).max(0.0) / every_s).ceil() * f64::from(jobs) * scale,
            Self::Talks {
                per_minute, turns, ..
            } => seconds / 60.0 * per_minute * turns * scale,
        }
    }
}

impl Stream {
    /// Adds its jobs of so many seconds, `scale` times as many as it has by itself, in no order.
    pub(super) fn arrivals(
        &self,
        seconds: f64,
        scale: f64,
        dice: &mut Pcg64Mcg,
        to: &mut Vec<Arrival>,
    ) {
        match self.rhythm {
            Rhythm::Poisson { per_minute } => {
                let apart = 60.0 / (per_minute * scale);
                let mut at = apart * dice.waiting();
                while at < seconds {
                    to.push(self.arrival(at, dice));
                    at += apart * dice.waiting();
                }
            }
            Rhythm::Every { seconds: apart } => {
                let apart = apart / scale;
                // The first one comes somewhere, or all such streams would beat together.
                let first = dice.unit() * apart;
                let times = (0..).map(|number| first + apart * f64::from(number));
                for at in times.take_while(|&at| at < seconds) {
                    to.push(self.arrival(at, dice));
                }
            }
            Rhythm::Burst {
                jobs,
                within_s,
                first_s,
                every_s,
            } => {
                let jobs = (f64::from(jobs) * scale).round() as u32;
                let starts = (0..).map(|number| first_s + every_s * f64::from(number));
                for start in starts.take_while(|&start| start < seconds) {
                    for _ in 0..jobs {
                        let at = start + within_s * dice.unit();
                        to.push(self.arrival(at, dice));
                    }
                }
            }
            Rhythm::Talks { per_minute, .. } => {
                let apart = 60.0 / (per_minute * scale);
                let mut at = apart * dice.waiting();
                let mut turns = Vec::new();
                for talk in 0.. {
                    if at >= seconds {
                        break;
                    }
                    self.talk(talk, at, seconds, dice, &mut turns);
                    at += apart * dice.waiting();
                }
                share(&mut turns);
                to.extend(turns.into_iter().map(|turn| turn.arrival));
            }
        }
    }

    /// Adds the turns of a conversation, by its number.
    fn talk(&self, talk: u32, mut at: f64, end: f64, dice: &mut Pcg64Mcg, to: &mut Vec<Turn>) {
        let Rhythm::Talks {
            turns,
            pause_s,
            opening,
            prompt_max,
            ..
        } = self.rhythm
        else {
            return;
        };
        let owner = dice.below(self.owners as usize);
        let mut said = opening;
        for _ in 0..dice.times(turns) {
            if at >= end {
                break;
            }
            let mut arrival = self.arrival(at, dice);
            if said.saturating_add(arrival.prompt_tokens) > prompt_max {
                said = opening;
            }
            let before = said;
            said = said.saturating_add(arrival.prompt_tokens).min(prompt_max);
            arrival.prompt_tokens = said;
            arrival.owner = self.owner(owner);
            if let Work::Write { max_tokens, .. } = arrival.work {
                said = said.saturating_add(max_tokens);
            }
            to.push(Turn {
                arrival,
                talk,
                before,
                opening,
            });
            at += pause_s * dice.waiting();
        }
    }

    fn owner(&self, number: usize) -> String {
        format!("{}-{}", self.name, number + 1)
    }

    fn arrival(&self, at_s: f64, dice: &mut Pcg64Mcg) -> Arrival {
        let prompt_tokens = self.prompt.draw(dice);
        let answer = self.answer.map(|answer| answer.draw(dice));
        let work = match (self.task, answer) {
            (Task::Generate, Some(max_tokens)) => Work::Write {
                n: self.n,
                max_tokens,
            },
            _ => Work::Embed,
        };
        Arrival {
            at: Time::from_seconds(at_s),
            model: self.model.clone(),
            class: self.class,
            owner: self.owner(dice.below(self.owners as usize)),
            prompt_tokens,
            shared: 0,
            work,
            deadline: self.deadline_s.map(Duration::from_secs_f64),
            leaves: self.leaves_s.map(Duration::from_secs_f64),
            device: self.device.clone(),
        }
    }
}

/// A turn of a conversation.
struct Turn {
    arrival: Arrival,
    /// Which conversation.
    talk: u32,
    /// Tokens that stood in it before this turn.
    before: u32,
    /// Tokens that all of the stream's conversations begin with.
    opening: u32,
}

/// Says of each turn what it has in common with its owner's turn before: all that was said, if it is of the same conversation,
/// else the opening.
fn share(turns: &mut [Turn]) {
    turns.sort_by_key(|turn| turn.arrival.at);
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    for turn in turns {
        let before = last.insert(turn.arrival.owner.clone(), turn.talk);
        turn.arrival.shared = match before {
            Some(talk) if talk == turn.talk => turn.before,
            Some(_) => turn.opening,
            None => 0,
        }
        .min(turn.arrival.prompt_tokens);
    }
}
