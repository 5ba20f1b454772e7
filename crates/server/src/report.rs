//! What an answer tells of the work: the object `troika` of every interface's numbers.
//!
//! Milliseconds, joules, and tokens per second. What nobody knows is null; without a [`Report`] there is no such object.

use serde_json::{Value, json};
use troika_scheduler::{JobForecast, Phase, Span};

use crate::job::{Report, Sent, Usage};

/// The name under which the object stands.
pub(crate) const FIELD: &str = "troika";

/// The object; `None` where nobody reported.
pub(crate) fn troika(usage: &Usage) -> Option<Value> {
    let report = usage.report.as_deref()?;
    let account = &report.account;
    let spans = report.spans();
    Some(json!({
        "placement": spans.map(|(device, span)| placement(device, span)).chain(afar(usage, report)).collect::<Vec<_>>(),
        "class": report.class,
        "load_ms": ms(usage.load.as_secs_f64()),
        "queue_ms": ms(account.queue_s),
        "ttft_ms": account.ttft_s.map(ms),
        "prefill_ms": ms(account.prefill_s),
        "decode_ms": ms(account.decode_s),
        "prefill_tps": tps(account.prefill_tokens, account.prefill_s),
        // The clock of writing starts with the first token.
        "decode_tps": tps(account.decode_tokens.saturating_sub(1), account.decode_s),
        "joules": account.joules.map(rounded),
        "joules_source": account.joules_source,
        "expected": account.expected.as_ref().map(|forecast| expected(forecast, account.joules.is_some())),
        "drafted_tokens": usage.drafted_tokens,
        "accepted_tokens": usage.accepted_tokens,
        "moves": account.moves,
        "replays": account.replays,
        "remote": report.sent.iter().map(sent).collect::<Vec<_>>(),
    }))
}

/// Adds the object to numbers that are one.
pub(crate) fn add_to(numbers: &mut Value, usage: &Usage) {
    if let Some(troika) = troika(usage) {
        numbers[FIELD] = troika;
    }
}

fn placement(device: &str, span: &Span) -> Value {
    json!({
        "device": device,
        "phase": span.phase,
        "tokens": span.tokens,
        "device_ms": ms(span.device_s),
        "joules": span.joules.map(rounded),
    })
}

/// What an endpoint did; how long its computers took, and how much energy, nobody tells.
fn afar(usage: &Usage, report: &Report) -> Vec<Value> {
    let Some(sent) = report.sent.last() else {
        return Vec::new();
    };
    let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let phases = [
        (Phase::Prefill, read),
        (Phase::Decode, usage.completion_tokens),
    ];
    let told = phases.map(|(phase, tokens)| {
        json!({"device": sent.device(), "phase": phase, "tokens": tokens, "device_ms": null, "joules": null})
    });
    told.to_vec()
}

/// What left the machine; nothing of what it said.
fn sent(sent: &Sent) -> Value {
    json!({
        "to": sent.to,
        "rule": sent.rule,
        "bytes_out": sent.bytes_out,
        "bytes_in": sent.bytes_in,
        "cost": sent.cost.as_ref().map(|cost| json!({"amount": cost.amount, "currency": cost.currency})),
    })
}

/// `is_known`: whether anybody knew the job's joules in the end. Without watts there is no estimate of them either.
fn expected(forecast: &JobForecast, is_known: bool) -> Value {
    json!({
        "wait_ms": ms(forecast.wait_s),
        "load_ms": ms(forecast.load_s),
        "prefill_ms": ms(forecast.prefill_s),
        "copy_ms": ms(forecast.copy_s),
        "decode_ms": ms(forecast.decode_s),
        "ttft_ms": ms(forecast.ttft_s()),
        "total_ms": ms(forecast.total_s()),
        "joules": forecast.joules.filter(|_| is_known).map(rounded),
        "spread": rounded(forecast.spread),
    })
}

fn ms(seconds: f64) -> f64 {
    rounded(seconds * 1e3)
}

