//! From a probability for each frame to stretches of speech: thresholds with hysteresis, and no stretch or pause that is
//! too short to be one. No model here.
//!
//! The rules are those that Silero documents for its model (`get_speech_timestamps`), but told as the sound goes by. The
//! one difference: where pauses shorter than twice the padding are asked for, a stretch takes all of its padding before
//! the next one begins, while Silero shares the pause out evenly.

use serde::{Deserialize, Serialize};

use super::Error;

/// What counts as speech. The defaults are Silero's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VoiceSettings {
    /// Speech begins at this probability.
    pub threshold: f32,
    /// And ends below this one; by default 0.15 less, and 0.01 at least.
    pub negative_threshold: Option<f32>,
    /// Shorter stretches are dropped, in milliseconds.
    pub min_speech_ms: u32,
    /// Shorter pauses are passed over, in milliseconds.
    pub min_silence_ms: u32,
    /// Added before and after each stretch, in milliseconds.
    pub padding_ms: u32,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self {
            threshold: 0.5,
            negative_threshold: None,
            min_speech_ms: 250,
            min_silence_ms: 100,
            padding_ms: 30,
        }
    }
}

impl VoiceSettings {
    /// Below this probability speech ends.
    pub fn lower(&self) -> f32 {
        let lower = self.negative_threshold;
        lower.unwrap_or((self.threshold - 0.15).max(0.01))
    }

    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// [`Error::Settings`] that names the first one that does not.
    pub fn check(&self) -> Result<(), Error> {
        if !(0.0..=1.0).contains(&self.threshold) || self.threshold == 0.0 {
            return Err(Error::Settings(format!(
                "the threshold is {}, and a probability above 0 and up to 1 is needed",
                self.threshold
            )));
        }
        // The default may lie above a tiny threshold; what is given may not.
        if let Some(lower) = self.negative_threshold
            && !(0.0..=self.threshold).contains(&lower)
        {
            return Err(Error::Settings(format!(
                "the negative threshold is {lower}, and has to lie between 0 and the threshold, {}",
                self.threshold
            )));
        }
        Ok(())
    }
}

/// A stretch of speech.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// Its first sample, with padding.
    pub start: u64,
    /// The first sample after it, with padding.
    pub end: u64,
    /// Mean over its frames, without padding.
    pub probability: f32,
}

/// Something that was heard. Positions are samples from the beginning of the sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A frame was looked at.
    Frame {
        /// Its first sample.
        at: u64,
        /// That somebody speaks in it.
        probability: f32,
    },
    /// Somebody speaks, long enough to be sure of it. [`Event::Ended`] follows.
    Began {
        /// The first sample of it, with padding.
        at: u64,
    },
    /// It is over.
    Ended(Segment),
}

/// Makes stretches out of frames.
#[derive(Clone, Debug)]
pub(super) struct Segmenter {
    threshold: f32,
    lower: f32,
    frame: u64,
    min_speech: u64,
    min_silence: u64,
    padding: u64,
    /// Where the next frame begins.
    position: u64,
    /// Where the last stretch ended, with padding.
    last_end: u64,
    open: Option<Open>,
}

/// A stretch that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    start: u64,
    is_told: bool,
    heard: Mean,
    /// A pause that may become its end: where it begins, and what was heard before it.
    pause: Option<(u64, Mean)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f32) {
        self.sum += f64::from(value);
        self.count += 1;
    }

    fn value(self) -> f32 {
        (self.sum / f64::from(self.count.max(1))) as f32
    }
}

impl Segmenter {
    /// For frames of so many samples at a rate in Hz.
    pub(super) fn new(settings: &VoiceSettings, rate: u32, frame: usize) -> Self {
        let samples = |ms: u32| u64::from(ms) * u64::from(rate) / 1000;
        Self {
            threshold: settings.threshold,
            lower: settings.lower(),
            frame: frame as u64,
            min_speech: samples(settings.min_speech_ms),
            min_silence: samples(settings.min_silence_ms),
            padding: samples(settings.padding_ms),
            position: 0,
            last_end: 0,
            open: None,
        }
    }

    /// Takes the next frame's probability.
    pub(super) fn push(&mut self, probability: f32, events: &mut Vec<Event>) {
        let at = self.position;
        self.position += self.frame;
        events.push(Event::Frame { at, probability });
        let is_speech = probability >= self.threshold;
        let Some(mut open) = self.open.take() else {
            if is_speech {
                let mut heard = Mean::default();
                heard.add(probability);
                self.open = Some(Open {
                    start: at,
                    is_told: false,
                    heard,
                    pause: None,
                });
            }
            self.tell(events);
            return;
        };
        if is_speech {
            open.pause = None;
        } else if probability < self.lower {
            let (from, before) = *open.pause.get_or_insert((at, open.heard));
            if at - from >= self.min_silence {
                self.end(open, from, before, events);
                return;
            }
        }
        open.heard.add(probability);
        self.open = Some(open);
        self.tell(events);
    }

    /// Ends the sound after so many samples; the last frame may have been filled up with silence. Another may begin.
    pub(super) fn finish(&mut self, samples: u64, events: &mut Vec<Event>) {
        self.position = samples;
        if let Some(open) = self.open.take() {
            self.end(open, samples, open.heard, events);
        }
        (self.position, self.last_end) = (0, 0);
    }

