//! `POST /api/troika/audio/…`: when somebody speaks in a sound, and the sound without its noise.
//!
//! A sound comes whole; what is found in it goes out as it is found.

use std::io::Cursor;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::{Value, json};
use troika_media::audio::{
    Denoiser, Error, Event, Reader, Resampler, Segment, VoiceActivity, VoiceSettings, to_pcm,
};

use super::ask::{self, Accepts, Params};
use super::outlet::{Failed, Outlet};
use super::shelf::{Kind, Loaded};
use super::told::Running;
use super::{Door, Handled, Order, caller};
use crate::dialect::Dialect;
use crate::job::Caller;
use crate::wire::{ndjson, sse, sse_event};
use crate::{ApiError, ErrorKind};

/// What is heard of one request, in seconds: a file of a megabyte may hold days of silence.
const SECONDS_MAX: u64 = 3600;
/// Samples that are sent on together: half a second.
const PIECE: usize = 8192;
/// Milliseconds in a setting at most.
const MS_MAX: u32 = 600_000;

/// What is heard in a sound.
enum Heard {
    Speech(Spoken),
    /// All of it was heard.
    End(Length),
}

/// A stretch of speech.
#[derive(Clone, Copy, Serialize)]
struct Spoken {
    start_s: f64,
    end_s: f64,
    /// Mean over its frames.
    probability: f32,
}

impl From<Segment> for Spoken {
    fn from(segment: Segment) -> Self {
        let seconds = |samples: u64| samples as f64 / f64::from(VoiceActivity::RATE);
        Self {
            start_s: seconds(segment.start),
            end_s: seconds(segment.end),
            probability: segment.probability,
        }
    }
}

/// How long a sound was.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    /// At the model's rate.
    samples: u64,
    /// Pieces of the file that could not be decoded; silence stands for them.
    damaged: u64,
}

/// Tells when somebody speaks.
pub(super) async fn listen(
    State(door): State<Door>,
    extension: Option<Extension<Caller>>,
    request: Request,
) -> Handled {
    let headers = request.headers().clone();
    let (bytes, params, order) = asked(&door, extension, request, Kind::Activity).await?;
    let settings = settings(&params)?;
    let mut running = door.media.submit(order, move |model, outlet| {
        let Loaded::Voice(voice) = model else {
            return Err(other_model(model.kind(), Kind::Activity));
        };
        hear(voice, &settings, &bytes, outlet)
    })?;
    running.begun().await?;
    let accepts = Accepts::of(&headers);
    if accepts.names("text/event-stream") {
        use futures_util::StreamExt as _;
        let events = lines(running).map(|line| sse_event(line["event"].as_str(), &line));
        return Ok(sse(events));
    }
    if accepts.names("application/x-ndjson") {
        return Ok(ndjson(lines(running)));
    }
    let mut summary = Summary::default();
    while let Some(heard) = running.next().await? {
        summary.note(&heard);
    }
    let mut told = summary.told();
    told["model"] = running.name.clone().into();
    told["segments"] = json!(summary.segments);
    told["troika"] = running.troika();
    Ok(Json(told).into_response())
}

