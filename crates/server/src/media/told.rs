//! What an answer tells of the work: the header `X-Troika-Placement`, and the object `troika` beside the result.
//!
//! Milliseconds and joules; what nobody knows is null.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde_json::{Value, json};
use troika_scheduler::{Class, JoulesSource};

use super::outlet::{self, Begun, Inlet, Ran, Told};
use crate::observe::{JobIndex, Tally};
use crate::{ApiError, metrics};

/// The object, where the answer is no JSON.
const REPORT: HeaderName = HeaderName::from_static("x-troika-report");

/// Characters of a reason in a header: clients take no header of any length.
const WHY_CHARS_MAX: usize = 200;

/// An errand on its way. Dropping it cancels the errand.
pub(super) struct Running<T> {
    /// The model's.
    pub(super) name: String,
    class: Class,
    inlet: Inlet<T>,
    /// When nobody wants the rest any more.
    due: Option<Instant>,
    tally: Arc<Tally>,
    index: JobIndex,
    begun: Option<Begun>,
    ran: Option<Ran>,
    /// Came with the beginning.
    first: Option<T>,
}

impl<T> Running<T> {
    pub(super) fn new(name: String, class: Class, due: Option<Instant>, inlet: Inlet<T>) -> Self {
        let tally = Tally::current();
        Self {
            name,
            class,
            inlet,
            due,
            index: tally.open(class),
            tally,
            begun: None,
            ran: None,
            first: None,
        }
    }

    /// Waits until it is known who does it and what comes first.
    ///
    /// # Errors
    /// If it is not done.
    pub(super) async fn begun(&mut self) -> Result<(), ApiError> {
        if self.begun.is_none() {
            self.first = self.receive().await?;
        }
        Ok(())
    }

    /// The next piece of the answer; `None` when it is whole.
    ///
    /// # Errors
    /// If it is not done, or not to its end.
    pub(super) async fn next(&mut self) -> Result<Option<T>, ApiError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Option<T>, ApiError> {
        while self.ran.is_none() {
            // The thread looks at the deadline, too, but only when it has a moment.
            let told = match self.due {
                None => self.inlet.recv().await,
                Some(due) => tokio::time::timeout_at(due.into(), self.inlet.recv())
                    .await
                    .map_err(|_| outlet::too_late())?,
            };
            // It ends an errand by a word; without one it has panicked, or the server goes down.
            match told.unwrap_or_else(|| Err(ApiError::internal()))? {
                Told::Begun(begun) => {
                    self.tally.ran(self.index, begun.device.clone());
                    self.begun = Some(begun);
                }
                Told::Piece(piece) => return Ok(Some(piece)),
                Told::Done(ran) => self.done(ran),
            }
        }
        Ok(None)
    }

    fn done(&mut self, ran: Ran) {
        if let Some(joules) = ran.joules {
            self.tally.spend(self.index, joules);
        }
        if let Some(begun) = &self.begun {
            metrics::onnx_done(&metrics::OnnxRun {
                model: &self.name,
                class: self.class,
                device: &begun.device,
                queue: begun.queue,
                run: ran.run,
                joules: ran.joules,
            });
        }
        self.ran = Some(ran);
    }

    /// The object, as far as it is known: null until it has begun.
    pub(super) fn troika(&self) -> Value {
        let Some(begun) = &self.begun else {
            return Value::Null;
        };
        let joules = self.ran.and_then(|ran| ran.joules);
        let source = match joules {
            Some(_) => JoulesSource::Measured,
            None => JoulesSource::Unknown,
        };
        json!({
            "device": begun.device,
            "library": begun.library,
            "lost": begun.lost,
            "class": self.class,
            "queue_ms": ms(begun.queue),
            "load_ms": ms(begun.load),
            "run_ms": self.ran.map(|ran| ms(ran.run)),
            "joules": joules.map(rounded),
            "joules_source": source,
        })
    }

    /// Puts the object into a header.
    pub(super) fn report_in(&self, response: &mut Response) {
        let mut troika = self.troika();
        let lost = troika["lost"].as_array_mut().into_iter().flatten();
        for lost in lost {
            if let Some(why) = lost["why"].as_str() {
                lost["why"] = why.chars().take(WHY_CHARS_MAX).collect::<String>().into();
            }
        }
        if let Ok(value) = HeaderValue::try_from(ascii(&troika.to_string())) {
            response.headers_mut().insert(REPORT, value);
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.tally.close(self.index);
    }
}

/// JSON with other characters escaped: a header has none.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_any_text() {
        let text = ascii(&json!({"why": "größer, 𝄞"}).to_string());
        assert!(text.is_ascii(), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["why"], "größer, 𝄞");
    }
}