    /// Where the next frame begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Says that speech has begun, as soon as it can only become long enough.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let padded = self.padded(self.open.map_or(0, |open| open.start));
        if let Some(open) = &mut self.open
            && !open.is_told
            && open.pause.is_none()
            && self.position - open.start > self.min_speech
        {
            open.is_told = true;
            events.push(Event::Began { at: padded });
        }
    }

    fn end(&mut self, open: Open, end: u64, heard: Mean, events: &mut Vec<Event>) {
        if end.saturating_sub(open.start) <= self.min_speech {
            return;
        }
        let start = self.padded(open.start);
        if !open.is_told {
            events.push(Event::Began { at: start });
        }
        self.last_end = (end + self.padding).min(self.position);
        events.push(Event::Ended(Segment {
            start,
            end: self.last_end,
            probability: heard.value(),
        }));
    }

    /// Where a stretch begins that begins here without padding.
    fn padded(&self, start: u64) -> u64 {
        start.saturating_sub(self.padding).max(self.last_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 10 samples at 1000 Hz: a frame is 10 ms.
    fn settings() -> VoiceSettings {
        VoiceSettings {
            min_speech_ms: 30,
            min_silence_ms: 20,
            padding_ms: 5,
            ..VoiceSettings::default()
        }
    }

    fn all(settings: &VoiceSettings, tenths: &[u8], samples: u64) -> Vec<Event> {
        let mut segmenter = Segmenter::new(settings, 1000, 10);
        let mut events = Vec::new();
        for &tenth in tenths {
            segmenter.push(f32::from(tenth) / 10.0, &mut events);
        }
        segmenter.finish(samples, &mut events);
        events.retain(|event| !matches!(event, Event::Frame { .. }));
        events
    }

    #[track_caller]
    fn check(settings: &VoiceSettings, tenths: &[u8], want: &[(u64, u64)]) {
        let events = all(settings, tenths, tenths.len() as u64 * 10);
        let have: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Ended(segment) => Some((segment.start, segment.end)),
                _ => None,
            })
            .collect();
        assert_eq!(have, want, "{events:?}");
        // Each is announced before it ends, and nothing else is.
        assert_eq!(events.len(), 2 * have.len(), "{events:?}");
        for (pair, want) in std::iter::zip(events.chunks(2), want) {
            assert_eq!(pair[0], Event::Began { at: want.0 });
        }
    }

    #[test]
    fn speech_begins_high_and_ends_low() {
        let settings = settings();
        check(&settings, &[0, 9, 9, 9, 9, 0, 0, 0], &[(5, 55)]);
        // 0.4 does not begin anything, and ends nothing.
        check(
            &settings,
            &[4, 4, 9, 9, 9, 9, 4, 4, 4, 0, 0, 0],
            &[(15, 95)],
        );
        check(&settings, &[4; 20], &[]);
    }

    #[test]
    fn what_is_short_does_not_count() {
        let settings = settings();
        // 30 ms is not more than 30 ms.
        check(&settings, &[0, 9, 9, 9, 0, 0, 0, 0], &[]);
        // A pause of 20 ms is passed over, one that lasts a frame longer is not.
        check(&settings, &[0, 9, 9, 0, 0, 9, 9, 0, 0, 0], &[(5, 75)]);
        check(
            &settings,
            &[0, 9, 9, 9, 9, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0],
            &[(5, 55), (75, 125)],
        );
    }

    #[test]
    fn the_end_of_the_sound_ends_speech() {
        let settings = settings();
        check(&settings, &[9, 9, 9, 9], &[(0, 40)]);
        check(&settings, &[9, 9, 9, 9, 0], &[(0, 50)]);
        let events = all(&settings, &[9, 9, 9, 9], 37);
        assert!(
            matches!(events[1], Event::Ended(Segment { end: 37, .. })),
            "{events:?}"
        );
        check(&settings, &[], &[]);
    }

    #[test]
    fn paddings_do_not_overlap() {
        let settings = VoiceSettings {
            padding_ms: 25,
            ..settings()
        };
        check(
            &settings,
            &[0, 9, 9, 9, 9, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0],
            &[(0, 75), (75, 145)],
        );
    }

    #[test]
    fn speech_is_announced_when_it_is_sure() {
        let mut segmenter = Segmenter::new(&settings(), 1000, 10);
        let mut events = Vec::new();
        let mut told = Vec::new();
        for tenth in [0u8, 9, 9, 9, 9, 9] {
            segmenter.push(f32::from(tenth) / 10.0, &mut events);
            told.push(events.contains(&Event::Began { at: 5 }));
        }
        assert_eq!(told, [false, false, false, false, true, true]);
    }

    #[test]
    fn the_probability_is_that_of_the_speech() {
        let events = all(&settings(), &[0, 6, 8, 6, 8, 0, 0, 0, 0], 90);
        let Event::Ended(segment) = events[1] else {
            panic!("{events:?}");
        };
        assert!((segment.probability - 0.7).abs() < 1e-6, "{segment:?}");
    }

    #[test]
    fn settings_are_checked() {
        let with = |threshold, negative_threshold| VoiceSettings {
            threshold,
            negative_threshold,
            ..VoiceSettings::default()
        };
        assert!(with(0.5, None).check().is_ok() && with(0.005, None).check().is_ok());
        for (threshold, negative) in [
            (0.0, None),
            (1.1, None),
            (f32::NAN, None),
            (0.5, Some(0.6)),
            (0.5, Some(-0.1)),
            (0.5, Some(f32::NAN)),
        ] {
            assert!(
                with(threshold, negative).check().is_err(),
                "{threshold} {negative:?}"
            );
        }
        assert!((with(0.5, None).lower() - 0.35).abs() < 1e-6);
        assert!((with(0.1, None).lower() - 0.01).abs() < 1e-6);
    }
}
