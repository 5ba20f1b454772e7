//! What `troika quantize` says: which tensor gets what, and what came of it.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use troika_base::Bytes;
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_quantize::{Plan, Planned};

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
}

impl<'a> From<&'a Planned> for Row<'a> {
    fn from(planned: &'a Planned) -> Self {
        Self {
            tensor: &planned.name,
            shape: &planned.shape,
            from: planned.from.name(),
            to: planned.to.name(),
            instead_of: planned.instead_of.map(|dtype| dtype.name()),
            bytes: planned.bytes,
        }
    }
}

/// What would be written.
pub(super) fn planned(file: &ModelFile, plan: &Plan, console: &Console) -> anyhow::Result<()> {
    if console.json {
        let tensors: Vec<Row<'_>> = plan.tensors.iter().map(Row::from).collect();
        return output::json(&json!({
            "from": file.name(),
            "bytes": plan.bytes(),
            "bits_per_weight": plan.bits_per_weight(),
            "tensors": tensors,
        }));
    }
    let heads = ["tensor", "shape", "from", "to", "size", ""].map(str::to_owned);
    let rows = plan.tensors.iter().map(|planned| {
        let shape: Vec<_> = planned.shape.iter().map(u64::to_string).collect();
        [
            output::line(&planned.name, 60),
            shape.join(" × "),
            planned.from.to_string(),
            planned.to.to_string(),
            Bytes(planned.bytes).to_string(),
            planned.instead_of.map_or(String::new(), |dtype| {
                format!("for {dtype}: rows are not whole blocks of it")
            }),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let align = [
        Align::Left,
        Align::Right,
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Left,
    ];
    output::answer(format_args!(
        "{}\n{}: {} weights of {:.2} bits\n",
        output::table(align, &rows),
        Bytes(plan.bytes()),
        count(plan.weights()),
        plan.bits_per_weight(),
    ))
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
    plan: &Plan,
    took: Duration,
    device: &CpuDevice,
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
        }));
    }
    output::answer(format_args!(
        "{}: {} of weights, {:.2} bits each, from {}; {:.1} s\n",
        output::printable(&to.display().to_string()),
        Bytes(plan.bytes()),
        plan.bits_per_weight(),
        Bytes(file.bytes()),
        seconds,
    ))
}
