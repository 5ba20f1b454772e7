//! What Prometheus can read at `/metrics`: one function for each thing worth counting, so that names and labels stand here
//! and nowhere else.
//!
//! Labels are of few values: routes as they are declared, models as they are installed. Nothing a client writes becomes a
//! label.

use std::sync::LazyLock;
use std::time::Duration;

use ::metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use axum::http::StatusCode;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use troika_scheduler::{Cause, Class, JoulesSource};

use crate::ErrorKind;
use crate::job::Report;

const REQUESTS: &str = "troika_http_requests_total";
const REQUEST_SECONDS: &str = "troika_http_request_seconds";
const REJECTED: &str = "troika_requests_rejected_total";
const CONNECTIONS: &str = "troika_connections";
const TTFT: &str = "troika_time_to_first_token_seconds";
const ITL: &str = "troika_inter_token_seconds";
const QUEUE: &str = "troika_queue_wait_seconds";
const PROMPT_TOKENS: &str = "troika_prompt_tokens_total";
const CACHED_TOKENS: &str = "troika_prompt_tokens_cached_total";
const GENERATED_TOKENS: &str = "troika_generated_tokens_total";
const DRAFTED_TOKENS: &str = "troika_drafted_tokens_total";
const ACCEPTED_TOKENS: &str = "troika_drafted_tokens_accepted_total";
const KV_USED: &str = "troika_kv_pages_used";
const KV_TOTAL: &str = "troika_kv_pages";
const RUNNING: &str = "troika_jobs_running";
const QUEUED: &str = "troika_jobs_queued";
const CLASS_JOBS: &str = "troika_jobs_total";
const CLASS_TTFT: &str = "troika_class_time_to_first_token_seconds";
const CLASS_QUEUE: &str = "troika_class_queue_wait_seconds";
const ENERGY: &str = "troika_energy_millijoules_total";
const PLACEMENTS: &str = "troika_placements_total";
const ONNX_RUNS: &str = "troika_onnx_runs_total";
const ONNX_RUN_SECONDS: &str = "troika_onnx_run_seconds";
const LOADS: &str = "troika_model_loads_total";
const UNLOADS: &str = "troika_model_unloads_total";
const LOAD_SECONDS: &str = "troika_model_load_seconds";

/// From a millisecond to five minutes: a step of a small model, and a long prompt on a slow machine.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0,
];

/// The recorder, from the first call on; `None` if the program has another one already.
static RECORDER: LazyLock<Option<PrometheusHandle>> = LazyLock::new(|| {
    let handle = install().inspect_err(|error| {
        tracing::error!(%error, "metrics are not recorded");
    });
    handle.ok()
});

fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by route, method and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time to the end of the answer, by route."
    );
    describe_counter!(
        REJECTED,
        "Requests refused before a model saw them, by reason."
    );
    describe_gauge!(CONNECTIONS, "Open connections.");
    describe_histogram!(
        TTFT,
        Unit::Seconds,
        "Time to the first token, from the request on."
    );
    describe_histogram!(ITL, Unit::Seconds, "Time between two tokens of an answer.");
    describe_histogram!(
        QUEUE,
        Unit::Seconds,
        "Time that jobs waited for their turn."
    );
    describe_counter!(
        PROMPT_TOKENS,
        "Tokens of prompts, those from the prefix cache included."
    );
    describe_counter!(
        CACHED_TOKENS,
        "Tokens of prompts that the prefix cache had."
    );
    describe_counter!(GENERATED_TOKENS, "Tokens written.");
    describe_counter!(DRAFTED_TOKENS, "Tokens guessed ahead.");
    describe_counter!(
        ACCEPTED_TOKENS,
        "Tokens guessed ahead that were right: they are among those written."
    );
    describe_gauge!(KV_USED, "Pages of the KV cache in use.");
    describe_gauge!(KV_TOTAL, "Pages of the KV cache.");
    describe_gauge!(RUNNING, "Jobs in progress.");
    describe_gauge!(QUEUED, "Jobs that wait.");
    describe_counter!(
        CLASS_JOBS,
        "Jobs done, by class and by each device that worked for them."
    );
    describe_histogram!(
        CLASS_TTFT,
        Unit::Seconds,
        "Time from a job's arrival to its first token, by class."
    );
    describe_histogram!(
        CLASS_QUEUE,
        Unit::Seconds,
        "Time from a job's arrival to its first step, by class."
    );
    describe_counter!(
        ENERGY,
        "Thousandths of a joule that jobs used, by class, by device, and by whether a meter told them."
    );
    describe_counter!(
        PLACEMENTS,
        "Times that a job was placed, by what led to it and by the device that writes its answers."
    );
    describe_counter!(
        ONNX_RUNS,
        "Always-on jobs done, by ONNX model, class and device."
    );
    describe_histogram!(
        ONNX_RUN_SECONDS,
        Unit::Seconds,
        "Time that an ONNX model worked for a job."
    );
    describe_counter!(LOADS, "Models loaded.");
    describe_counter!(UNLOADS, "Models unloaded.");
    describe_histogram!(LOAD_SECONDS, Unit::Seconds, "Time to load a model.");
}

