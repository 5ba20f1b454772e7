//! A job's numbers: the fields that OpenAI's clients know, and our own under `troika`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::job::Usage;

/// The object `usage`. `troika` is ours: milliseconds, and tokens per second of reading and writing.
pub(super) fn body(usage: &Usage) -> Value {
    let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "troika": {
            "load_ms": ms(usage.load),
            "queue_ms": ms(usage.queue),
            "prefill_ms": ms(usage.prefill),
            "decode_ms": ms(usage.decode),
            "prefill_tps": tps(read, usage.prefill),
            "decode_tps": tps(usage.completion_tokens, usage.decode),
        },
    })
}

/// Counts a job among those of the same request. They run side by side, so tokens add up and times do not.
pub(super) fn add(total: &mut Usage, job: &Usage) {
    total.prompt_tokens += job.prompt_tokens;
    total.cached_tokens += job.cached_tokens;
    total.completion_tokens += job.completion_tokens;
    total.reasoning_tokens += job.reasoning_tokens;
    total.load = total.load.max(job.load);
    total.queue = total.queue.max(job.queue);
    total.prefill = total.prefill.max(job.prefill);
    total.decode = total.decode.max(job.decode);
}

fn ms(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// Null if there was nothing to measure.
fn tps(tokens: usize, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| rounded(tokens as f64 / time.as_secs_f64()))
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_leave_out_what_was_cached() {
        let usage = Usage {
            prompt_tokens: 110,
            cached_tokens: 10,
            completion_tokens: 30,
            prefill: Duration::from_millis(500),
            decode: Duration::from_millis(1500),
            ..Usage::default()
        };
        let troika = &body(&usage)["troika"];
        assert_eq!(troika["prefill_tps"], 200.0);
        assert_eq!(troika["decode_tps"], 20.0);
        assert_eq!(troika["decode_ms"], 1500.0);
        assert_eq!(body(&Usage::default())["troika"]["decode_tps"], Value::Null);
    }
}
