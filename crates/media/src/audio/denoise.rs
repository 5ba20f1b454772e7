//! Speech without the noise around it: GTCRN, a window of the spectrum at a time.

use realfft::num_complex::Complex32;
use troika_device_npu::exec::{Data, Executor, Tensor};

use super::stft::{BANDS, HOP, Stft, WINDOW};
use super::{Error, Kind};

/// What the model remembers from window to window: going in, coming out, and its shape.
const CACHES: [(&str, &str, &[usize]); 3] = [
    ("conv_cache", "conv_cache_out", &[2, 1, 16, 16, 33]),
    ("tra_cache", "tra_cache_out", &[2, 3, 1, 1, 16]),
    ("inter_cache", "inter_cache_out", &[2, 1, 33, 16]),
];

/// Takes noise out of a stream of sound.
///
/// Sound of [`RATE`](Self::RATE) goes in piece by piece, of any length, and as much comes out, [`LATENCY`](Self::LATENCY)
/// samples later at most.
pub struct Denoiser {
    stft: Stft,
    network: Network,
    /// Samples that went in, and that came out.
    taken: u64,
    given: u64,
}

struct Network {
    model: Box<dyn Executor>,
    caches: [Vec<f32>; 3],
    /// Where the spectrum and the caches are among the outputs.
    outputs: [usize; 4],
    windows: u64,
}

impl Denoiser {
    /// Samples per second that go in and come out.
    pub const RATE: u32 = 16_000;

    /// Samples for which one may be held back: a window, 32 ms.
    pub const LATENCY: usize = WINDOW;

    /// With a model of the kind `gtcrn`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if it is not one.
    pub fn new(model: Box<dyn Executor>) -> Result<Self, Error> {
        Kind::Gtcrn.check(&*model)?;
        let at = |name| super::output(&*model, name);
        let outputs = [at("enh"), at(CACHES[0].1), at(CACHES[1].1), at(CACHES[2].1)];
        let network = Network {
            model,
            caches: empty_caches(),
            outputs,
            windows: 0,
        };
        Ok(Self {
            stft: Stft::new(),
            network,
            taken: 0,
            given: 0,
        })
    }

    /// The model, as it runs.
    pub fn model(&self) -> &dyn Executor {
        &*self.network.model
    }

    /// Takes samples from -1 to 1, and gives those that are ready.
    ///
    /// # Errors
    /// If the model fails or gives something that is no number.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>, Error> {
        self.taken += samples.len() as u64;
        let mut out = Vec::new();
        let network = &mut self.network;
        self.stft
            .push(samples, &mut out, |bands| network.run(bands))?;
        self.given += out.len() as u64;
        Ok(out)
    }

    /// Ends the sound and gives what is left of it. After that a new sound may begin.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<f32>, Error> {
        let left = self.taken - self.given;
        let mut out = Vec::new();
        if left > 0 {
            let network = &mut self.network;
            self.stft.finish(&mut out, |bands| network.run(bands))?;
        }
        out.truncate(left as usize);
        self.restart();
        Ok(out)
    }

    /// Begins a new sound. What was not finished is forgotten.
    pub fn restart(&mut self) {
        self.stft = Stft::new();
        self.network.caches = empty_caches();
        (self.network.windows, self.taken, self.given) = (0, 0, 0);
    }
}

impl Network {
    /// Replaces a spectrum by what is speech in it.
    fn run(&mut self, bands: &mut [Complex32]) -> Result<(), Error> {
        let tensor = |shape: &[usize], numbers| Tensor {
            shape: shape.to_vec(),
            data: Data::F32(numbers),
        };
        let mix = bands.iter().flat_map(|band| [band.re, band.im]).collect();
        let mut inputs = vec![("mix", tensor(&[1, BANDS, 1, 2], mix))];
        for ((name, _, shape), cache) in std::iter::zip(CACHES, &self.caches) {
            inputs.push((name, tensor(shape, cache.clone())));
        }
        let outputs = self.model.run(inputs)?;

        let at_s = (self.windows * HOP as u64) as f64 / f64::from(Denoiser::RATE);
        let nonsense = |reason| Error::Nonsense { at_s, reason };
        let [speech, caches @ ..] = super::floats(outputs, self.outputs).map_err(nonsense)?;
        let lengths = std::iter::zip(&caches, &self.caches).all(|(a, b)| a.len() == b.len());
        if speech.len() != 2 * BANDS || !lengths {
            let reason = format!("{} numbers for a spectrum of {BANDS} bands", speech.len());
            return Err(nonsense(reason));
        }
        if !speech.iter().all(|number| number.is_finite()) {
            return Err(nonsense("a spectrum that holds no numbers".to_owned()));
        }
        for (band, parts) in std::iter::zip(bands, speech.chunks_exact(2)) {
            *band = Complex32::new(parts[0], parts[1]);
        }
        self.caches = caches;
        self.windows += 1;
        Ok(())
    }
}

/// What it remembers of nothing.
fn empty_caches() -> [Vec<f32>; 3] {
    CACHES.map(|(_, _, shape)| vec![0.0; shape.iter().product()])
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    fn sound(samples: usize) -> Vec<f32> {
        (0..samples).map(|n| (n as f32 * 0.1).sin() * 0.3).collect()
    }

    #[test]
    fn as_much_comes_out_as_went_in() {
        // The fake changes nothing; so what comes out is what went in.
        let mut denoiser = Denoiser::new(Box::new(Fake::gtcrn())).unwrap();
        for length in [0, 1, 300, 512, 4001] {
            for piece in [1, 160, 10_000] {
                let sound = sound(length);
                let mut out = Vec::new();
                for samples in sound.chunks(piece) {
                    out.append(&mut denoiser.push(samples).unwrap());
                }
                out.append(&mut denoiser.finish().unwrap());
                assert_eq!(out.len(), length);
                let worst = std::iter::zip(&sound, &out).map(|(a, b)| (a - b).abs());
                assert!(worst.fold(0.0, f32::max) < 1e-6, "{length} by {piece}");
            }
        }
    }

    #[test]
    fn the_model_is_given_what_it_remembered() {
        let model = Fake::gtcrn();
        let seen = model.watch();
        let mut denoiser = Denoiser::new(Box::new(model)).unwrap();
        denoiser.push(&sound(1024)).unwrap();
        denoiser.finish().unwrap();
        denoiser.push(&sound(600)).unwrap();
        let seen = seen.lock().unwrap();
        // The fake counts its runs in each cache; a new sound begins with nothing.
        for (name, _, shape) in CACHES {
            let counts: Vec<_> = seen.iter().map(|run| run[name][0]).collect();
            assert_eq!(counts, [0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0], "{name}");
            assert_eq!(seen[0][name].len(), shape.iter().product::<usize>());
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut model = Fake::gtcrn();
        model.spoil = Some(f32::NAN);
        let mut denoiser = Denoiser::new(Box::new(model)).unwrap();
        let refused = denoiser.push(&sound(1024)).unwrap_err();
        assert!(refused.to_string().contains("no numbers"), "{refused}");
        let refused = Denoiser::new(Box::new(Fake::silero(|_| 0.0))).err();
        assert!(matches!(refused, Some(Error::OtherModel { .. })));
    }
}
