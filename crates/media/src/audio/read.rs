//! Sound out of files and streams, block by block: WAV, FLAC, MP3, Ogg Vorbis, and PCM without a header.
//!
//! All channels become one, their mean; the rate stays (see [`Resampler`](super::Resampler)). Memory is taken for what
//! was decoded, never for what a header promises.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Failure;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::Error;

/// Rates that occur, and beyond which a header is not believed, in Hz.
pub const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Channels beyond which a header is not believed: a decoder holds a block of each.
pub const CHANNELS_MAX: usize = 64;

/// Samples of a packet that cannot be decoded, at most: no codec has larger ones.
const PACKET_MAX: u64 = 1 << 16;

/// Frames that are read at once where there is no container. 20 ms at 16 kHz: a live stream is heard as it comes.
const RAW_FRAMES: usize = 320;

/// A piece of sound, one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// From -1 to 1.
    pub samples: Vec<f32>,
}

impl Sound {
    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }
}

/// Reads all of a sound, of `seconds_max` at most.
///
/// # Errors
/// If it cannot be read, is longer, or has nothing in it.
pub fn read(mut reader: Reader, seconds_max: u64) -> Result<Sound, Error> {
    let samples_max = seconds_max.saturating_mul(reader.rate().into());
    let mut samples = Vec::new();
    while let Some(block) = reader.next_block()? {
        samples.extend_from_slice(block);
        if samples.len() as u64 > samples_max {
            return Err(Error::TooLong {
                what: reader.what,
                limit_s: seconds_max,
            });
        }
    }
    if samples.is_empty() {
        return Err(Error::Empty { what: reader.what });
    }
    Ok(Sound {
        rate: reader.rate,
        samples,
    })
}

/// Sound that is read block by block.
pub struct Reader {
    what: String,
    rate: u32,
    channels: usize,
    length: Option<u64>,
    source: Source,
    /// What the source gave, channel beside channel.
    interleaved: Vec<f32>,
    /// The same as one channel.
    block: Vec<f32>,
    /// Samples given so far.
    given: u64,
    lost_packets: u64,
}

enum Source {
    Container(Container),
    Pcm {
        source: Box<dyn Read + Send>,
        bytes: Vec<u8>,
    },
    /// It broke, and nothing more comes.
    Over,
}

struct Container {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read or is no sound that is known.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let what = path.display().to_string();
        let read = |source| Error::Read {
            what: what.clone(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        if file.metadata().map_err(read)?.is_dir() {
            return Err(read(io::ErrorKind::IsADirectory.into()));
        }
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
            hint.with_extension(extension);
        }
        Self::probe(what, Box::new(file), &hint)
    }

    /// Opens a stream that begins like a file of one of the formats. `what` is for messages.
    ///
    /// # Errors
    /// If it cannot be read or is no sound that is known.
    pub fn stream(what: &str, source: impl Read + Send + Sync + 'static) -> Result<Self, Error> {
        let source = Box::new(ReadOnlySource::new(source));
        Self::probe(what.to_owned(), source, &Hint::new())
    }

    /// Reads samples without any header: signed 16-bit numbers, little-endian, channel beside channel.
    ///
    /// # Errors
    /// If the rate or the number of channels cannot be.
    pub fn pcm(
        what: &str,
        source: impl Read + Send + 'static,
        rate: u32,
        channels: usize,
    ) -> Result<Self, Error> {
        check(what, rate, channels)?;
        let source = Source::Pcm {
            source: Box::new(source),
            bytes: Vec::new(),
        };
        Ok(Self::new(what.to_owned(), rate, channels, None, source))
    }

    fn new(what: String, rate: u32, channels: usize, length: Option<u64>, source: Source) -> Self {
        Self {
            what,
            rate,
            channels,
            length,
            source,
            interleaved: Vec::new(),
            block: Vec::new(),
            given: 0,
            lost_packets: 0,
        }
    }

    fn probe(what: String, source: Box<dyn MediaSource>, hint: &Hint) -> Result<Self, Error> {
        let stream = MediaSourceStream::new(source, Default::default());
        let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
        let (container, rate, channels, length) = caught(&what, 0.0, || {
            let probed = symphonia::default::get_probe().probe(hint, stream, format, metadata);
            let format = probed.map_err(|failure| unknown(&what, failure))?;
            Container::start(&what, format)
        })?;
        let source = Source::Container(container);
        Ok(Self::new(what, rate, channels, length, source))
    }

