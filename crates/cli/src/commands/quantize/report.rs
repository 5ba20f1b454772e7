//! What `troika quantize` says: which tensor gets what, and what came of it.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use troika_base::Bytes;
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_quantize::{Allotted, Plan, Planned};

use super::divergence::Found;
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
    kl_mean: Option<f64>,
}

impl<'a> Row<'a> {
    fn new(planned: &'a Planned, losses: Losses<'_>) -> Self {
        Self {
            tensor: &planned.name,
            shape: &planned.shape,
            from: planned.from.name(),
            to: planned.to.name(),
            instead_of: planned.instead_of.map(|dtype| dtype.name()),
            bytes: planned.bytes,
            bits_per_weight: planned.to.bits_per_weight(),
            error: losses.error(planned),
            kl_mean: losses.kl_mean(planned),
        }
    }

    fn all(plan: &'a Plan, losses: Losses<'_>) -> Vec<Self> {
        let rows = plan.tensors.iter();
        rows.map(|planned| Self::new(planned, losses)).collect()
    }
}

/// What tensors lose, as far as it was measured.
#[derive(Clone, Copy)]
struct Losses<'l> {
    allotted: Option<&'l [Allotted]>,
    found: Option<&'l Found>,
}

impl Losses<'_> {
    fn error(self, planned: &Planned) -> Option<f64> {
        let mut all = self.allotted?.iter();
        let found = all.find(|tensor| tensor.name == planned.name);
        found.map(|tensor| tensor.error)
    }

    fn kl_mean(self, planned: &Planned) -> Option<f64> {
        self.found?.of_tensor.get(&planned.name).copied()
    }

    /// Whether anything of single tensors was measured.
    fn are_known(self) -> bool {
        self.allotted.is_some() || self.has_kl()
    }

    fn has_kl(self) -> bool {
        self.found.is_some_and(|found| !found.of_tensor.is_empty())
    }
}

/// What would be written.
pub(super) fn planned(
    file: &ModelFile,
    plan: &Plan,
    allotted: Option<&[Allotted]>,
    console: &Console,
) -> anyhow::Result<()> {
    let losses = Losses {
        allotted,
        found: None,
    };
    if console.json {
        return output::json(&json!({
            "from": file.name(),
            "bytes": plan.bytes(),
            "bits_per_weight": plan.bits_per_weight(),
            "tensors": Row::all(plan, losses),
        }));
    }
    output::answer(format_args!(
        "{}\n{}: {} weights of {:.2} bits\n",
        table(plan, losses),
        Bytes(plan.bytes()),
        count(plan.weights()),
        plan.bits_per_weight(),
    ))
}

/// Tensor by tensor.
fn table(plan: &Plan, losses: Losses<'_>) -> String {
    let head = |has: bool, head| if has { head } else { "" };
    let heads = [
        "tensor",
        "shape",
        "from",
        "to",
        "bits",
        "size",
        head(losses.allotted.is_some(), "error"),
        head(losses.has_kl(), "KL"),
        "",
    ]
    .map(str::to_owned);
    let rows = plan.tensors.iter().map(|planned| {
        let shape: Vec<_> = planned.shape.iter().map(u64::to_string).collect();
        let (error, kl) = (losses.error(planned), losses.kl_mean(planned));
        [
            output::line(&planned.name, 60),
            shape.join(" × "),
            planned.from.to_string(),
            planned.to.to_string(),
            format!("{:.2}", planned.to.bits_per_weight()),
            Bytes(planned.bytes).to_string(),
            error.map_or(String::new(), |error| format!("{:.2} %", error * 100.0)),
            kl.map_or(String::new(), |kl| format!("{kl:.5}")),
            planned.instead_of.map_or(String::new(), |dtype| {
                format!("for {dtype}: rows are not whole blocks of it")
            }),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let (left, right) = (Align::Left, Align::Right);
    let aligns = [left, right, left, left, right, right, right, right, left];
    output::table(aligns, &rows)
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
    found: Option<&Found>,
    (took, device): (Duration, &CpuDevice),
    console: &Console,
) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    let losses = Losses { allotted, found };
    let divergence = found.map(|found| found.all);
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
            "tensors": Row::all(plan, losses),
        }));
    }
    if losses.are_known() {
        output::answer(format_args!("{}\n", table(plan, losses)))?;
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