/// Begins to record. What is reported before is lost.
pub(crate) fn start() {
    LazyLock::force(&RECORDER);
}

/// All there is, in Prometheus' text format.
pub(crate) fn render() -> String {
    RECORDER
        .as_ref()
        .map_or_else(String::new, PrometheusHandle::render)
}

/// Folds measured times into their histograms; without it they pile up until someone reads them.
pub(crate) fn upkeep() {
    if let Some(recorder) = &*RECORDER {
        recorder.run_upkeep();
    }
}

/// A request was answered to its end. `route` is the route as declared.
pub(crate) fn request(route: &str, method: &'static str, status: StatusCode, took: Duration) {
    let route = route.to_owned();
    let status = status.as_u16().to_string();
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took);
}

/// A request was refused before a model saw it, for a reason in one or two words.
pub(crate) fn rejected(reason: &'static str) {
    counter!(REJECTED, "reason" => reason).increment(1);
}

/// A request was refused before a model saw it, by an error of this kind.
pub(crate) fn refused(kind: ErrorKind) {
    rejected(match kind {
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::Timeout => "timeout",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::RateLimited { .. } => "rate_limited",
        ErrorKind::Overloaded { .. } => "queue_full",
        ErrorKind::Unavailable { .. } => "unavailable",
        ErrorKind::Deadline => "deadline",
        ErrorKind::RequiredDevice => "device",
        ErrorKind::Internal => "internal",
        _ => "invalid",
    });
}

/// A connection is open for as long as this lives.
pub(crate) fn connection() -> OpenConnection {
    gauge!(CONNECTIONS).increment(1);
    OpenConnection
}

/// See [`connection`].
pub(crate) struct OpenConnection;

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1);
    }
}

/// The first token of an answer came this long after the request.
pub(crate) fn first_token(model: &str, after: Duration) {
    histogram!(TTFT, "model" => model.to_owned()).record(after);
}

/// A further token came this long after the one before.
pub(crate) fn inter_token(model: &str, after: Duration) {
    histogram!(ITL, "model" => model.to_owned()).record(after);
}

/// A job had waited this long when its turn came.
pub(crate) fn queue_wait(model: &str, waited: Duration) {
    histogram!(QUEUE, "model" => model.to_owned()).record(waited);
}

/// A job is done. `cached` tokens are among those of the prompt.
pub(crate) fn tokens(model: &str, prompt: usize, cached: usize, generated: usize) {
    let label = || model.to_owned();
    counter!(PROMPT_TOKENS, "model" => label()).increment(prompt as u64);
    counter!(CACHED_TOKENS, "model" => label()).increment(cached as u64);
    counter!(GENERATED_TOKENS, "model" => label()).increment(generated as u64);
}

/// A job is done for which so many tokens were guessed ahead, of which so many were right.
pub(crate) fn drafts(model: &str, drafted: usize, accepted: usize) {
    let label = || model.to_owned();
    counter!(DRAFTED_TOKENS, "model" => label()).increment(drafted as u64);
    counter!(ACCEPTED_TOKENS, "model" => label()).increment(accepted as u64);
}

/// A job is done, and this is what it took.
pub(crate) fn job_done(report: &Report) {
    let class = report.class.name();
    let account = &report.account;
    let source = match account.joules_source {
        JoulesSource::Estimated => "estimated",
        JoulesSource::Measured => "measured",
        JoulesSource::Mixed => "mixed",
        JoulesSource::Unknown => "unknown",
    };
    let mut seen: Vec<&str> = Vec::new();
    for (device, span) in report.spans() {
        if !seen.contains(&device) {
            seen.push(device);
            counter!(CLASS_JOBS, "class" => class, "device" => device.to_owned()).increment(1);
        }
        if let Some(joules) = span.joules {
            let millijoules = (joules * 1e3).round().max(0.0) as u64;
            counter!(ENERGY, "class" => class, "device" => device.to_owned(), "source" => source)
                .increment(millijoules);
        }
    }
    histogram!(CLASS_QUEUE, "class" => class).record(account.queue_s);
    if let Some(ttft_s) = account.ttft_s {
        histogram!(CLASS_TTFT, "class" => class).record(ttft_s);
    }
}

/// What an always-on job took.
pub(crate) struct OnnxRun<'r> {
    /// As its file is called.
    pub(crate) model: &'r str,
    pub(crate) class: Class,
    pub(crate) device: &'r str,
    pub(crate) queue: Duration,
    pub(crate) run: Duration,
    /// By a meter.
    pub(crate) joules: Option<f64>,
}

