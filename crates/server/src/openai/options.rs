//! What chat completions and completions have in common: how tokens are chosen, where answers end, streaming.
//!
//! A request's body is read once for these fields, once for each group of others. Flattening one structure into the other would
//! save the further readings and forget, in an error, which field was wrong.

use serde::Deserialize;
use serde_json::{Map, Value};
use troika_base::ExtraSampling;

use super::format::FormatFields;
use crate::ApiError;
use crate::fields::{Few, Integer, Stay, TextOr, count, required, urgency, within};
use crate::job::{Job, Overflow, Sampling, Wishes};

/// Answers to one prompt at most: each takes a place of its own in the batch and in the KV cache.
pub(super) const N_MAX: i128 = 16;

/// Stop strings: all of them are looked for after each token.
type Stops = Few<String, 16>;

/// The fields. Unknown ones are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Options {
    model: Option<String>,
    n: Option<Integer>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    stop: Option<TextOr<Stops>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<Integer>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<Integer>,
    logit_bias: Option<Map<String, Value>>,
    ignore_eos: Option<bool>,
    truncate_prompt: Option<bool>,
    truncation: Option<String>,
    keep_alive: Option<Stay>,
    pub(super) service_tier: Option<String>,
    priority: Option<Integer>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Options {
    /// Whether the stream ends with the numbers.
    pub(super) fn include_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.and_then(|it| it.include_usage) == Some(true)
    }

    /// A job with all but the prompt and the limits, which the two interfaces read in ways of their own; and the field that
    /// asks for the answer's form.
    ///
    /// # Errors
    /// If a field is out of range.
    pub(super) fn into_job(
        self,
        format: FormatFields,
        extra: ExtraSampling,
    ) -> Result<(Job, String), ApiError> {
        let (format, format_field) = format.into_format()?;
        let job = Job {
            model: required(self.model.clone(), "model")?,
            n: self.n.map_or(Ok(1), |n| count(n, 1..=N_MAX, "n"))?,
            sampling: Sampling {
                extra,
                ..self.sampling()?
            },
            format,
            overflow: overflow(self.truncate_prompt, self.truncation.as_deref())?,
            keep_alive: self.keep_alive.map(Into::into),
            stop: stops(self.stop)?,
            ignore_end: self.ignore_eos == Some(true),
            wishes: Wishes {
                class: urgency(self.service_tier.as_deref(), self.priority)?,
                ..Wishes::default()
            },
            ..Job::default()
        };
        Ok((job, format_field))
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let repeat_penalty = match self.repeat_penalty {
            Some(_) => within(self.repeat_penalty, 0.1..=10.0, "repeat_penalty")?,
            None => within(self.repetition_penalty, 0.1..=10.0, "repetition_penalty")?,
        };
        let penalty = |value, name| within(value, -2.0..=2.0, name);
        let logit_bias = self.logit_bias.iter().flatten();
        Ok(Sampling {
            temperature: within(self.temperature, 0.0..=2.0, "temperature")?,
            top_k: self.top_k.map(top_k).transpose()?,
            top_p: within(self.top_p, 0.0..=1.0, "top_p")?,
            min_p: within(self.min_p, 0.0..=1.0, "min_p")?,
            repeat_penalty,
            repeat_last_n: None,
            presence_penalty: penalty(self.presence_penalty, "presence_penalty")?,
            frequency_penalty: penalty(self.frequency_penalty, "frequency_penalty")?,
            seed: self.seed.map(seed).transpose()?,
            logit_bias: logit_bias.map(bias).collect::<Result<_, _>>()?,
            ..Sampling::default()
        })
    }
}

/// All tokens are 0 to us and -1 to some.
fn top_k(value: Integer) -> Result<u32, ApiError> {
    let top_k: i64 = count(value, -1..=u32::MAX.into(), "top_k")?;
    Ok(u32::try_from(top_k).unwrap_or(0))
}

/// Any 64 bits, with or without a sign.
fn seed(value: Integer) -> Result<u64, ApiError> {
    let seed: i128 = count(value, i64::MIN.into()..=u64::MAX.into(), "seed")?;
    Ok(seed as u64)
}

fn bias((token, bias): (&String, &Value)) -> Result<(u32, f32), ApiError> {
    let place = format!("logit_bias.{token}");
    let wrong = |what| ApiError::invalid(format!("{place} is not {what}")).at(&place);
    let id = token
        .parse()
        .map_err(|_| wrong("the number of a token; logit_bias maps token numbers to numbers"))?;
    let bias = bias
        .as_f64()
        .filter(|bias| (-100.0..=100.0).contains(bias))
        .ok_or_else(|| wrong("a number from -100 to 100"))?;
    Ok((id, bias as f32))
}

fn stops(stop: Option<TextOr<Stops>>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(TextOr::Text(text)) => vec![text],
        Some(TextOr::Other(Few(list))) => list,
    };
    if stops.iter().any(String::is_empty) {
        let message = "stop has an empty string, which would end every answer at once";
        return Err(ApiError::invalid(message).at("stop"));
    }
    Ok(stops)
}

/// # Errors
/// If `truncation` is neither `auto` nor `disabled`.
pub(super) fn overflow(
    truncate_prompt: Option<bool>,
    truncation: Option<&str>,
) -> Result<Overflow, ApiError> {
    match (truncate_prompt, truncation) {
        (Some(true), _) | (None, Some("auto")) => Ok(Overflow::Truncate),
        (_, None | Some("auto" | "disabled")) => Ok(Overflow::Refuse),
        (_, Some(other)) => {
            let message = format!("truncation is `{other}`; it must be auto or disabled");
            Err(ApiError::invalid(message).at("truncation"))
        }
    }
}

/// Tokens of an answer at most. -1 is how some clients say that there is no limit.
///
/// # Errors
/// If it is 0, or less than -1.
pub(super) fn max_tokens(name: &str, value: Integer) -> Result<Option<usize>, ApiError> {
    match value {
        Integer(-1) => Ok(None),
        value => count(value, 1..=u32::MAX.into(), name).map(Some),
    }
}