/// `None` if there was nothing to measure.
fn tps(tokens: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| rounded(tokens as f64 / seconds))
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use troika_scheduler::JoulesSource;

    use std::time::Duration;

    use super::*;
    use crate::job::add;
    use crate::testing::report;

    #[test]
    fn what_was_not_measured_is_null() {
        assert_eq!(troika(&Usage::default()), None);
        let usage = Usage {
            report: Some(Box::default()),
            ..Usage::default()
        };
        let troika = troika(&usage).unwrap();
        for field in ["ttft_ms", "prefill_tps", "decode_tps", "joules", "expected"] {
            assert_eq!(troika[field], Value::Null, "{field}");
        }
        assert_eq!(troika["joules_source"], "unknown");
    }

    #[test]
    fn joules_that_nobody_knows_are_null() {
        let mut report = report("gpu0");
        report.account.joules = None;
        report.account.joules_source = JoulesSource::Unknown;
        report.account.spans[0].joules = None;
        report.account.expected = Some(JobForecast::default());
        let usage = Usage {
            report: Some(Box::new(report)),
            ..Usage::default()
        };
        let told = troika(&usage).unwrap();
        assert_eq!(
            (&told["joules"], &told["joules_source"]),
            (&Value::Null, &json!("unknown"))
        );
        assert_eq!(told["placement"][0]["joules"], Value::Null);
        assert!(told["placement"][1]["joules"].is_f64(), "{told}");
        assert_eq!(told["expected"]["joules"], Value::Null);
        let mut total = usage.clone();
        let known = Usage {
            report: Some(Box::new(super::tests::report("gpu0"))),
            ..Usage::default()
        };
        add(&mut total, &known);
        assert_eq!(troika(&total).unwrap()["joules"], Value::Null);
    }

    #[test]
    fn who_answered_from_afar_is_told() {
        let sent = Sent {
            to: "far".to_owned(),
            rule: "all".to_owned(),
            bytes_out: 10,
            bytes_in: 20,
            cost: None,
        };
        let report = Report {
            sent: vec![sent],
            ..Report::default()
        };
        let usage = Usage {
            prompt_tokens: 5,
            completion_tokens: 3,
            report: Some(Box::new(report)),
            ..Usage::default()
        };
        let told = troika(&usage).unwrap();
        let decode = &told["placement"][1];
        assert_eq!(
            (&decode["device"], &decode["tokens"]),
            (&json!("remote:far"), &json!(3))
        );
        assert_eq!(decode["device_ms"], Value::Null);
        assert_eq!(told["remote"][0]["rule"], "all");
    }

    #[test]
    fn jobs_of_a_request_are_counted_together() {
        let job = |device: &str| Usage {
            prompt_tokens: 5,
            decode: Duration::from_secs(1),
            report: Some(Box::new(report(device))),
            ..Usage::default()
        };
        let mut total = Usage::default();
        for device in ["gpu0", "gpu0", "cpu0"] {
            add(&mut total, &job(device));
        }
        assert_eq!(total.prompt_tokens, 15);
        assert_eq!(total.decode, Duration::from_secs(1));
        let troika = troika(&total).unwrap();
        let one = super::troika(&job("gpu0")).unwrap();
        let place = |i: usize| &troika["placement"][i];
        assert_eq!(troika["placement"].as_array().unwrap().len(), 4);
        assert_eq!(
            (&place(0)["device"], &place(0)["phase"]),
            (&json!("gpu0"), &json!("prefill"))
        );
        assert_eq!(place(0)["tokens"], 14);
        assert_eq!(place(2)["device"], "cpu0");
        assert_eq!(place(2)["tokens"], 7);
        assert_eq!(troika["queue_ms"], one["queue_ms"]);
        let joules = |value: &Value| value["joules"].as_f64().unwrap();
        assert!((joules(&troika) - 3.0 * joules(&one)).abs() < 1e-9);
        assert_eq!(troika["expected"], Value::Null);
    }
}
