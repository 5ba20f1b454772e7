//! From any rate to the model's, as a stream. The result begins where the sound begins: the filter's delay is taken off.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::Error;

/// Samples that go through the filter at once, at least; what exactly, the two rates decide.
const CHUNK: usize = 512;

/// Samples that come out of it at once, at least: 20 ms at 16 kHz. A shorter filter would take away more of what lies just
/// below half the rate, and Silero's model hears that.
const CHUNK_OUT: usize = 320;

/// Changes the rate of a stream of samples.
pub struct Resampler {
    from: u32,
    to: u32,
    /// None where nothing is to be done.
    filter: Option<Fft<f32>>,
    /// Samples that do not fill the filter yet.
    waiting: Vec<f32>,
    /// What the filter gave last.
    filtered: Vec<f32>,
    /// Samples at the beginning that the filter makes up.
    delay: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// Between two rates in Hz.
    ///
    /// # Errors
    /// If one of them is 0.
    pub fn new(from: u32, to: u32) -> Result<Self, Error> {
        let filter = match from == to {
            true => None,
            false => {
                let chunk = chunk(from, to);
                let filter = Fft::new(from as usize, to as usize, chunk, 1, FixedSync::Both);
                let failed = |error| Error::Settings(format!("{from} Hz to {to} Hz: {error}"));
                Some(filter.map_err(failed)?)
            }
        };
        let delay = filter.as_ref().map_or(0, |filter| filter.output_delay());
        let longest = filter
            .as_ref()
            .map_or(0, |filter| filter.output_frames_max());
        Ok(Self {
            from,
            to,
            filter,
            waiting: Vec::new(),
            filtered: vec![0.0; longest],
            delay,
            taken: 0,
            given: 0,
        })
    }

    /// Seconds for which a sample may be held back.
    pub fn latency_s(&self) -> f64 {
        let Some(filter) = &self.filter else {
            return 0.0;
        };
        filter.input_frames_next() as f64 / f64::from(self.from)
            + filter.output_delay() as f64 / f64::from(self.to)
    }

    /// Takes samples, and gives those that are ready.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        self.taken += samples.len() as u64;
        if self.filter.is_none() {
            return samples.to_vec();
        }
        self.waiting.extend_from_slice(samples);
        self.drain()
    }

    /// Ends the stream. Together with all before, as many samples were given as the new rate has for the same time.
    pub fn finish(&mut self) -> Vec<f32> {
        let Some(filter) = &self.filter else {
            return Vec::new();
        };
        let all = (self.taken * u64::from(self.to)).div_ceil(u64::from(self.from));
        let chunk = filter.input_frames_next();
        let before = self.given;
        let mut rest = Vec::new();
        while before + (rest.len() as u64) < all {
            // Silence pushes what is left through the filter.
            self.waiting
                .resize(self.waiting.len().next_multiple_of(chunk).max(chunk), 0.0);
            rest.append(&mut self.drain());
        }
        rest.truncate((all - before) as usize);
        self.given = all;
        rest
    }

    /// Filters what has arrived, in whole chunks.
    fn drain(&mut self) -> Vec<f32> {
        let mut out = Vec::new();
        let Some(filter) = &mut self.filter else {
            return out;
        };
        let chunk = filter.input_frames_next();
        let mut used = 0;
        while self.waiting.len() - used >= chunk {
            const FITS: &str = "the buffers have the sizes that the filter names. This is a bug.";
            let input =
                SequentialSlice::new(&self.waiting[used..used + chunk], 1, chunk).expect(FITS);
            let longest = self.filtered.len();
            let mut output = SequentialSlice::new_mut(&mut self.filtered, 1, longest).expect(FITS);
            let (_, written) = filter
                .process_into_buffer(&input, &mut output, None)
                .expect(FITS);
            let skipped = self.delay.min(written);
            self.delay -= skipped;
            out.extend_from_slice(&self.filtered[skipped..written]);
            used += chunk;
        }
        self.waiting.drain(..used);
        self.given += out.len() as u64;
        out
    }
}

