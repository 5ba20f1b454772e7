//! Sound into files and streams: 16-bit numbers, one channel.

use std::io::{self, Seek, Write};

use super::Error;

/// The nearest 16-bit number; louder than loudest is loudest.
pub fn to_pcm(sample: f32) -> i16 {
    // A cast cuts off at both ends, and makes silence of what is no number.
    (sample * 32768.0).round() as i16
}

/// Writes samples without any header: 16-bit numbers, little-endian.
///
/// # Errors
/// What the system says.
pub fn write_pcm(to: &mut dyn Write, samples: &[f32]) -> io::Result<()> {
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|&sample| to_pcm(sample).to_le_bytes())
        .collect();
    to.write_all(&bytes)
}

/// A WAV file that grows. It is whole once [`finish`](Self::finish) was called.
pub struct WavWriter<W: Write + Seek> {
    what: String,
    inner: hound::WavWriter<W>,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Begins a file of one channel; `what` is for messages.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(what: &str, to: W, rate: u32) -> Result<Self, Error> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let inner = hound::WavWriter::new(to, spec).map_err(|error| failed(what, error))?;
        Ok(Self {
            what: what.to_owned(),
            inner,
        })
    }

    /// Appends samples from -1 to 1.
    ///
    /// # Errors
    /// If they cannot be written, or the file becomes larger than a WAV file can be, 4 GiB.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Error> {
        for &sample in samples {
            let written = self.inner.write_sample(to_pcm(sample));
            written.map_err(|error| failed(&self.what, error))?;
        }
        Ok(())
    }

    /// Writes the lengths into the header.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        let finished = self.inner.finalize();
        finished.map_err(|error| failed(&self.what, error))
    }
}

fn failed(what: &str, error: hound::Error) -> Error {
    let source = match error {
        hound::Error::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    };
    Error::Write {
        what: what.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{Reader, read};
    use super::*;

    #[test]
    fn numbers_are_rounded_and_cut_off() {
        for (sample, want) in [
            (0.0, 0),
            (1.0, i16::MAX),
            (-1.0, i16::MIN),
            (-7.0, i16::MIN),
            (0.6 / 32768.0, 1),
            (-0.6 / 32768.0, -1),
            (f32::NAN, 0),
        ] {
            assert_eq!(to_pcm(sample), want, "{sample}");
        }
        let mut bytes = Vec::new();
        write_pcm(&mut bytes, &[1.0 / 128.0, -1.0]).unwrap();
        assert_eq!(bytes, [0, 1, 0, 0x80]);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let samples: Vec<f32> = (-100..100).map(|n| n as f32 / 128.0).collect();
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new("test", &mut file, 12_345).unwrap();
        writer.write(&samples).unwrap();
        writer.finish().unwrap();
        let sound = read(
            Reader::stream("test", Cursor::new(file.into_inner())).unwrap(),
            1,
        );
        let sound = sound.unwrap();
        let clamped: Vec<f32> = samples
            .iter()
            .map(|&sample| f32::from(to_pcm(sample)) / 32768.0)
            .collect();
        assert_eq!((sound.rate, sound.samples), (12_345, clamped));
    }

    #[test]
    fn a_full_disk_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Full {
            fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
                Ok(0)
            }
        }
        let refused = WavWriter::new("out.wav", Full, 16_000).err();
        let Some(Error::Write { what, source }) = refused else {
            panic!("a full disk took a header");
        };
        assert_eq!(
            (&*what, source.kind()),
            ("out.wav", io::ErrorKind::StorageFull)
        );
    }
}
