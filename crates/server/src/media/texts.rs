//! Vectors of texts by an encoder in the folder of ONNX models, for the routes of embeddings.

use std::time::Duration;

use troika_media::embed::{Embedding, Error};
use troika_scheduler::{Account, DeviceId, JoulesSource, Phase, Span};

use super::outlet::{Begun, Failed, Ran, Told};
use super::shelf::{Item, Loaded};
use super::{Media, Order, aside, place};
use crate::job::{EmbedJob, Embedded, Prompt, Report, Usage};
use crate::{ApiError, Backend, ErrorKind};

impl Media {
    /// The encoder of this name, if there is one.
    pub(crate) async fn encoder(&self, name: &str) -> Option<Encoder> {
        let (shelf, name) = (self.0.shelf.clone(), name.to_owned());
        let found = aside(move || shelf.encoder(&name)).await.ok()??;
        Some(Encoder {
            media: self.clone(),
            item: found,
        })
    }
}

/// A model that makes vectors of texts.
pub(crate) struct Encoder {
    media: Media,
    item: Item,
}

impl Encoder {
    /// Embeds texts.
    ///
    /// # Errors
    /// If one of them is no text or too long, or the model does not run as wished.
    pub(crate) async fn embed(
        self,
        job: EmbedJob,
        backend: &dyn Backend,
    ) -> Result<Embedded, ApiError> {
        let order = Order {
            place: place(&job.wishes, backend)?,
            item: self.item,
            wishes: job.wishes,
        };
        let dimensions = job.dimensions;
        let texts = job.inputs.into_iter().map(text);
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let mut inlet = self.media.send(order, move |model, outlet| {
            let Loaded::Texts(model) = model else {
                return Err(ApiError::internal().into());
            };
            let mut embeddings = Vec::with_capacity(texts.len());
            for (number, text) in (1..).zip(&texts) {
                outlet.check()?;
                let embedding = outlet.timed(|| model.embed(text));
                embeddings.push(embedding.map_err(|error| failed(number, &error))?);
            }
            outlet.tell(embeddings)
        })?;
        let (mut begun, mut embeddings) = (None, Vec::new());
        loop {
            match inlet
                .recv()
                .await
                .unwrap_or_else(|| Err(ApiError::internal()))?
            {
                Told::Begun(told) => begun = Some(told),
                Told::Piece(piece) => embeddings = piece,
                Told::Done(ran) => {
                    let begun = begun.ok_or_else(ApiError::internal)?;
                    return embedded(embeddings, dimensions, begun, ran);
                }
            }
        }
    }
}

fn text(input: Prompt) -> Result<String, ApiError> {
    match input {
        Prompt::Text(text) => Ok(text),
        _ => {
            let message = "this model takes texts, not tokens";
            Err(ApiError::unsupported(message).at("prompt"))
        }
    }
}

/// The answer, with what is told of embeddings by other models, too.
fn embedded(
    embeddings: Vec<Embedding>,
    dimensions: Option<usize>,
    begun: Begun,
    ran: Ran,
) -> Result<Embedded, ApiError> {
    let tokens = embeddings.iter().map(|embedding| embedding.tokens).sum();
    let vectors = embeddings.into_iter();
    let vectors = vectors.map(|embedding| cut(embedding.vector, dimensions));
    let vectors = vectors.collect::<Result<Vec<_>, _>>()?;
    let run_s = ran.run.as_secs_f64();
    let account = Account {
        spans: vec![Span {
            device: DeviceId(0),
            phase: Phase::Prefill,
            tokens: tokens as u64,
            device_s: run_s,
            joules: ran.joules,
        }],
        queue_s: begun.queue.as_secs_f64(),
        prefill_tokens: tokens as u64,
        prefill_s: run_s,
        joules: ran.joules,
        joules_source: match ran.joules {
            Some(_) => JoulesSource::Measured,
            None => JoulesSource::Unknown,
        },
        ..Account::default()
    };
    let report = Report {
        account,
        devices: vec![begun.device],
        ..Report::default()
    };
    Ok(Embedded {
        vectors,
        usage: Usage {
            prompt_tokens: tokens,
            load: begun.load,
            queue: begun.queue,
            prefill: ran.run,
            decode: Duration::ZERO,
            report: Some(Box::new(report)),
            ..Usage::default()
        },
    })
}

/// A shorter vector of length 1.
fn cut(mut vector: Vec<f32>, dimensions: Option<usize>) -> Result<Vec<f32>, ApiError> {
    let Some(dimensions) = dimensions else {
        return Ok(vector);
    };
    if !(1..=vector.len()).contains(&dimensions) {
        let n_embd = vector.len();
        let message = format!("`dimensions` is {dimensions}; it must be from 1 to {n_embd}");
        return Err(ApiError::invalid(message).at("dimensions"));
    }
    vector.truncate(dimensions);
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    Ok(vector)
}

fn failed(number: usize, error: &Error) -> Failed {
    match error {
        Error::TooLong { .. } => {
            let message = format!("text {number} is too long: {error}");
            ApiError::new(ErrorKind::ContextOverflow, message)
                .at("prompt")
                .into()
        }
        error => Failed::Model(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_cut_to_length_1() {
        let vector = || vec![0.36, 0.48, 0.8];
        assert_eq!(cut(vector(), None).unwrap(), vector());
        let short = cut(vector(), Some(2)).unwrap();
        assert!((short[0] - 0.6).abs() < 1e-6 && (short[1] - 0.8).abs() < 1e-6);
        assert!(cut(vector(), Some(4)).is_err());
    }
}
