//! How fast a model goes on a device, as a handful of numbers.
//!
//! The one estimate of the project is `troika_planner::cost`; it is asked once, when a model is made known
//! ([`Gait::estimate`]), and what it says is kept in a form that can be asked thousands of times a second. Steps that were
//! taken correct it ([`Correction`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use troika_base::DeviceProfile;
use troika_planner::cost::{self, Refusal, Setup, Slot, Work};
use troika_planner::model::ModelShape;
use troika_planner::quantization::Quantization;

/// A step's time: a wait for memory or for arithmetic, whichever is longer, and what every step costs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gait {
    /// Seconds that every step costs.
    pub launch_s: f64,
    /// Seconds to read all weights that a token uses.
    pub read_s: f64,
    /// Seconds of arithmetic for a token.
    pub token_s: f64,
    /// Seconds to read the cache of one past token.
    pub past_s: f64,
    /// Watts while prompts are read; 0 if nobody knows them.
    pub watts_prefill: f64,
    /// Watts while answers are written; 0 if nobody knows them.
    pub watts_decode: f64,
    /// How far off the speeds may be: the true time of a step lies between `1 / spread` and `spread` times this one.
    pub spread: f64,
}

/// What a step has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Tokens that are computed.
    pub tokens: u64,
    /// Tokens of the past that are read for them, over all sequences.
    pub past: u64,
}

/// Depth at which the cost of the past is looked up.
const DEEP: u32 = 4096;
/// Length of the prompt at which the arithmetic of a token is looked up.
const LONG: u32 = 512;

impl Gait {
    /// What the cost model says of a model on devices; `slots` are several where they share it by layers.
    ///
    /// # Errors
    /// If it does not fit, or a fact is missing.
    pub fn estimate(
        slots: &[&DeviceProfile],
        link_gbs: Option<f64>,
        model: &ModelShape,
        quantization: &Quantization,
    ) -> Result<Self, Refusal> {
        let setup = Setup::by_layers(slots.iter().map(|&device| Slot::all_of(device)), link_gbs);
        let ask = |prompt_tokens, depth| {
            let work = Work::alone(prompt_tokens, depth);
            cost::outlook(&setup, model, quantization, &work, None)
        };
        let here = ask(LONG.min(model.n_ctx), 0)?;
        let depth = DEEP.min(model.n_ctx.saturating_sub(1)).max(1);
        let deep = ask(0, depth)?;
        let step_s = 1.0 / here.decode_tps.value;
        let launch_s = setup.slots.iter().filter_map(|slot| slot.device.launch_us);
        let launch_s = (launch_s.sum::<f64>() / 1e6).min(step_s / 2.0);
        let read_s = step_s - launch_s;
        let token_s = match here.prefill_tps {
            Some(tps) => 1.0 / tps.value,
            // Nobody knows its arithmetic: it is taken to be no faster than reading the weights anew for every token.
            None => read_s,
        };
        let watts = |watts: Option<troika_base::Estimate>| watts.map_or(0.0, |watts| watts.value);
        Ok(Self {
            launch_s,
            read_s,
            token_s,
            past_s: ((1.0 / deep.decode_tps.value - step_s) / f64::from(depth)).max(0.0),
            watts_prefill: watts(here.watts_prefill.or(here.watts_decode)),
            watts_decode: watts(here.watts_decode),
            spread: here.decode_tps.high / here.decode_tps.value,
        })
    }

    /// Seconds of a step.
    pub fn step_s(&self, load: Load) -> f64 {
        let compute = self.token_s * load.tokens as f64;
        self.launch_s + self.read_s.max(compute) + self.past_s * load.past as f64
    }

    /// Seconds to read a prompt in chunks of `chunk` tokens.
    pub fn prefill_s(&self, tokens: u32, chunk: u32) -> f64 {
        let steps = f64::from(tokens.div_ceil(chunk.max(1)));
        let compute = self.token_s * f64::from(tokens);
        let past = self.past_s * f64::from(tokens) * steps / 2.0;
        self.launch_s * steps + (self.read_s * steps).max(compute) + past
    }

    /// Watts of a step: what writes waits for memory, what reads drives the arithmetic. 0 if nobody knows them.
    pub fn watts(&self, load: Load) -> f64 {
        match self.token_s * load.tokens as f64 > self.read_s {
            true => self.watts_prefill,
            false => self.watts_decode,
        }
    }
}

/// What a step more counts, beside those before it.
const LEARN: f64 = 0.08;
/// No step corrects by more than this factor: a machine that was asleep is no slower machine.
const JUMP_MAX: f64 = 4.0;

/// How the steps that were taken stand to the estimate.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Correction {
    /// The logarithm of true over estimated time: of steps that wait for memory, and for arithmetic.
    memory: f64,
    compute: f64,
    steps: u64,
}

impl Correction {
    /// Learns from a step.
    pub fn observe(&mut self, gait: &Gait, load: Load, took: Duration) {
        let expected = gait.step_s(load);
        let took = took.as_secs_f64();
        if expected <= 0.0 || took <= 0.0 {
            return;
        }
        // The first steps tell much where nothing was known.
        self.steps += 1;
        let learn = LEARN.max(1.0 / self.steps as f64).min(0.5);
        let sort = match gait.token_s * load.tokens as f64 > gait.read_s {
            true => &mut self.compute,
            false => &mut self.memory,
        };
        let jump = JUMP_MAX.ln();
        *sort += learn * ((took / expected).ln() - *sort).clamp(-jump, jump);
    }

    /// The gait as it really is.
    pub fn apply(&self, gait: &Gait) -> Gait {
        let (memory, compute) = (self.memory.exp(), self.compute.exp());
        Gait {
            launch_s: gait.launch_s * memory,
            read_s: gait.read_s * memory,
            past_s: gait.past_s * memory,
            token_s: gait.token_s * compute,
            ..*gait
        }
    }

    /// True over estimated time: of steps that wait for memory, and for arithmetic.
    pub fn factors(&self) -> [f64; 2] {
        [self.memory.exp(), self.compute.exp()]
    }

    /// Steps that were learned from.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gait() -> Gait {
        Gait {
            launch_s: 0.001,
            read_s: 0.020,
            token_s: 0.001,
            past_s: 1e-6,
            watts_prefill: 30.0,
            watts_decode: 15.0,
            spread: 1.5,
        }
    }

    fn load(tokens: u64, past: u64) -> Load {
        Load { tokens, past }
    }

    #[test]
    fn a_step_waits_for_memory_or_for_arithmetic() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(gait().step_s(load(1, 0)), 0.021);
        near(gait().step_s(load(8, 1000)), 0.022);
        near(gait().step_s(load(100, 0)), 0.101);
        assert_eq!(gait().watts(load(1, 0)), 15.0);
        assert_eq!(gait().watts(load(100, 0)), 30.0);
        near(gait().prefill_s(1024, 512), 1.026 + 0.001_024);
    }

    #[test]
    fn steps_correct_the_estimate_and_one_outlier_does_not() {
        let mut correction = Correction::default();
        for _ in 0..100 {
            correction.observe(&gait(), load(1, 0), Duration::from_millis(42));
        }
        let now = correction.apply(&gait());
        assert!((now.step_s(load(1, 0)) - 0.042).abs() < 0.001);
        assert_eq!(
            now.token_s,
            gait().token_s,
            "of arithmetic nothing is known"
        );
        correction.observe(&gait(), load(1, 0), Duration::from_secs(60));
        assert!(correction.apply(&gait()).step_s(load(1, 0)) < 0.05);
    }
}