    /// Samples per second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Channels that become one.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How many samples it is to have, by its header; `None` if that says nothing. Good for a progress bar alone.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Packets that could not be decoded so far; silence of their length stands for them.
    pub fn lost_packets(&self) -> u64 {
        self.lost_packets
    }

    /// The next samples of all channels' mean, from -1 to 1; `None` at the end. A file that is cut short ends there.
    ///
    /// # Errors
    /// If it cannot be read, or does not go on as it began.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>, Error> {
        loop {
            self.interleaved.clear();
            let is_more = match &mut self.source {
                Source::Over => false,
                Source::Pcm { source, bytes } => {
                    let more = next_pcm(source, bytes, self.channels, &mut self.interleaved);
                    more.map_err(|source| Error::Read {
                        what: self.what.clone(),
                        source,
                    })?
                }
                Source::Container(_) => self.next_packet()?,
            };
            if !is_more {
                return Ok(None);
            }
            if !self.interleaved.is_empty() {
                break;
            }
        }
        mix(&self.interleaved, self.channels, &mut self.block);
        self.given += self.block.len() as u64;
        Ok(Some(&self.block))
    }

    /// Decodes a packet, if there is another one. What is too damaged ends the sound.
    fn next_packet(&mut self) -> Result<bool, Error> {
        let Source::Container(mut container) = std::mem::replace(&mut self.source, Source::Over)
        else {
            return Ok(false);
        };
        let at_s = self.given as f64 / f64::from(self.rate);
        let what = self.what.clone();
        let is_more = caught(&what, at_s, || self.decode(&mut container, at_s))?;
        self.source = Source::Container(container);
        Ok(is_more)
    }

    fn decode(&mut self, container: &mut Container, at_s: f64) -> Result<bool, Error> {
        let packet = match container.format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(false),
            Err(Failure::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(false);
            }
            Err(Failure::IoError(source)) => {
                let what = self.what.clone();
                return Err(Error::Read { what, source });
            }
            // A stream of several, one after the other, as radio stations send them.
            Err(Failure::ResetRequired) => return self.restart(container, at_s).map(|()| true),
            Err(failure) => return Err(damaged(&self.what, at_s, failure.to_string())),
        };
        if packet.track_id != container.track {
            return Ok(true);
        }
        match container.decoder.decode(&packet) {
            Ok(decoded) => {
                let spec = decoded.spec();
                let have = (spec.rate(), spec.channels().count());
                if have != (self.rate, self.channels) && decoded.frames() > 0 {
                    return Err(self.changed(at_s, have));
                }
                decoded.copy_to_vec_interleaved(&mut self.interleaved);
            }
            Err(Failure::DecodeError(_) | Failure::IoError(_)) => self.lose(&packet),
            Err(failure) => return Err(damaged(&self.what, at_s, failure.to_string())),
        }
        Ok(true)
    }

    /// Silence for what cannot be decoded, so that what comes after it is heard at its time.
    fn lose(&mut self, packet: &Packet) {
        self.lost_packets += 1;
        let frames = packet.dur.get().min(PACKET_MAX) as usize;
        self.interleaved.resize(frames * self.channels, 0.0);
    }

    /// Goes on with the stream that follows in the same container.
    fn restart(&self, container: &mut Container, at_s: f64) -> Result<(), Error> {
        let (decoder, track, rate, channels, _) = decoder(&self.what, &*container.format)?;
        if (rate, channels) != (self.rate, self.channels) {
            return Err(self.changed(at_s, (rate, channels)));
        }
        (container.decoder, container.track) = (decoder, track);
        Ok(())
    }

    fn changed(&self, at_s: f64, (rate, channels): (u32, usize)) -> Error {
        let (old_rate, old_channels) = (self.rate, self.channels);
        let reason = format!(
            "it changes from {old_rate} Hz and {old_channels} channels to {rate} Hz and {channels}"
        );
        damaged(&self.what, at_s, reason)
    }
}

