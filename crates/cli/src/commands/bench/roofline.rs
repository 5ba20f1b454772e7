//! What the machine would let a test reach: the slower of reading the weights and multiplying with them.
//!
//! Counted are weights, and the keys and values that writing reads. Norms, attention's own products and the threads'
//! meetings are not, so 100 % cannot be reached; what is missing is where the time goes.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use troika_base::{DType, KvType, ModelSpec};
use troika_engine::CpuDevice;
use troika_kernels::roofline::{Bandwidth, ReadWay, matrix_peak, read_bandwidth};

use super::plan::Test;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::number;
use crate::weights::TokenCost;

/// What was measured of the machine, on one number of threads.
#[derive(Clone, Debug)]
pub(super) struct Roofline {
    pub(super) kernels: &'static str,
    pub(super) threads: usize,
    pub(super) bandwidth: Bandwidth,
    /// Operations per second by format.
    pub(super) peaks: Vec<(DType, f64)>,
}

/// Tokens of a prompt that one pass over the weights serves.
const STEP_TOKENS: usize = 512;

impl Roofline {
    /// Takes some seconds.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(super) fn measure(device: &CpuDevice, interrupt: &Interrupt) -> Result<Self, Interrupted> {
        let (kernels, pool) = (device.kernels(), device.pool());
        let mut peaks = Vec::new();
        for &dtype in DType::ALL {
            if interrupt.is_set() {
                return Err(Interrupted);
            }
            peaks.extend(matrix_peak(kernels, pool, dtype).map(|peak| (dtype, peak)));
        }
        let bandwidth = read_bandwidth(pool);
        if interrupt.is_set() {
            return Err(Interrupted);
        }
        Ok(Self {
            kernels: kernels.name,
            threads: device.threads(),
            bandwidth,
            peaks,
        })
    }

    /// Tokens per second that this machine would let the test reach. `None` if a format's peak is not known.
    pub(super) fn bound_tps(
        &self,
        test: &Test,
        cost: &TokenCost,
        spec: &ModelSpec,
        kv_type: KvType,
    ) -> Option<f64> {
        let n_tok = test.n_tok() as f64;
        // A step serves all sequences. Reading takes few steps, and writing one for each token.
        let steps = match test.n_prompt {
            0 => test.n_gen,
            _ => test.n_tok().div_ceil(STEP_TOKENS),
        };
        let kv_bytes = match test.n_prompt {
            // On average, half of the answer is there already.
            0 => {
                n_tok
                    * spec.kv_bytes_per_token(kv_type) as f64
                    * (test.depth as f64 + test.n_gen as f64 / 2.0)
            }
            _ => 0.0,
        };
        let read_s =
            (steps as f64 * cost.decode_bytes as f64 + kv_bytes) / self.bandwidth.bytes_per_s;
        let mut multiply_s = 0.0;
        for (&dtype, &weights) in &cost.prefill_weights {
            let (_, peak) = self.peaks.iter().find(|(of, _)| *of == dtype)?;
            multiply_s += 2.0 * weights as f64 * n_tok / peak;
        }
        Some(n_tok / read_s.max(multiply_s))
    }

    /// Some lines for people.
    pub(super) fn text(&self) -> String {
        let Bandwidth { bytes_per_s, way } = self.bandwidth;
        let ReadWay {
            threads,
            streams,
            prefetch_bytes,
        } = way;
        let peaks: Vec<_> = self
            .peaks
            .iter()
            .map(|(dtype, peak)| format!("{dtype} {}", number(peak / 1e12)))
            .collect();
        format!(
            "read bandwidth  {} GB/s ({threads} threads of {streams} streams, prefetch {prefetch_bytes} bytes ahead)\n\
             matrix peak     {} TOPS ({}, {} threads)\n",
            number(bytes_per_s / 1e9),
            peaks.join(", "),
            self.kernels,
            self.threads,
        )
    }
}

impl Serialize for Roofline {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let peaks: Map<String, Json> = self
            .peaks
            .iter()
            .map(|(dtype, peak)| (dtype.name().to_owned(), json!(peak)))
            .collect();
        json!({
            "test": "roofline",
            "kernels": self.kernels,
            "threads": self.threads,
            "read_bytes_per_s": self.bandwidth.bytes_per_s,
            "read_threads": self.bandwidth.way.threads,
            "read_streams": self.bandwidth.way.streams,
            "read_prefetch_bytes": self.bandwidth.way.prefetch_bytes,
            "ops_per_s": peaks,
        })
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_reading_and_multiplying_is_the_bound() {
        let roofline = Roofline {
            kernels: "scalar",
            threads: 1,
            bandwidth: Bandwidth {
                bytes_per_s: 1e9,
                way: ReadWay {
                    threads: 1,
                    streams: 1,
                    prefetch_bytes: 0,
                },
            },
            peaks: vec![(DType::Q8_0, 1e12)],
        };
        let cost = TokenCost {
            decode_bytes: 1_000_000,
            prefill_weights: [(DType::Q8_0, 1_000_000)].into(),
        };
        let spec = ModelSpec {
            architecture: "llama".to_owned(),
            name: None,
            n_layer: 1,
            n_embd: 64,
            n_head: 1,
            n_head_kv: 1,
            head_dim: 250,
            n_ff: 64,
            n_vocab: 10,
            n_ctx: 1000,
            norm_eps: 1e-5,
            experts: None,
            window: None,
            is_causal: true,
        };
        let test = |n_prompt, n_gen, depth, batch| Test {
            n_prompt,
            n_gen,
            depth,
            batch,
        };
        let bound = |test: Test| {
            roofline
                .bound_tps(&test, &cost, &spec, KvType::F16)
                .expect("the format is known")
                .round()
        };
        // A megabyte a token, a thousand megabytes a second.
        assert_eq!(bound(test(0, 1, 0, 1)), 1000.0);
        // A thousand bytes of keys and values for each of a thousand tokens double it.
        assert_eq!(bound(test(0, 2, 999, 1)), 500.0);
        // Ten sequences share the weights.
        assert_eq!(bound(test(0, 1, 0, 10)), 9950.0);
        // Two million operations a token, and a step of 512 tokens reads the weights once.
        assert_eq!(bound(test(512, 0, 0, 1)), 500_000.0);
        let unknown = TokenCost {
            prefill_weights: [(DType::Q4_0, 1)].into(),
            ..cost.clone()
        };
        assert_eq!(
            roofline.bound_tps(&test(1, 0, 0, 1), &unknown, &spec, KvType::F16),
            None
        );
    }
}
