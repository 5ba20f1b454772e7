//! When somebody speaks: Silero's model, a frame at a time, and stretches made of what it says.

use troika_device_npu::exec::{Data, Executor, Tensor};

use super::segments::{Event, Segmenter, VoiceSettings};
use super::{Error, Kind};

/// Samples that the model judges at a time: 32 ms.
const FRAME: usize = 512;

/// Samples of the frame before that it is shown with them.
const CONTEXT: usize = 64;

/// What it remembers from frame to frame.
const STATE: [usize; 3] = [2, 1, 128];

/// Hears in a stream of sound when somebody speaks.
///
/// Sound of [`RATE`](Self::RATE) goes in piece by piece, of any length; what can be said of it comes out at once.
pub struct VoiceActivity {
    model: Box<dyn Executor>,
    segmenter: Segmenter,
    /// The context, and samples that are not a frame yet.
    window: Vec<f32>,
    state: Vec<f32>,
    /// Where the probability and the state are among the outputs.
    outputs: [usize; 2],
    /// Samples that went in.
    taken: u64,
}

impl VoiceActivity {
    /// Samples per second that go in.
    pub const RATE: u32 = 16_000;

    /// With Silero's own settings.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if the model is not of the kind `silero-vad`.
    pub fn new(model: Box<dyn Executor>) -> Result<Self, Error> {
        Self::with_settings(model, &VoiceSettings::default())
    }

    /// With other settings.
    ///
    /// # Errors
    /// As [`Self::new`]; [`Error::Settings`] if they make no sense.
    pub fn with_settings(
        model: Box<dyn Executor>,
        settings: &VoiceSettings,
    ) -> Result<Self, Error> {
        settings.check()?;
        Kind::SileroVad.check(&*model)?;
        let at = |name| super::output(&*model, name);
        Ok(Self {
            outputs: [at("output"), at("stateN")],
            model,
            segmenter: Segmenter::new(settings, Self::RATE, FRAME),
            window: vec![0.0; CONTEXT],
            state: vec![0.0; STATE.iter().product()],
            taken: 0,
        })
    }

    /// The model, as it runs.
    pub fn model(&self) -> &dyn Executor {
        &*self.model
    }