/// An always-on job is done.
pub(crate) fn onnx_done(run: &OnnxRun<'_>) {
    let (model, device) = (run.model.to_owned(), run.device.to_owned());
    let class = run.class.name();
    counter!(ONNX_RUNS, "model" => model.clone(), "class" => class, "device" => device.clone())
        .increment(1);
    histogram!(ONNX_RUN_SECONDS, "model" => model, "device" => device.clone()).record(run.run);
    histogram!(CLASS_QUEUE, "class" => class).record(run.queue);
    if let Some(joules) = run.joules {
        let millijoules = (joules * 1e3).round().max(0.0) as u64;
        counter!(ENERGY, "class" => class, "device" => device, "source" => "measured")
            .increment(millijoules);
    }
}

/// A job was placed, on this device.
pub(crate) fn placed(cause: Cause, device: &str) {
    let cause = match cause {
        Cause::Arrival => "arrival",
        Cause::Spill => "spill",
        Cause::Home => "home",
        Cause::Replay => "replay",
        Cause::Gain => "gain",
        Cause::Handover => "handover",
    };
    counter!(PLACEMENTS, "cause" => cause, "device" => device.to_owned()).increment(1);
}

/// How full a model's KV cache on a device is.
pub(crate) fn kv_pages(model: &str, device: &str, used: u32, total: u32) {
    let labels = [("model", model.to_owned()), ("device", device.to_owned())];
    gauge!(KV_USED, &labels).set(f64::from(used));
    gauge!(KV_TOTAL, &labels).set(f64::from(total));
}

/// How many jobs a model has.
pub(crate) fn jobs(model: &str, running: usize, queued: usize) {
    gauge!(RUNNING, "model" => model.to_owned()).set(running as f64);
    gauge!(QUEUED, "model" => model.to_owned()).set(queued as f64);
}

/// A model was loaded on a device, which took this long.
pub(crate) fn model_loaded(model: &str, device: &str, took: Duration) {
    let labels = [("model", model.to_owned()), ("device", device.to_owned())];
    counter!(LOADS, &labels).increment(1);
    histogram!(LOAD_SECONDS, &labels).record(took);
}

/// A model was unloaded from a device: it has no pages there any more.
pub(crate) fn model_unloaded(model: &str, device: &str) {
    let labels = [("model", model.to_owned()), ("device", device.to_owned())];
    counter!(UNLOADS, &labels).increment(1);
    kv_pages(model, device, 0, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reported_can_be_read() {
        start();
        let seconds = Duration::from_millis(30);
        first_token("m-metrics", seconds);
        inter_token("m-metrics", seconds);
        queue_wait("m-metrics", seconds);
        tokens("m-metrics", 100, 40, 7);
        drafts("m-metrics", 9, 5);
        kv_pages("m-metrics", "cpu0", 3, 8);
        jobs("m-metrics", 2, 5);
        model_loaded("m-metrics", "cpu0", seconds);
        refused(ErrorKind::TooLarge);
        request("/v1/x", "POST", StatusCode::OK, seconds);
        job_done(&Report {
            class: Class::Agent,
            ..crate::testing::report("d-metrics")
        });
        placed(Cause::Spill, "d-metrics");
        onnx_done(&OnnxRun {
            model: "m-metrics",
            class: Class::Agent,
            device: "d-onnx",
            queue: seconds,
            run: seconds,
            joules: Some(0.25),
        });
        refused(ErrorKind::Deadline);
        upkeep();
        let text = render();
        for line in [
            "troika_time_to_first_token_seconds_bucket{model=\"m-metrics\",le=\"0.025\"} 0",
            "troika_time_to_first_token_seconds_bucket{model=\"m-metrics\",le=\"0.05\"} 1",
            "troika_prompt_tokens_cached_total{model=\"m-metrics\"} 40",
            "troika_generated_tokens_total{model=\"m-metrics\"} 7",
            "troika_drafted_tokens_total{model=\"m-metrics\"} 9",
            "troika_drafted_tokens_accepted_total{model=\"m-metrics\"} 5",
            "troika_kv_pages_used{model=\"m-metrics\",device=\"cpu0\"} 3",
            "troika_jobs_queued{model=\"m-metrics\"} 5",
            "troika_http_requests_total{route=\"/v1/x\",method=\"POST\",status=\"200\"} 1",
            "troika_jobs_total{class=\"agent\",device=\"d-metrics\"} 1",
            "troika_energy_millijoules_total{class=\"agent\",device=\"d-metrics\",source=\"measured\"} 1500",
            "troika_class_time_to_first_token_seconds_bucket{class=\"agent\",le=\"0.025\"} 0",
            "troika_class_queue_wait_seconds_count{class=\"agent\"}",
            "troika_placements_total{cause=\"spill\",device=\"d-metrics\"} 1",
            "troika_onnx_runs_total{model=\"m-metrics\",class=\"agent\",device=\"d-onnx\"} 1",
            "troika_energy_millijoules_total{class=\"agent\",device=\"d-onnx\",source=\"measured\"} 250",
            "troika_requests_rejected_total{reason=\"deadline\"}",
            "# HELP troika_jobs_running Jobs in progress.",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        model_unloaded("m-metrics", "cpu0");
        let text = render();
        assert!(
            text.contains("troika_kv_pages{model=\"m-metrics\",device=\"cpu0\"} 0"),
            "{text}"
        );
    }
}