/// A length of which both rates make a whole number. Both are even, since half of them is the filter's delay, and half a
/// sample could not be taken off.
fn chunk(from: u32, to: u32) -> usize {
    let divisor = greatest_common_divisor(from, to).max(1);
    let unit = |rate: u32| (rate / divisor).max(1) as usize;
    let units = usize::max(CHUNK.div_ceil(unit(from)), CHUNK_OUT.div_ceil(unit(to)));
    units.next_multiple_of(2) * unit(from)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone that swells and fades, so that a shift would be seen.
    fn tone(rate: u32, samples: usize) -> Vec<f32> {
        let at = |n: usize| {
            let t = n as f64 / f64::from(rate);
            (t * 440.0 * std::f64::consts::TAU).sin() * (t * 3.0).sin().powi(2) * 0.5
        };
        (0..samples).map(|n| at(n) as f32).collect()
    }

    #[test]
    fn a_tone_stays_where_it_was_whatever_the_pieces() {
        for from in [
            8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 44_101, 192_000,
        ] {
            let input = tone(from, from as usize + 7);
            let want_len = (input.len() as u64 * 16_000).div_ceil(from.into()) as usize;
            let whole = {
                let mut resampler = Resampler::new(from, 16_000).unwrap();
                let mut out = resampler.push(&input);
                out.append(&mut resampler.finish());
                out
            };
            assert_eq!(whole.len(), want_len, "{from}");
            let want = tone(16_000, want_len);
            let worst = std::iter::zip(&whole, &want)
                .skip(400)
                .take(want_len - 800)
                .map(|(have, want)| (have - want).abs())
                .fold(0.0, f32::max);
            assert!(worst < 2e-3, "{from}: {worst}");

            let mut pieces = Vec::new();
            let mut resampler = Resampler::new(from, 16_000).unwrap();
            for piece in input.chunks(333) {
                pieces.append(&mut resampler.push(piece));
            }
            pieces.append(&mut resampler.finish());
            assert_eq!(pieces, whole, "{from}");
        }
    }

    #[test]
    fn a_few_samples_and_none_are_fine() {
        for n in [0, 1, 5] {
            let mut resampler = Resampler::new(48_000, 16_000).unwrap();
            let mut out = resampler.push(&vec![0.1; n]);
            out.append(&mut resampler.finish());
            assert_eq!(out.len(), n.div_ceil(3));
        }
        assert!(Resampler::new(0, 16_000).is_err());
    }

    #[test]
    fn no_sample_is_held_back_for_longer_than_is_said() {
        for (from, want_ms) in [(16_000, 0.0), (48_000, 30.0), (44_100, 30.0)] {
            let mut resampler = Resampler::new(from, 16_000).unwrap();
            let latency_s = resampler.latency_s();
            assert!(
                (latency_s * 1e3 - want_ms).abs() < 0.1,
                "{from}: {latency_s}"
            );
            let (mut taken, mut given) = (0, 0);
            while taken < from {
                given += resampler.push(&[0.5; 10]).len();
                taken += 10;
                let behind = f64::from(taken) / f64::from(from) - given as f64 / 16_000.0;
                assert!(behind <= latency_s + 1e-3, "{from}: {behind} s behind");
            }
        }
    }

    #[test]
    fn what_the_new_rate_cannot_hold_is_taken_out() {
        let at = |n: usize| (n as f64 / 48_000.0 * 11_000.0 * std::f64::consts::TAU).sin() as f32;
        let input: Vec<f32> = (0..48_000).map(at).collect();
        let mut resampler = Resampler::new(48_000, 16_000).unwrap();
        let out = resampler.push(&input);
        let loudest = out[400..]
            .iter()
            .fold(0.0f32, |loudest, x| loudest.max(x.abs()));
        assert!(loudest < 1e-3, "an alias of 11 kHz: {loudest}");
    }
}