impl Container {
    fn start(
        what: &str,
        format: Box<dyn FormatReader>,
    ) -> Result<(Self, u32, usize, Option<u64>), Error> {
        let (decoder, track, rate, channels, length) = decoder(what, &*format)?;
        let container = Self {
            format,
            decoder,
            track,
        };
        Ok((container, rate, channels, length))
    }
}

type Started = (Box<dyn AudioDecoder>, u32, u32, usize, Option<u64>);

/// A decoder for a container's sound, with track, rate, channels and length.
fn decoder(what: &str, format: &dyn FormatReader) -> Result<Started, Error> {
    let refuse = |reason: &str| Error::Unsupported {
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    let track = format.default_track(TrackType::Audio);
    let track = track.ok_or_else(|| refuse("there is no sound in it"))?;
    let parameters = track.codec_params.as_ref().and_then(|known| known.audio());
    let parameters = parameters.ok_or_else(|| refuse("its codec is not known"))?;
    let rate = parameters.sample_rate;
    let rate = rate.ok_or_else(|| refuse("its header does not tell the rate"))?;
    let channels = parameters
        .channels
        .as_ref()
        .map(|channels| channels.count());
    let channels = channels.ok_or_else(|| refuse("its header does not tell the channels"))?;
    check(what, rate, channels)?;
    let decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|failure| refuse(&format!("its codec cannot be decoded: {failure}")))?;
    Ok((decoder, track.id, rate, channels, track.num_frames))
}

/// Whether a header, or who calls, names numbers that can be.
fn check(what: &str, rate: u32, channels: usize) -> Result<(), Error> {
    let refuse = |reason| Error::Unsupported {
        what: what.to_owned(),
        reason,
    };
    if !RATES.contains(&rate) {
        let (low, high) = (RATES.start(), RATES.end());
        return Err(refuse(format!(
            "its rate is {rate} Hz, and {low} to {high} Hz are taken"
        )));
    }
    if !(1..=CHANNELS_MAX).contains(&channels) {
        return Err(refuse(format!(
            "it has {channels} channels, and 1 to {CHANNELS_MAX} are taken"
        )));
    }
    Ok(())
}

fn unknown(what: &str, failure: Failure) -> Error {
    let what = what.to_owned();
    match failure {
        Failure::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            Error::Read { what, source }
        }
        Failure::IoError(_) => Error::Format {
            what,
            reason: "it ends before any of their headers".to_owned(),
        },
        failure => Error::Format {
            what,
            reason: failure.to_string(),
        },
    }
}

fn damaged(what: &str, at_s: f64, reason: String) -> Error {
    Error::Damaged {
        what: what.to_owned(),
        at_s,
        reason,
    }
}

/// Runs a decoder, which may panic on a hostile file. What it was working on is not used again after that.
fn caught<T>(what: &str, at_s: f64, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(damaged(what, at_s, "its decoder gave up on it".to_owned())))
}

/// What has arrived of a stream of 16-bit numbers; half a frame is kept for the next call. Whether there was more.
fn next_pcm(
    source: &mut dyn Read,
    bytes: &mut Vec<u8>,
    channels: usize,
    out: &mut Vec<f32>,
) -> io::Result<bool> {
    let kept = bytes.len();
    bytes.resize(kept + RAW_FRAMES * channels * 2, 0);
    let read = loop {
        match source.read(&mut bytes[kept..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    bytes.truncate(kept + *read.as_ref().unwrap_or(&0));
    if read? == 0 {
        return Ok(false);
    }
    let whole = bytes.len() - bytes.len() % (channels * 2);
    let number = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0;
    out.extend(bytes[..whole].chunks_exact(2).map(number));
    bytes.drain(..whole);
    Ok(true)
}

/// The mean of all channels. What is no number is silence: a model would remember it for ever.
fn mix(interleaved: &[f32], channels: usize, out: &mut Vec<f32>) {
    let sound = |&sample: &f32| match sample.is_finite() {
        true => sample.clamp(-1.0, 1.0),
        false => 0.0,
    };
    let mean = |frame: &[f32]| frame.iter().map(sound).sum::<f32>() / channels as f32;
    out.clear();
    out.extend(interleaved.chunks_exact(channels).map(mean));
}

#[cfg(test)]
mod tests;
