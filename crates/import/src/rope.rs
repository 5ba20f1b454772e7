//! Rotary embedding: what `config.json` says in one of three ways, as GGUF says it.

use std::f64::consts::PI;

use serde_json::Value;
use troika_gguf::Metadata;

use crate::Error;
use crate::config::{Config, refuse};

/// What a rotation adds to the file beside metadata: a tensor of factors for each name.
pub(crate) type Factors = Vec<(&'static str, Vec<f32>)>;

/// The parameters of one rotation, wherever the configuration has them.
struct Parameters<'c> {
    config: &'c Config,
    /// `rope_parameters` of newer files, or `rope_scaling` of older ones.
    own: Option<&'c Value>,
}

impl<'c> Parameters<'c> {
    /// Those of layers of a type, where types differ; Gemma 3 has two.
    fn new(config: &'c Config, layers: &str) -> Self {
        let own = config.get("rope_parameters").or(config.get("rope_scaling"));
        let own = own.map(|own| own.get(layers).unwrap_or(own));
        Self { config, own }
    }

    fn get(&self, key: &str) -> Option<&'c Value> {
        let own = self.own.and_then(|own| own.get(key));
        own.filter(|value| !value.is_null())
            .or(self.config.get(key))
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.get(key)?
            .as_f64()
            .filter(|value| value.is_finite() && *value > 0.0)
    }

    fn need(&self, key: &str) -> Result<f64, Error> {
        let given = self.get(key).unwrap_or(&Value::Null);
        self.float(key)
            .ok_or_else(|| refuse(key, given, "expected a positive number"))
    }

    fn kind(&self) -> &'c str {
        let kind = self
            .own
            .and_then(|own| own.get("rope_type").or(own.get("type")));
        kind.and_then(Value::as_str).unwrap_or("default")
    }

    fn factors(&self, key: &str, n: usize) -> Result<Vec<f32>, Error> {
        let given = self.get(key).unwrap_or(&Value::Null);
        let factor = |value: &Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let factors: Option<Vec<f64>> = given
            .as_array()
            .and_then(|all| all.iter().map(factor).collect());
        match factors {
            Some(factors) if factors.len() == n => {
                Ok(factors.into_iter().map(|factor| factor as f32).collect())
            }
            _ => Err(refuse(
                key,
                given,
                &format!("expected {n} positive numbers"),
            )),
        }
    }
}

/// Writes the keys `{architecture}.rope.*`, and returns tensors that belong to them.
pub(crate) fn write(
    config: &Config,
    architecture: &str,
    head_dim: u32,
    metadata: &mut Metadata,
) -> Result<Factors, Error> {
    let all = Parameters::new(config, "full_attention");
    let base = all.float("rope_theta").unwrap_or(10_000.0);
    let part = all.float("partial_rotary_factor").unwrap_or(1.0);
    let n_rot = (f64::from(head_dim) * part) as u32;
    let mut add = |name: &str, value: troika_gguf::Value| {
        metadata.insert(format!("{architecture}.rope.{name}"), value);
    };
    add("freq_base", (base as f32).into());
    add("dimension_count", n_rot.into());
    if let Some(windowed) = all
        .config
        .get("rope_parameters")
        .and_then(|p| p.get("sliding_attention"))
    {
        let kind = windowed
            .get("rope_type")
            .and_then(Value::as_str)
            .unwrap_or("default");
        let expected = "layers with a window are turned without stretching";
        config.expect(kind == "default", "rope_parameters", expected)?;
    }
    if architecture == "gemma3" {
        let windowed = Parameters::new(config, "sliding_attention");
        let local = config.opt_float("rope_local_base_freq")?;
        let local = local.or(windowed.float("rope_theta")).unwrap_or(10_000.0);
        add("freq_base_swa", (local as f32).into());
    }
    let pairs = n_rot as usize / 2;
    match all.kind() {
        "default" => Ok(Factors::new()),
        "linear" => {
            add("scaling.type", "linear".into());
            add("scaling.factor", (all.need("factor")? as f32).into());
            Ok(Factors::new())
        }
        "yarn" => {
            add("scaling.type", "yarn".into());
            add("scaling.factor", (all.need("factor")? as f32).into());
            let trained = all.need("original_max_position_embeddings")?;
            add("scaling.original_context_length", (trained as u32).into());
            for (key, usual) in [("beta_fast", 32.0), ("beta_slow", 1.0)] {
                let is_usual = all.float(key).is_none_or(|value| value == usual);
                config.expect(
                    is_usual,
                    "rope_parameters",
                    "expected YaRN with its usual betas",
                )?;
            }
            Ok(Factors::new())
        }
        "llama3" => Ok(vec![("rope_freqs.weight", llama3(&all, base, pairs)?)]),
        "longrope" | "su" => {
            let trained = all.need("original_max_position_embeddings")?;
            let longest = all.need("max_position_embeddings")?;
            add("scaling.original_context_length", (trained as u32).into());
            let times = longest / trained;
            let magnitude = match all.float("attention_factor") {
                Some(magnitude) => magnitude,
                None if times <= 1.0 => 1.0,
                None => (1.0 + times.ln() / trained.ln()).sqrt(),
            };
            add("scaling.attn_factor", (magnitude as f32).into());
            Ok(vec![
                (
                    "rope_factors_long.weight",
                    all.factors("long_factor", pairs)?,
                ),
                (
                    "rope_factors_short.weight",
                    all.factors("short_factor", pairs)?,
                ),
            ])
        }
        other => Err(refuse(
            "rope_type",
            &Value::from(other),
            "expected default, linear, yarn, llama3 or longrope",
        )),
    }
}

/// Llama 3.1's factors: pairs that turn often within the trained context are left alone, those that turn seldom are slowed
/// down by `factor`, and a ramp lies between.
fn llama3(rope: &Parameters<'_>, base: f64, pairs: usize) -> Result<Vec<f32>, Error> {
    let factor = rope.need("factor")?;
    let (low, high) = (
        rope.need("low_freq_factor")?,
        rope.need("high_freq_factor")?,
    );
    let trained = rope.need("original_max_position_embeddings")?;
    let of_pair = |pair: usize| {
        let turn = 2.0 * PI * base.powf(pair as f64 / pairs as f64);
        // Turns within the trained context: from `high` on many, up to `low` few.
        let smooth = ((trained / turn - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    Ok((0..pairs).map(of_pair).collect())
}
