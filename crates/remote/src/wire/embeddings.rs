//! Embeddings: one request, one body that comes whole. Anthropic's interface has none.

use serde::Deserialize;
use serde_json::{Map, Value};
use troika_job::{ApiError, EmbedJob, Overflow, Prompt};

use super::{Ask, Counts, Dialect, Fault};
use crate::config::Api;

/// The request that a job of embedding is.
///
/// # Errors
/// [`ErrorKind::Unsupported`](troika_job::ErrorKind::Unsupported) if the interface has no words for something in it.
pub(crate) fn embedding(to: &Dialect<'_>, model: &str, job: &EmbedJob) -> Result<Ask, ApiError> {
    let texts = job.inputs.iter().map(|input| match input {
        Prompt::Text(text) => Ok(Value::from(text.as_str())),
        _ => Err(to.lacks("embeddings of this machine's tokens", "input")),
    });
    let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    set("model", model.into());
    set("input", texts.into());
    if let Some(dimensions) = job.dimensions {
        set("dimensions", dimensions.into());
    }
    let path = match to.api {
        Api::Openai => {
            set("encoding_format", "float".into());
            "/embeddings"
        }
        Api::Ollama => {
            set("truncate", (job.overflow == Overflow::Truncate).into());
            "/api/embed"
        }
        Api::Anthropic => return Err(to.lacks("embeddings", "input")),
    };
    Ok(Ask {
        path,
        body: body.into(),
        answers: 0..1,
    })
}

/// Either interface's body; each passes over the other's fields.
#[derive(Deserialize)]
struct Body {
    data: Option<Vec<Item>>,
    usage: Option<Usage>,
    embeddings: Option<Vec<Vec<f32>>>,
    prompt_eval_count: Option<usize>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<usize>,
}

/// The vectors of `n` texts, scaled to length 1, and what was counted.
///
/// # Errors
/// If they are not `n` vectors of one length.
pub(crate) fn embedded(body: &[u8], n: usize) -> Result<(Vec<Vec<f32>>, Counts), Fault> {
    let garbled = |what: String| Fault::Garbled(format!("its answer {what}"));
    let body: Body =
        serde_json::from_slice(body).map_err(|_| garbled("is no list of vectors".to_owned()))?;
    let mut vectors = match (body.data, body.embeddings) {
        (Some(mut items), _) => {
            items.sort_by_key(|it| it.index);
            items.into_iter().map(|it| it.embedding).collect()
        }
        (None, Some(vectors)) => vectors,
        (None, None) => return Err(garbled("is no list of vectors".to_owned())),
    };
    if vectors.len() != n {
        let found = vectors.len();
        return Err(garbled(format!("has {found} vectors for {n} texts")));
    }
    let length = vectors.first().map_or(0, Vec::len);
    if vectors.iter().any(|it| it.len() != length || it.is_empty()) {
        return Err(garbled("has vectors of several lengths".to_owned()));
    }
    vectors.iter_mut().for_each(|it| scale(it));
    let counts = Counts {
        prompt: body
            .usage
            .and_then(|it| it.prompt_tokens)
            .or(body.prompt_eval_count),
        // Nothing is written.
        completion: Some(0),
        ..Counts::default()
    };
    Ok((vectors, counts))
}

/// To length 1, as this machine's own are.
fn scale(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 && square.is_finite() {
        let scale = square.sqrt().recip() as f32;
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_both_interfaces_are_read() {
        let openai = br#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":[0.0,2.0]},{"object":"embedding","index":0,"embedding":[3.0,4.0]}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let ollama = br#"{"model":"m","embeddings":[[0.6,0.8],[0.0,1.0]],"total_duration":1,"prompt_eval_count":5}"#;
        for body in [&openai[..], &ollama[..]] {
            let (vectors, counts) = embedded(body, 2).unwrap();
            assert_eq!(counts.prompt, Some(5));
            for (got, want) in vectors.iter().flatten().zip([0.6, 0.8, 0.0, 1.0]) {
                assert!((got - want).abs() < 1e-6, "{vectors:?}");
            }
        }
    }

    #[test]
    fn what_is_not_asked_for_is_refused() {
        for body in [
            "{}",
            "[]",
            r#"{"embeddings":[[1.0]]}"#,
            r#"{"embeddings":[[1.0],[]]}"#,
        ] {
            assert!(
                matches!(embedded(body.as_bytes(), 2), Err(Fault::Garbled(_))),
                "{body}"
            );
        }
    }
}
