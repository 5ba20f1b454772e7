//! What requests say beside their text: options, `think`, `format`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use troika_base::ExtraSampling;
use troika_library::Parameters;

use crate::ApiError;
use crate::job::{Format, Sampling};

/// The options of a job, or of a model that is created. Others (`num_gpu`, `use_mmap`, ...) are about
/// another engine's inside, and are passed over as its own server does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    temperature: Option<f32>,
    #[serde(deserialize_with = "whole")]
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    #[serde(deserialize_with = "whole")]
    seed: Option<i64>,
    #[serde(deserialize_with = "whole")]
    num_predict: Option<i64>,
    #[serde(deserialize_with = "whole")]
    num_ctx: Option<i64>,
    stop: Option<Stop>,
    repeat_penalty: Option<f32>,
    #[serde(deserialize_with = "whole")]
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    typical_p: Option<f32>,
    #[serde(deserialize_with = "whole")]
    mirostat: Option<i64>,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of strings")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Options {
    /// The options in the words of the library, which are a job's too.
    ///
    /// # Errors
    /// If a number means nothing. The ranges of those that the sampler takes are its own business.
    pub(super) fn parameters(self) -> Result<Parameters, ApiError> {
        Ok(Parameters {
            temperature: self.temperature,
            // Below 1 keeps all.
            top_k: self
                .top_k
                .map(|n| match n {
                    -1 => Ok(0),
                    n => to_u32("top_k", n),
                })
                .transpose()?,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            // -1 looks back over all of the context.
            repeat_last_n: self
                .repeat_last_n
                .map(|n| match n {
                    -1 => Ok(u32::MAX),
                    n => to_u32("repeat_last_n", n),
                })
                .transpose()?,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            // -1 is none; other negative numbers are seeds like any, by their bits.
            extra: ExtraSampling {
                typical_p: self.typical_p,
                mirostat: self.mirostat,
                mirostat_tau: self.mirostat_tau,
                mirostat_eta: self.mirostat_eta,
                ..ExtraSampling::default()
            },
            seed: self.seed.filter(|&seed| seed != -1).map(|seed| seed as u64),
            max_tokens: match self.num_predict {
                // No limit, and until the context is full: the context ends every answer here.
                None | Some(-2..=0) => None,
                Some(n) => Some(to_u32("num_predict", n)? as usize),
            },
            n_ctx: match self.num_ctx {
                // As if it were not there.
                None | Some(0) => None,
                Some(n) => Some(to_u32("num_ctx", n)? as usize),
            },
            stop: match self.stop {
                None => Vec::new(),
                Some(Stop::One(stop)) => vec![stop],
                Some(Stop::Several(stop)) => stop,
            },
        })
    }
}

fn to_u32(name: &str, n: i64) -> Result<u32, ApiError> {
    u32::try_from(n).map_err(|_| {
        let max = u32::MAX;
        ApiError::invalid(format!("{name} is {n}, and must be from -1 to {max}"))
            .at(format!("options.{name}"))
    })
}

/// A job's sampling. The model's own settings are put below it where the job is taken in.
pub(super) fn sampling(parameters: &Parameters) -> Sampling {
    Sampling {
        temperature: parameters.temperature,
        top_k: parameters.top_k,
        top_p: parameters.top_p,
        min_p: parameters.min_p,
        repeat_penalty: parameters.repeat_penalty,
        repeat_last_n: parameters.repeat_last_n,
        presence_penalty: parameters.presence_penalty,
        frequency_penalty: parameters.frequency_penalty,
        seed: parameters.seed,
        logit_bias: Vec::new(),
        extra: parameters.extra.clone(),
    }
}

/// An error about a job, with the names that the sampler's parameters have in this interface.
pub(super) fn renamed(error: ApiError) -> ApiError {
    const SAMPLER: [&str; 6] = [
        "temperature",
        "top_p",
        "min_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    ];
    let rename = |error: ApiError, field: &&str| error.renamed(field, &format!("options.{field}"));
    SAMPLER
        .iter()
        .chain(ExtraSampling::NAMES)
        .fold(error, rename)
}

/// An integer, also one that is written as `4096.0`, as clients do that know one kind of number.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an integer")]
    enum Number {
        Integer(i64),
        Float(f64),
    }
    /// Beyond it, not all integers are floats.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match Option::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Integer(n)) => Ok(Some(n)),
        Some(Number::Float(x)) if x.fract() == 0.0 && x.abs() <= EXACT_MAX => Ok(Some(x as i64)),
        Some(Number::Float(x)) => Err(D::Error::custom(format_args!("{x} is not an integer"))),
    }
}

/// Whether a model thinks, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Think {
    /// Whether.
    Whether(bool),
    /// It does, and this much: `low`, `medium`, `high`.
    Effort(String),
}

impl<'de> Deserialize<'de> for Think {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WANT: &str = "expected true, false, \"low\", \"medium\" or \"high\"";
        match Value::deserialize(deserializer)? {
            Value::Bool(whether) => Ok(Self::Whether(whether)),
            Value::String(effort) if matches!(&*effort, "low" | "medium" | "high") => {
                Ok(Self::Effort(effort))
            }
            _ => Err(D::Error::custom(WANT)),
        }
    }
}

/// Reads `format`: `"json"`, a schema, or nothing.
pub(super) fn format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Format::Text),
        Value::String(name) if name.is_empty() => Ok(Format::Text),
        Value::String(name) if name == "json" => Ok(Format::JsonObject),
        schema @ Value::Object(_) => Ok(Format::JsonSchema(schema)),
        _ => Err(D::Error::custom("expected \"json\" or a JSON schema")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: Value) -> Result<Parameters, String> {
        let options: Options = serde_json::from_value(value).map_err(|error| error.to_string())?;
        options.parameters().map_err(|error| error.message)
    }

    #[test]
    fn options_are_a_jobs_parameters() {
        let want = Parameters {
            temperature: Some(0.5),
            top_k: Some(0),
            repeat_last_n: Some(u32::MAX),
            max_tokens: Some(7),
            n_ctx: Some(4096),
            seed: Some(42),
            stop: vec!["a".to_owned(), "b".to_owned()],
            extra: ExtraSampling {
                mirostat: Some(2),
                mirostat_tau: Some(4.0),
                ..ExtraSampling::default()
            },
            ..Parameters::default()
        };
        let given = json!({
            "temperature": 0.5, "top_k": -1, "repeat_last_n": -1, "num_predict": 7, "num_ctx": 4096.0, "seed": 42,
            "stop": ["a", "b"], "num_gpu": 99, "use_mmap": true, "mirostat": 2, "mirostat_tau": 4, "typical_p": null, "top_p": null,
        });
        assert_eq!(options(given), Ok(want));
        for unlimited in [-2, -1, 0] {
            let given = json!({"num_predict": unlimited, "seed": -1, "num_ctx": 0, "stop": []});
            assert_eq!(options(given), Ok(Parameters::default()));
        }
        assert_eq!(options(json!({"stop": "x"})).unwrap().stop, ["x"]);
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        for given in [
            json!({"num_ctx": -1}),
            json!({"num_ctx": 1.5}),
            json!({"num_ctx": "4096"}),
            json!({"num_ctx": 1u64 << 40}),
            json!({"num_ctx": 1e300}),
            json!({"num_predict": -3}),
            json!({"top_k": -2}),
            json!({"repeat_last_n": -7}),
            json!({"seed": 1e30}),
            json!({"temperature": "hot"}),
            json!({"stop": [1]}),
            json!({"mirostat": "two"}),
        ] {
            options(given.clone()).expect_err(&given.to_string());
        }
    }
}
