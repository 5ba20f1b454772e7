//! Files of every format against what they were made from, and files that are not what they seem.

use std::io::Cursor;
use std::path::PathBuf;

use super::*;

/// What the chirps in `tests/sounds` were made from: from 200 Hz upwards, left at 0.6 and right at 0.2.
const CHIRP_RATE: u32 = 22_050;
const CHIRP_LENGTH: usize = 11_025;

fn chirp(n: usize) -> f32 {
    let t = n as f64 / f64::from(CHIRP_RATE);
    let turns = 200.0 * t + 600.0 * t * t;
    (0.4 * (turns * std::f64::consts::TAU).sin()) as f32
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sounds")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn stream(bytes: &[u8]) -> Result<Reader, Error> {
    Reader::stream("stdin", Cursor::new(bytes.to_vec()))
}

fn all(mut reader: Reader) -> Result<Vec<f32>, Error> {
    let mut samples = Vec::new();
    while let Some(block) = reader.next_block()? {
        samples.extend_from_slice(block);
    }
    Ok(samples)
}

#[track_caller]
fn check_chirp(samples: &[f32], tolerance: f64) {
    let count = samples.len().min(CHIRP_LENGTH);
    let mut noise = 0.0;
    for (n, &sample) in samples.iter().enumerate().take(count) {
        noise += f64::from(sample - chirp(n)).powi(2);
    }
    let noise = (noise / count as f64).sqrt();
    assert!(noise < tolerance, "{noise}");
}

/// A WAV file of 16-bit numbers, and the place of its length.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> (Vec<u8>, usize) {
    let mut file = Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    let bytes = file.into_inner();
    let length_at = bytes.len() - samples.len() * 2 - 4;
    (bytes, length_at)
}

#[test]
fn every_format_is_what_it_was_made_from() {
    for (name, tolerance) in [
        ("chirp.flac", 1e-4),
        ("chirp.ogg", 0.01),
        ("chirp.mp3", 0.01),
    ] {
        let reader = Reader::open(&file(name)).unwrap();
        assert_eq!(
            (reader.rate(), reader.channels()),
            (CHIRP_RATE, 2),
            "{name}"
        );
        let sound = read(reader, 10).unwrap();
        assert_eq!(sound.samples.len(), CHIRP_LENGTH, "{name}");
        assert!((sound.seconds() - 0.5).abs() < 1e-9);
        check_chirp(&sound.samples, tolerance);
        // And as a stream, whose name says nothing.
        let streamed = all(stream(&bytes(name)).unwrap()).unwrap();
        check_chirp(&streamed, tolerance);
        assert!(
            streamed.len().abs_diff(CHIRP_LENGTH) < 2_000,
            "{name}: {}",
            streamed.len()
        );
    }
}

