//! `troika perplexity --kl`: a model against recorded logits.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use troika_base::ModelSpec;
use troika_engine::{Comparison, Recording, Share};
use troika_gguf::ModelFile;

use super::PerplexityArgs;
use crate::exit::{Interrupted, WrongUse};
use crate::interrupt::Interrupt;
use crate::load;
use crate::output::{self, Align, Console};
use crate::progress::{Progress, Unit};

pub(super) fn run(
    file: &ModelFile,
    spec: &ModelSpec,
    recorded: &Path,
    args: &PerplexityArgs,
    console: &Console,
) -> anyhow::Result<()> {
    let recording = Recording::open(recorded)?;
    let (n_ctx, windows) = (recording.n_ctx(), recording.windows());
    if n_ctx > spec.n_ctx {
        return Err(WrongUse(format!(
            "the logits are of windows of {n_ctx} tokens, and the model was made for {}",
            spec.n_ctx
        ))
        .into());
    }
    let interrupt = Interrupt::install()?;
    let device = load::cpu(args.threads.threads)?;
    let (mut model, _) = load::model(file, &device, args.kv.options(n_ctx), console, &interrupt)?;
    let mut bar = Progress::new(console, "divergence", Unit::Windows);
    let compared = model.compare(recording, &mut |done, of, kl| {
        bar.update(done as u64, of as u64);
        bar.remark(&format!("{kl:.5}"));
        interrupt.flow(())
    });
    bar.clear();
    let Some(found) = compared.context("cannot compare")? else {
        return Err(Interrupted.into());
    };
    if console.json {
        return output::json_line(&report(model.name(), &found, n_ctx, windows));
    }
    output::answer(page(&found))
}

fn report(model: &str, found: &Comparison, n_ctx: usize, windows: usize) -> Value {
    json!({
        "model": model,
        "n_ctx": n_ctx,
        "windows": windows,
        "tokens": found.perplexity.tokens,
        "kl_mean": found.kl.mean,
        "kl_error": found.kl.error,
        "kl_median": found.kl_median,
        "kl_99": found.kl_99,
        "kl_max": found.kl_max,
        "agreement": found.agreement.mean,
        "agreement_error": found.agreement.error,
        "perplexity": found.perplexity.value,
        "perplexity_error": found.perplexity.error,
        "perplexity_reference": found.reference.value,
        "perplexity_ratio": found.ratio.mean,
        "perplexity_ratio_error": found.ratio.error,
    })
}

/// The answer for people.
fn page(found: &Comparison) -> String {
    let with_error = |share: Share, factor: f64, unit: &str| {
        let (mean, error) = (share.mean * factor, share.error * factor);
        format!("{mean:.5} ± {error:.5}{unit}")
    };
    let rows = [
        ["KL divergence, mean", &with_error(found.kl, 1.0, " nats")],
        ["median", &format!("{:.5}", found.kl_median)],
        ["99 % are below", &format!("{:.5}", found.kl_99)],
        ["worst", &format!("{:.5}", found.kl_max)],
        [
            "same likeliest token",
            &with_error(found.agreement, 100.0, " %"),
        ],
        ["perplexity", &format!("{:.4}", found.perplexity.value)],
        ["of the reference", &format!("{:.4}", found.reference.value)],
        ["ratio", &with_error(found.ratio, 1.0, "")],
        ["tokens", &found.perplexity.tokens.to_string()],
    ];
    let rows = rows.map(|row| row.map(str::to_owned));
    output::table([Align::Left, Align::Left], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use troika_engine::Perplexity;

    #[test]
    fn figures_stand_with_their_errors() {
        let perplexity = |value| Perplexity {
            value,
            error: 0.5,
            tokens: 100,
        };
        let share = |mean, error| Share { mean, error };
        let page = page(&Comparison {
            kl: share(0.0123, 0.001),
            kl_median: 0.004,
            kl_99: 0.2,
            kl_max: 0.9,
            agreement: share(0.97, 0.01),
            perplexity: perplexity(10.5),
            reference: perplexity(10.0),
            ratio: share(1.05, 0.002),
        });
        for line in [
            "KL divergence, mean   0.01230 ± 0.00100 nats",
            "same likeliest token  97.00000 ± 1.00000 %",
            "ratio                 1.05000 ± 0.00200",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