    /// Takes samples from -1 to 1, and tells what was heard.
    ///
    /// # Errors
    /// If the model fails or gives something that is no probability.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Event>, Error> {
        self.taken += samples.len() as u64;
        self.window.extend_from_slice(samples);
        self.frames()
    }

    /// Ends the sound: what is left of it is heard, and open speech ends. After that a new sound may begin.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        if self.window.len() > CONTEXT {
            self.window.resize(CONTEXT + FRAME, 0.0);
            events = self.frames()?;
        }
        self.segmenter.finish(self.taken, &mut events);
        self.forget();
        Ok(events)
    }

    /// Begins a new sound with other settings. What was not finished is forgotten.
    ///
    /// # Errors
    /// [`Error::Settings`] if they make no sense; then nothing has changed.
    pub fn restart(&mut self, settings: &VoiceSettings) -> Result<(), Error> {
        settings.check()?;
        self.segmenter = Segmenter::new(settings, Self::RATE, FRAME);
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.window.clear();
        self.window.resize(CONTEXT, 0.0);
        self.state.fill(0.0);
        self.taken = 0;
    }

    /// Judges all whole frames.
    fn frames(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let mut start = 0;
        while self.window.len() - start >= CONTEXT + FRAME {
            let probability = self.judge(start)?;
            self.segmenter.push(probability, &mut events);
            start += FRAME;
        }
        self.window.drain(..start);
        Ok(events)
    }

    /// The probability of speech in the frame whose context begins here.
    fn judge(&mut self, start: usize) -> Result<f32, Error> {
        let input = self.window[start..start + CONTEXT + FRAME].to_vec();
        let tensor = |shape: &[usize], data| Tensor {
            shape: shape.to_vec(),
            data,
        };
        let outputs = self.model.run(vec![
            ("input", tensor(&[1, CONTEXT + FRAME], Data::F32(input))),
            ("state", tensor(&STATE, Data::F32(self.state.clone()))),
            ("sr", tensor(&[], Data::I64(vec![Self::RATE.into()]))),
        ])?;
        let at_s = self.segmenter.position() as f64 / f64::from(Self::RATE);
        let nonsense = |reason: String| Error::Nonsense { at_s, reason };
        let [probability, state] = super::floats(outputs, self.outputs).map_err(nonsense)?;
        if state.len() != STATE.iter().product::<usize>() {
            return Err(nonsense(format!("a state of {} numbers", state.len())));
        }
        self.state = state;
        match probability[..] {
            [probability] if (0.0..=1.0).contains(&probability) => Ok(probability),
            ref other => Err(nonsense(format!(
                "{:?} where a probability is expected",
                &other[..other.len().min(3)]
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    /// A model that hears speech where the frame's last sample is loud.
    fn loud() -> Box<Fake> {
        Box::new(Fake::silero(|input| input[input.len() - 1].abs()))
    }

    fn ended(events: &[Event]) -> Vec<(u64, u64)> {
        let ended = |event: &Event| match event {
            Event::Ended(segment) => Some((segment.start, segment.end)),
            _ => None,
        };
        events.iter().filter_map(ended).collect()
    }

    fn sound() -> Vec<f32> {
        let mut sound = vec![0.0; 512 * 10];
        sound.extend([0.9; 512 * 20]);
        sound.extend([0.0; 512 * 10 + 100]);
        sound
    }

    #[test]
    fn pieces_of_any_length_make_no_difference() {
        let mut voice = VoiceActivity::new(loud()).unwrap();
        let mut whole = voice.push(&sound()).unwrap();
        whole.append(&mut voice.finish().unwrap());
        assert_eq!(ended(&whole), [(512 * 10 - 480, 512 * 30 + 480)]);
        for length in [1, 100, 511, 512, 513, 5000] {
            let mut pieces = Vec::new();
            // The same again: a sound that ended leaves nothing behind.
            for piece in sound().chunks(length) {
                pieces.append(&mut voice.push(piece).unwrap());
            }
            pieces.append(&mut voice.finish().unwrap());
            assert_eq!(pieces, whole, "{length}");
        }
    }

    #[test]
    fn the_model_is_shown_context_and_its_own_state() {
        let model = Fake::silero(|_| 0.0);
        let seen = model.watch();
        let mut voice = VoiceActivity::new(Box::new(model)).unwrap();
        let ramp: Vec<f32> = (0..1100).map(|n| n as f32 / 2000.0).collect();
        voice.push(&ramp).unwrap();
        voice.finish().unwrap();
        let seen = seen.lock().unwrap();
        let windows: Vec<_> = seen.iter().map(|run| run["input"].clone()).collect();
        assert_eq!(windows.len(), 3);
        assert_eq!(windows[0][..64], [0.0; 64]);
        assert_eq!(windows[0][64..], ramp[..512]);
        assert_eq!(windows[1][..], ramp[448..1024]);
        assert_eq!(windows[2][..140], ramp[960..]);
        assert_eq!(windows[2][140..], [0.0; 436]);
        // The fake counts its runs in the state.
        let states: Vec<_> = seen.iter().map(|run| run["state"][0]).collect();
        assert_eq!(states, [0.0, 1.0, 2.0]);
        assert!(seen.iter().all(|run| run["sr"] == [16_000.0]));
    }

    #[test]
    fn nonsense_is_an_error_with_its_time() {
        for nonsense in [f32::NAN, 1.5, -0.1] {
            let model = Fake::silero(move |input| if input[575] > 0.5 { nonsense } else { 0.0 });
            let mut voice = VoiceActivity::new(Box::new(model)).unwrap();
            let refused = voice.push(&sound()).unwrap_err().to_string();
            assert!(refused.contains("at 0.32 s"), "{refused}");
        }
        assert!(matches!(
            VoiceActivity::new(Box::new(Fake::gtcrn())),
            Err(Error::OtherModel { .. })
        ));
    }

    #[test]
    fn silence_and_nothing_are_no_speech() {
        let mut voice = VoiceActivity::new(loud()).unwrap();
        assert_eq!(voice.finish().unwrap(), []);
        voice.push(&[0.0; 100]).unwrap();
        assert_eq!(
            voice.finish().unwrap(),
            [Event::Frame {
                at: 0,
                probability: 0.0
            }]
        );
    }
}
