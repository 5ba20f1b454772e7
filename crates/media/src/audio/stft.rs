//! Sound to spectra and back, frame by frame: windows of 512 samples, half of each shared with the next.
//!
//! As `torch.stft` and `torch.istft` do it with `center=True`: the first window stands over the first sample, and what it
//! would see before it is the sound mirrored. The window is the root of Hann's, so that going there and back multiplies by
//! Hann's own, and two of those side by side add up to 1.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Samples of a window.
pub(super) const WINDOW: usize = 512;

/// Samples from one window to the next.
pub(super) const HOP: usize = WINDOW / 2;

/// Bands of a spectrum.
pub(super) const BANDS: usize = WINDOW / 2 + 1;

/// Changes the spectra of a stream, and puts the stream together again.
pub(super) struct Stft {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    /// Samples from the beginning of the next window on.
    waiting: Vec<f32>,
    /// The second half of what the last window gave; the first half of the next is added to it.
    overlap: Vec<f32>,
    time: Vec<f32>,
    bands: Vec<Complex32>,
    has_begun: bool,
    /// Whether the next window's first half lies before the sound.
    is_first: bool,
}

impl Stft {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let hann = |n: usize| {
            let turn = n as f64 / WINDOW as f64 * std::f64::consts::TAU;
            (0.5 - 0.5 * turn.cos()).sqrt() as f32
        };
        Self {
            forward: planner.plan_fft_forward(WINDOW),
            inverse: planner.plan_fft_inverse(WINDOW),
            window: (0..WINDOW).map(hann).collect(),
            waiting: Vec::new(),
            overlap: vec![0.0; HOP],
            time: vec![0.0; WINDOW],
            bands: vec![Complex32::default(); BANDS],
            has_begun: false,
            is_first: true,
        }
    }

    /// Takes samples, shows every window's spectrum to `change`, and appends what is ready to `out`.
    ///
    /// # Errors
    /// That of `change`.
    pub(super) fn push<E>(
        &mut self,
        samples: &[f32],
        out: &mut Vec<f32>,
        change: impl FnMut(&mut [Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.waiting.extend_from_slice(samples);
        // The mirror begins beside the first sample, which is not mirrored itself.
        if !self.has_begun && self.waiting.len() > HOP {
            self.begin();
        }
        self.windows(out, change)
    }

    /// Gives the rest of the stream, and perhaps some samples more. Silence follows the last sample.
    ///
    /// # Errors
    /// That of `change`.
    pub(super) fn finish<E>(
        &mut self,
        out: &mut Vec<f32>,
        change: impl FnMut(&mut [Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.has_begun {
            self.waiting.resize(HOP + 1, 0.0);
            self.begin();
        }
        let whole = self.waiting.len().next_multiple_of(HOP) + HOP;
        self.waiting.resize(whole, 0.0);
        self.windows(out, change)
    }

    fn begin(&mut self) {
        let mirror: Vec<f32> = self.waiting[1..=HOP].iter().rev().copied().collect();
        self.waiting.splice(..0, mirror);
        self.has_begun = true;
    }

    fn windows<E>(
        &mut self,
        out: &mut Vec<f32>,
        mut change: impl FnMut(&mut [Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        const FITS: &str = "the buffers have the lengths of the plan. This is a bug.";
        let mut start = 0;
        while self.has_begun && self.waiting.len() - start >= WINDOW {
            let samples = &self.waiting[start..start + WINDOW];
            for (time, (sample, window)) in
                std::iter::zip(&mut self.time, std::iter::zip(samples, &self.window))
            {
                *time = sample * window;
            }
            self.forward
                .process(&mut self.time, &mut self.bands)
                .expect(FITS);
            change(&mut self.bands)?;
            // The sum of a real signal has no imaginary part at its ends; a model does not know that.
            self.bands[0].im = 0.0;
            self.bands[BANDS - 1].im = 0.0;
            self.inverse
                .process(&mut self.bands, &mut self.time)
                .expect(FITS);
            for (time, window) in std::iter::zip(&mut self.time, &self.window) {
                *time *= window / WINDOW as f32;
            }
            let (first, second) = self.time.split_at(HOP);
            if !self.is_first {
                out.extend(std::iter::zip(&self.overlap, first).map(|(old, new)| old + new));
            }
            self.overlap.copy_from_slice(second);
            self.is_first = false;
            start += HOP;
        }
        self.waiting.drain(..start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(samples: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..samples).map(|_| next()).collect()
    }

    fn unchanged(_: &mut [Complex32]) -> Result<(), ()> {
        Ok(())
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        for length in [0, 1, 255, 256, 257, 258, 512, 5000, 5120] {
            let sound = noise(length);
            for piece in [1, 100, 512, 10_000] {
                let mut stft = Stft::new();
                let mut out = Vec::new();
                for samples in sound.chunks(piece) {
                    stft.push(samples, &mut out, unchanged).unwrap();
                }
                stft.finish(&mut out, unchanged).unwrap();
                assert!(out.len() >= length, "{length}: {}", out.len());
                let worst = std::iter::zip(&sound, &out).map(|(a, b)| (a - b).abs());
                let worst = worst.fold(0.0, f32::max);
                assert!(worst < 1e-6, "{length} by {piece}: {worst}");
            }
        }
    }

    #[test]
    fn a_tone_is_in_its_band() {
        let tone = |n: usize| (n as f32 * 20.0 / WINDOW as f32 * std::f32::consts::TAU).cos();
        let tone: Vec<f32> = (0..2048).map(tone).collect();
        let mut seen = Vec::new();
        let mut keep = |bands: &mut [Complex32]| -> Result<(), ()> {
            seen.push(bands.to_vec());
            Ok(())
        };
        Stft::new().push(&tone, &mut Vec::new(), &mut keep).unwrap();
        // The mirror of a cosine at its top is the cosine: the first window differs in nothing from the third.
        assert_eq!(seen.len(), 8);
        let sum: f32 = Stft::new().window.iter().sum();
        for bands in [&seen[0], &seen[2]] {
            assert!((bands[20].norm() - sum / 2.0).abs() < 0.1, "{}", bands[20]);
            assert!(bands[40].norm() < 1.0);
        }
    }

    #[test]
    fn a_sample_is_held_back_for_a_window_at_most() {
        let sound = noise(4000);
        let (mut stft, mut out) = (Stft::new(), Vec::new());
        for (n, &sample) in sound.iter().enumerate() {
            stft.push(&[sample], &mut out, unchanged).unwrap();
            assert!(n + 1 - out.len() <= WINDOW, "{n}: {}", out.len());
        }
    }

    #[test]
    fn errors_get_through() {
        let refuse = |_: &mut [Complex32]| Err("no");
        let refused = Stft::new().push(&noise(512), &mut Vec::new(), refuse);
        assert_eq!(refused, Err("no"));
    }
}
