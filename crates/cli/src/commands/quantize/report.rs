//! What `troika quantize` says: which tensor gets what, and what came of it.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use troika_base::Bytes;
use troika_engine::{CpuDevice, Divergence};
use troika_gguf::ModelFile;
use troika_quantize::{Allotted, Plan, Planned};

use crate::output::{self, Align, Console, count};

/// A tensor in `--json`.
#[derive(Serialize)]
struct Row<'a> {
    tensor: &'a str,
    shape: &'a [u64],
    from: &'static str,
    to: &'static str,
    instead_of: Option<&'static str>,
    bytes: u64,
    bits_per_weight: f64,
    error: Option<f64>,
}

impl<'a> Row<'a> {
    fn new(planned: &'a Planned, allotted: Option<&[Allotted]>) -> Self {
        Self {
            tensor: &planned.name,
            shape: &planned.shape,
            from: planned.from.name(),
            to: planned.to.name(),
            instead_of: planned.instead_of.map(|dtype| dtype.name()),
            bytes: planned.bytes,
            bits_per_weight: planned.to.bits_per_weight(),
            error: error(planned, allotted),
        }
    }

    fn all(plan: &'a Plan, allotted: Option<&[Allotted]>) -> Vec<Self> {
        let rows = plan
            .tensors
            .iter()
            .map(|planned| Self::new(planned, allotted));
        rows.collect()
    }
}

/// What a tensor loses, where it was measured.
fn error(planned: &Planned, allotted: Option<&[Allotted]>) -> Option<f64> {
    let found = allotted?.iter().find(|tensor| tensor.name == planned.name);
    found.map(|tensor| tensor.error)
}

/// What would be written.
pub(super) fn planned(
    file: &ModelFile,
    plan: &Plan,
    allotted: Option<&[Allotted]>,
    console: &Console,
) -> anyhow::Result<()> {
    if console.json {
        return output::json(&json!({
            "from": file.name(),
            "bytes": plan.bytes(),
            "bits_per_weight": plan.bits_per_weight(),
            "tensors": Row::all(plan, allotted),
        }));
    }
    output::answer(format_args!(
        "{}\n{}: {} weights of {:.2} bits\n",
        table(plan, allotted),
        Bytes(plan.bytes()),
        count(plan.weights()),
        plan.bits_per_weight(),
    ))
}

/// Tensor by tensor.
fn table(plan: &Plan, allotted: Option<&[Allotted]>) -> String {
    let error_head = if allotted.is_some() { "error" } else { "" };
    let heads = [
        "tensor", "shape", "from", "to", "bits", "size", error_head, "",
    ]
    .map(str::to_owned);
    let rows = plan.tensors.iter().map(|planned| {
        let shape: Vec<_> = planned.shape.iter().map(u64::to_string).collect();
        let error = error(planned, allotted);
        [
            output::line(&planned.name, 60),
            shape.join(" × "),
            planned.from.to_string(),
            planned.to.to_string(),
            format!("{:.2}", planned.to.bits_per_weight()),
            Bytes(planned.bytes).to_string(),
            error.map_or(String::new(), |error| format!("{:.2} %", error * 100.0)),
            planned.instead_of.map_or(String::new(), |dtype| {
                format!("for {dtype}: rows are not whole blocks of it")
            }),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let (left, right) = (Align::Left, Align::Right);
    output::table([left, right, left, left, right, right, right, left], &rows)
}

/// Says which tensors get something else than the mix has for them.
pub(super) fn fallbacks(plan: &Plan, console: &Console) {
    let fallen: Vec<_> = plan
        .tensors
        .iter()
        .filter_map(|planned| Some((planned, planned.instead_of?)))
        .collect();
    let Some((first, wanted)) = fallen.first() else {
        return;
    };
    let others = match fallen.len() {
        1 => String::new(),
        n => format!(" and {} more tensors", n - 1),
    };
    console.note(format_args!(
        "{}{others} become {} and the like instead of {wanted}: their rows are not whole blocks of it (--dry-run lists them).",
        output::line(&first.name, 60),
        first.to,
    ));
    for (planned, wanted) in fallen {
        console.detail(format_args!(
            "{}: {} instead of {wanted}",
            output::line(&planned.name, 60),
            planned.to
        ));
    }
}

/// What was written, and how long that took.
pub(super) fn written(
    to: &Path,
    file: &ModelFile,
    (plan, allotted): (&Plan, Option<&[Allotted]>),
    divergence: Option<Divergence>,
    (took, device): (Duration, &CpuDevice),
    console: &Console,
) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    if console.json {
        return output::json_line(&json!({
            "from": file.name(),
            "to": to,
            "bytes_before": file.bytes(),
            "bytes": plan.bytes(),
            "bits_per_weight": plan.bits_per_weight(),
            "seconds": seconds,
            "kernels": device.kernels().name,
            "threads": device.threads(),
            "kl_mean": divergence.map(|divergence| divergence.kl_mean),
            "agreement": divergence.map(|divergence| divergence.agreement),
            "tensors": Row::all(plan, allotted),
        }));
    }
    if allotted.is_some() {
        output::answer(format_args!("{}\n", table(plan, allotted)))?;
    }
    output::answer(format_args!(
        "{}: {} of weights, {:.2} bits each, from {}; {:.1} s\n",
        output::printable(&to.display().to_string()),
        Bytes(plan.bytes()),
        plan.bits_per_weight(),
        Bytes(file.bytes()),
        seconds,
    ))?;
    match divergence {
        Some(divergence) => output::answer(format_args!(
            "KL divergence {:.5} nats a token, the same likeliest token after {:.1} % of {}\n",
            divergence.kl_mean,
            divergence.agreement * 100.0,
            divergence.tokens,
        )),
        None => Ok(()),
    }
}