#[test]
fn wav_has_many_kinds_of_numbers() {
    for (bits, sample_format) in [
        (8, hound::SampleFormat::Int),
        (16, hound::SampleFormat::Int),
        (24, hound::SampleFormat::Int),
        (32, hound::SampleFormat::Int),
        (32, hound::SampleFormat::Float),
    ] {
        let mut written = Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 3,
            sample_rate: CHIRP_RATE,
            bits_per_sample: bits,
            sample_format,
        };
        let mut writer = hound::WavWriter::new(&mut written, spec).unwrap();
        for n in 0..CHIRP_LENGTH {
            for share in [1.5, 1.0, 0.5] {
                let sample = chirp(n) * share;
                match sample_format {
                    hound::SampleFormat::Float => writer.write_sample(sample).unwrap(),
                    hound::SampleFormat::Int => {
                        let whole = (f64::from(sample) * 2f64.powi(i32::from(bits) - 1)) as i32;
                        writer.write_sample(whole).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        let samples = all(stream(&written.into_inner()).unwrap()).unwrap();
        assert_eq!(samples.len(), CHIRP_LENGTH, "{bits} {sample_format:?}");
        check_chirp(&samples, if bits == 8 { 0.01 } else { 1e-4 });
    }
}

#[test]
fn a_stream_may_not_know_its_length() {
    let samples: Vec<i16> = (0..5000).collect();
    let (whole, length_at) = wav(16_000, 1, &samples);
    for (riff, length) in [(u32::MAX, u32::MAX), (0x8000_0024, 0x8000_0000)] {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&riff.to_le_bytes());
        bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        let read = all(stream(&bytes).unwrap()).unwrap();
        assert_eq!(read.len(), 5000, "{length:#x}");
        assert_eq!(read[4999], 4999.0 / 32768.0);
    }
}

#[test]
fn a_file_that_is_cut_short_ends_there() {
    let (whole, length_at) = wav(16_000, 2, &[1000; 10_000]);
    let cut = &whole[..length_at + 4 + 6001];
    let read = all(stream(cut).unwrap()).unwrap();
    assert_eq!(read, [1000.0 / 32768.0; 1500]);
    for name in ["chirp.flac", "chirp.mp3"] {
        let whole = bytes(name);
        let read = all(stream(&whole[..whole.len() * 3 / 4]).unwrap()).unwrap();
        assert!(
            (1000..CHIRP_LENGTH).contains(&read.len()),
            "{name}: {}",
            read.len()
        );
        check_chirp(&read, 0.01);
    }
}

#[test]
fn what_is_no_sound_is_refused() {
    for noise in [&b""[..], b"RIFF", b"hello", &[0; 5000], &[b'x'; 3_000_000]] {
        let refused = stream(noise).err().map(|error| error.to_string());
        let refused = refused.unwrap_or_else(|| panic!("{} bytes were sound", noise.len()));
        assert!(refused.starts_with("stdin is not sound"), "{refused}");
        assert!(
            refused.contains("WAV, FLAC, MP3 and Ogg Vorbis"),
            "{refused}"
        );
    }
    let refused = Reader::open(&file("no-such.wav")).err().unwrap();
    assert!(matches!(refused, Error::Read { .. }), "{refused}");
    let refused = Reader::open(&file("")).err().unwrap();
    assert!(matches!(refused, Error::Read { .. }), "{refused}");
    let (empty, _) = wav(16_000, 1, &[]);
    let refused = stream(&empty).and_then(|reader| read(reader, 1)).err();
    assert!(matches!(refused, Some(Error::Empty { .. })), "{refused:?}");
}

#[test]
fn a_header_is_not_believed() {
    let (whole, _) = wav(16_000, 1, &[7; 100]);
    // Channels, rate, bytes of a frame, bits of a number.
    for (at, value) in [
        (22, &0u16.to_le_bytes()[..]),
        (22, &u16::MAX.to_le_bytes()),
        (24, &0u32.to_le_bytes()),
        (24, &u32::MAX.to_le_bytes()),
        (24, &999u32.to_le_bytes()),
        (34, &0u16.to_le_bytes()),
        (34, &u16::MAX.to_le_bytes()),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let refused = stream(&bytes).and_then(all);
        assert!(
            refused.is_err(),
            "{value:?} at {at}: {:?}",
            refused.map(|all| all.len())
        );
    }
}

/// Bytes changed anywhere make errors or other sounds, and nothing worse.
#[test]
fn damage_does_no_harm() {
    let mut state = 7u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let (wav, _) = wav(16_000, 2, &[1000; 4000]);
    let files = [
        wav,
        bytes("chirp.flac"),
        bytes("chirp.ogg"),
        bytes("chirp.mp3"),
    ];
    let (mut read, mut refused) = (0, 0);
    for whole in &files {
        for round in 0..60 {
            let mut bytes = whole.clone();
            // Half of the rounds strike the header.
            let reach = if round % 2 == 0 { 100 } else { bytes.len() };
            for _ in 0..1 + round % 7 {
                bytes[next(reach)] = next(256) as u8;
            }
            match stream(&bytes).and_then(all) {
                Ok(samples) => {
                    assert!(samples.iter().all(|sample| (-1.0..=1.0).contains(sample)));
                    assert!(samples.len() < 100_000, "{}", samples.len());
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 20 && refused > 5, "{read} read, {refused} refused");
}

#[test]
fn what_cannot_be_decoded_is_silence_of_its_length() {
    let mut damaged = bytes("chirp.flac");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0x55);
    let mut reader = stream(&damaged).unwrap();
    let mut samples = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        samples.extend_from_slice(block);
    }
    assert!(reader.lost_packets() > 0 || samples.len() < CHIRP_LENGTH);
}

#[test]
fn bare_numbers_need_a_rate() {
    let numbers: Vec<i16> = vec![100, 300, -200, -400, 7];
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let samples = all(Reader::pcm("stdin", Cursor::new(bytes.clone()), 8_000, 2).unwrap());
    // The last frame is not whole.
    assert_eq!(samples.unwrap(), [200.0 / 32768.0, -300.0 / 32768.0]);
    let refused = |rate, channels| Reader::pcm("stdin", Cursor::new(Vec::new()), rate, channels);
    assert!(refused(0, 1).is_err() && refused(8_000, 0).is_err() && refused(8_000, 65).is_err());

    /// Gives a byte at a time, as a slow pipe may.
    struct Drops(Cursor<Vec<u8>>);
    impl Read for Drops {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let end = to.len().min(1);
            self.0.read(&mut to[..end])
        }
    }
    let dropped = Reader::pcm("stdin", Drops(Cursor::new(bytes)), 8_000, 2).unwrap();
    assert_eq!(all(dropped).unwrap(), [200.0 / 32768.0, -300.0 / 32768.0]);
}

#[test]
fn what_is_no_number_is_silence() {
    let mut out = Vec::new();
    mix(&[f32::NAN, 0.5, f32::INFINITY, -0.5, 9.0, 1.0], 2, &mut out);
    assert_eq!(out, [0.25, -0.25, 1.0]);
}

#[test]
fn longer_than_agreed_is_refused() {
    let (two_seconds, _) = wav(8_000, 1, &[1; 16_000]);
    assert!(read(stream(&two_seconds).unwrap(), 2).is_ok());
    let refused = read(stream(&two_seconds).unwrap(), 1).unwrap_err();
    assert!(
        matches!(refused, Error::TooLong { limit_s: 1, .. }),
        "{refused}"
    );
}
