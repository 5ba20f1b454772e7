//! What is wrong with models: above all, whether the shape has as many parameters as the row says.

use super::super::Catalogue;
use super::super::model::{Linear, Model};
use super::{OfRow, Report};

/// How far the parameters of the shape may be from the row's: norms and biases, which the shape does not tell of.
const PARAMS_TOLERANCE: f64 = 0.03;
/// The same for a mixture's active ones, which vendors round, and count with and without the embedding.
const ACTIVE_TOLERANCE: f64 = 0.5;

pub(super) fn check(catalogue: &Catalogue, report: &mut Report) {
    let models = || catalogue.models.with_files();
    report.shared_names(models().map(|(file, row)| (file, &row.name, &row.aliases)));
    for (file, model) in models() {
        let mut of = report.of(file, &model.name);
        of.source(&model.source);
        shape(model, &mut of);
        parameters(model, &mut of);
    }
}

fn shape(model: &Model, of: &mut OfRow<'_>) {
    for (field, value, max) in [
        ("n_layer", model.n_layer, 512),
        ("n_embd", model.n_embd, 65_536),
        ("n_head", model.n_head, 1_024),
        ("n_head_kv", model.n_head_kv, model.n_head),
        ("head_dim", model.head_dim, 1_024),
        ("n_ff", model.n_ff, 262_144),
        ("n_vocab", model.n_vocab, 1_000_000),
        ("n_ctx", model.n_ctx, 16_777_216),
    ] {
        of.range(field, f64::from(value), 1.0, f64::from(max));
    }
    of.expect(
        model.n_head_kv == 0 || model.n_head.is_multiple_of(model.n_head_kv),
        || {
            format!(
                "{} query heads cannot share {} key/value heads",
                model.n_head, model.n_head_kv
            )
        },
    );
    of.expect(model.active_b.is_none() || model.experts.is_some(), || {
        "it has active_b, but no experts".to_owned()
    });
    if let Some(experts) = model.experts {
        of.expect((1..=experts.count).contains(&experts.active), || {
            format!(
                "{} of {} experts cannot be active",
                experts.active, experts.count
            )
        });
        of.expect(experts.dense_layers < model.n_layer, || {
            "all of its layers are dense".to_owned()
        });
    }
    if let Some(window) = model.attention {
        of.range(
            "attention.window",
            f64::from(window.window),
            16.0,
            f64::from(model.n_ctx),
        );
    }
    if let Some(Linear {
        full_every,
        full_layers,
        ..
    }) = model.linear
    {
        of.expect(full_every.is_some() != full_layers.is_some(), || {
            "linear has either full_every or full_layers".to_owned()
        });
        of.expect(
            full_layers.is_none_or(|layers| layers < model.n_layer),
            || "linear has no layers".to_owned(),
        );
    }
}

fn parameters(model: &Model, of: &mut OfRow<'_>) {
    of.range("params_b", model.params_b, 0.001, 10_000.0);
    of.range("active_b", model.active_b, 0.001, model.params_b);
    let check = |computed: Option<f64>, stated: f64, tolerance: f64| {
        computed.filter(|computed| (computed / stated - 1.0).abs() > tolerance)
    };
    if let Some(computed) = check(model.computed_params_b(), model.params_b, PARAMS_TOLERANCE) {
        of.say(format!(
            "its shape has {computed:.3} · 10⁹ parameters, not {}",
            model.params_b
        ));
    }
    if let Some(active_b) = model.active_b
        && let Some(computed) = check(model.computed_active_b(), active_b, ACTIVE_TOLERANCE)
    {
        of.say(format!(
            "a token meets {computed:.3} · 10⁹ parameters of its shape, not {active_b}"
        ));
    }
}