/// Takes the noise out of a sound.
pub(super) async fn denoise(
    State(door): State<Door>,
    extension: Option<Extension<Caller>>,
    request: Request,
) -> Handled {
    let (bytes, _, order) = asked(&door, extension, request, Kind::Denoise).await?;
    let mut running = door.media.submit(order, move |model, outlet| {
        let Loaded::Denoiser(denoiser) = model else {
            return Err(other_model(model.kind(), Kind::Denoise));
        };
        clean(denoiser, &bytes, outlet)
    })?;
    running.begun().await?;
    // The first piece is the header, so its length is known.
    let header = running.next().await?.unwrap_or_default();
    let length = HEADER + data_length(&header);
    let mut response = Response::new(Body::empty());
    running.report_in(&mut response);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let pieces = stream::unfold(Some((Some(header), running)), async |state| {
        let (first, mut running) = state?;
        let next = match first {
            Some(header) => Ok(Some(header)),
            None => running.next().await,
        };
        match next {
            Ok(Some(piece)) => Some((Ok(piece), Some((None, running)))),
            Ok(None) => None,
            // The connection breaks, so that nobody takes half a sound for a whole one.
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    });
    *response.body_mut() = Body::from_stream(pieces);
    Ok(response)
}

/// The sound of a request, its parameters, and the model that it is for.
async fn asked(
    door: &Door,
    extension: Option<Extension<Caller>>,
    request: Request,
    kind: Kind,
) -> Result<(Bytes, Params, Order), ApiError> {
    let wished = door.wished(&caller(extension))?;
    let (bytes, params) = ask::file(request).await?;
    let name = params.text("model").map(str::to_owned);
    let order = door.order(wished, move |shelf| match name {
        Some(name) => shelf.named(&name),
        None => shelf.first(kind),
    });
    Ok((bytes, params, order.await?))
}

fn other_model(is: Kind, wanted: Kind) -> Failed {
    let message = format!(
        "this model is for {}, and one for {} is needed; leave `model` out to have one found",
        is.what(),
        wanted.what()
    );
    ApiError::invalid(message).at("model").into()
}

fn settings(params: &Params) -> Result<VoiceSettings, ApiError> {
    let default = VoiceSettings::default();
    let ms = |name| params.number(name, 0..=MS_MAX);
    let settings = VoiceSettings {
        threshold: params
            .number("threshold", 0.0..=1.0)?
            .unwrap_or(default.threshold),
        negative_threshold: params.number("negative_threshold", 0.0..=1.0)?,
        min_speech_ms: ms("min_speech_ms")?.unwrap_or(default.min_speech_ms),
        min_silence_ms: ms("min_silence_ms")?.unwrap_or(default.min_silence_ms),
        padding_ms: ms("padding_ms")?.unwrap_or(default.padding_ms),
    };
    let checked = settings.check();
    checked.map_err(|error| ApiError::invalid(error.to_string()).at("threshold"))?;
    Ok(settings)
}

/// Goes through a sound at a model's rate.
fn feed(
    bytes: &Bytes,
    rate: u32,
    mut each: impl FnMut(&[f32]) -> Result<(), Failed>,
) -> Result<Length, Failed> {
    let mut reader = Reader::stream("the sound", Cursor::new(bytes.clone())).map_err(failed)?;
    let mut resampler = Resampler::new(reader.rate(), rate).map_err(failed)?;
    let mut samples = 0;
    let mut pass = |block: &[f32]| {
        samples += block.len() as u64;
        if samples > SECONDS_MAX * u64::from(rate) {
            let message = format!("the sound is longer than {SECONDS_MAX} s; send it in parts");
            return Err(ApiError::new(ErrorKind::TooLarge, message).into());
        }
        each(block)
    };
    while let Some(block) = reader.next().map_err(failed)? {
        pass(&resampler.push(block))?;
    }
    pass(&resampler.finish())?;
    if samples == 0 {
        return Err(ApiError::invalid("there is no sound in it: not a single sample").into());
    }
    Ok(Length {
        samples,
        damaged: reader.lost_packets(),
    })
}

/// Hears a sound, on the model's thread.
fn hear(
    voice: &mut VoiceActivity,
    settings: &VoiceSettings,
    bytes: &Bytes,
    outlet: &mut Outlet<Heard>,
) -> Result<(), Failed> {
    voice.restart(settings).map_err(failed)?;
    let tell = |events: Vec<Event>, outlet: &mut Outlet<Heard>| {
        for event in events {
            if let Event::Ended(segment) = event {
                outlet.tell(Heard::Speech(segment.into()))?;
            }
        }
        Ok(())
    };
    let length = feed(bytes, VoiceActivity::RATE, |block| {
        outlet.check()?;
        let events = outlet.timed(|| voice.push(block)).map_err(failed)?;
        tell(events, outlet)
    })?;
    let events = outlet.timed(|| voice.finish()).map_err(failed)?;
    tell(events, outlet)?;
    outlet.tell(Heard::End(length))
}

/// Cleans a sound, on the model's thread. What it tells is a WAV file, piece by piece.
fn clean(denoiser: &mut Denoiser, bytes: &Bytes, outlet: &mut Outlet<Bytes>) -> Result<(), Failed> {
    denoiser.restart();
    // As much comes out as goes in, and a WAV file says first how much: so the sound is read twice.
    let length = feed(bytes, Denoiser::RATE, |_| outlet.check())?;
    // Whether the model works at all is known before anything goes out.
    let mut begun = Some(wav_header(length.samples, Denoiser::RATE));
    let mut ready: Vec<f32> = Vec::with_capacity(2 * PIECE);
    let mut tell = |ready: &mut Vec<f32>, outlet: &mut Outlet<Bytes>| {
        if let Some(header) = begun.take() {
            outlet.tell(header)?;
        }
        let pcm: Vec<u8> = ready
            .drain(..)
            .flat_map(|sample| to_pcm(sample).to_le_bytes())
            .collect();
        match pcm.is_empty() {
            true => Ok(()),
            false => outlet.tell(pcm.into()),
        }
    };
    feed(bytes, Denoiser::RATE, |block| {
        outlet.check()?;
        ready.append(&mut outlet.timed(|| denoiser.push(block)).map_err(failed)?);
        match ready.len() >= PIECE {
            true => tell(&mut ready, outlet),
            false => Ok(()),
        }
    })?;
    ready.append(&mut outlet.timed(|| denoiser.finish()).map_err(failed)?);
    tell(&mut ready, outlet)
}

/// Bytes of a WAV file before its samples.
const HEADER: u64 = 44;

/// The beginning of a WAV file of one channel and 16 bits a sample.
pub(super) fn wav_header(samples: u64, rate: u32) -> Bytes {
    // An hour at most, which fits.
    let data = u32::try_from(samples * 2).unwrap_or(u32::MAX - HEADER as u32);
    let mut header = Vec::with_capacity(HEADER as usize);
    header.extend(b"RIFF");
    header.extend((data + HEADER as u32 - 8).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16_u32.to_le_bytes());
    for number in [1_u16, 1] {
        header.extend(number.to_le_bytes());
    }
    for number in [rate, rate * 2] {
        header.extend(number.to_le_bytes());
    }
    for number in [2_u16, 16] {
        header.extend(number.to_le_bytes());
    }
    header.extend(b"data");
    header.extend(data.to_le_bytes());
    header.into()
}

/// Bytes of samples, by the header.
fn data_length(header: &[u8]) -> u64 {
    let length = header.last_chunk().copied().map(u32::from_le_bytes);
    length.unwrap_or_default().into()
}

/// What is told of a sound as a whole.
#[derive(Default)]
struct Summary {
    segments: Vec<Spoken>,
    length: Length,
}

impl Summary {
    fn note(&mut self, heard: &Heard) {
        match heard {
            Heard::Speech(spoken) => self.segments.push(*spoken),
            Heard::End(length) => self.length = *length,
        }
    }

    fn told(&self) -> Value {
        let speech = self.segments.iter();
        json!({
            "length_s": self.length.samples as f64 / f64::from(VoiceActivity::RATE),
            "speech_s": speech.map(|spoken| spoken.end_s - spoken.start_s).sum::<f64>(),
            "damaged_packets": self.length.damaged,
        })
    }
}

/// What is heard, a line each: `speech` as it is found, and a `summary` or an `error` at last.
fn lines(running: Running<Heard>) -> impl Stream<Item = Value> + Send + 'static {
    let state = Some((running, Summary::default()));
    stream::unfold(state, async |state| {
        let (mut running, mut summary) = state?;
        loop {
            let heard = match running.next().await {
                Ok(Some(heard)) => heard,
                Ok(None) => {
                    let mut told = summary.told();
                    told["event"] = "summary".into();
                    told["model"] = running.name.clone().into();
                    told["segments"] = summary.segments.len().into();
                    told["troika"] = running.troika();
                    return Some((told, None));
                }
                Err(error) => {
                    let mut told = Dialect::OpenAi.body(&error);
                    told["event"] = "error".into();
                    return Some((told, None));
                }
            };
            summary.note(&heard);
            if let Heard::Speech(spoken) = heard {
                let mut told = json!(spoken);
                told["event"] = "speech".into();
                return Some((told, Some((running, summary))));
            }
        }
    })
}

fn failed(error: Error) -> Failed {
    match error {
        Error::Model(_) | Error::Nonsense { .. } | Error::OtherModel { .. } => {
            Failed::Model(error.to_string())
        }
        Error::TooLong { .. } => ApiError::new(ErrorKind::TooLarge, error.to_string()).into(),
        error => ApiError::invalid(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_that_can_be_read() {
        let mut file = wav_header(3, 16_000).to_vec();
        assert_eq!(file.len() as u64, HEADER);
        assert_eq!(data_length(&file), 6);
        file.extend([0, 0x40, 0, 0xc0, 0, 0]);
        let mut reader = Reader::stream("test", Cursor::new(file)).unwrap();
        assert_eq!((reader.rate(), reader.channels()), (16_000, 1));
        assert_eq!(reader.next().unwrap().unwrap(), [0.5, -0.5, 0.0]);
        assert!(reader.next().unwrap().is_none());
    }
}
