//! Models of sound that are known here, recognised by the names and shapes of what goes in and out.

use troika_device_npu::exec::{Executor, Port};

use super::Error;

/// A model whose way of working is built in; others need a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Silero's voice activity, version 5 and later.
    SileroVad,
    /// GTCRN noise suppression, one frame of a spectrum at a time.
    Gtcrn,
}

/// A name and the lengths of axes; `None` where the model may say anything.
type Want = (&'static str, &'static [Option<usize>]);

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::SileroVad, Self::Gtcrn];

    /// What cards call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SileroVad => "silero-vad",
            Self::Gtcrn => "gtcrn",
        }
    }

    /// The kind of a model, if it is one of these.
    pub fn of(model: &dyn Executor) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.check(model).is_ok())
    }

    /// Whether a model is of this kind.
    ///
    /// # Errors
    /// [`Error::OtherModel`] with the first thing that is not as it should be.
    pub fn check(self, model: &dyn Executor) -> Result<(), Error> {
        let sides = [
            ("input", self.inputs(), model.inputs()),
            ("output", self.outputs(), model.outputs()),
        ];
        for (side, wanted, ports) in sides {
            self.check_side(side, wanted, ports)?;
        }
        Ok(())
    }

    fn check_side(self, side: &str, wanted: &[Want], ports: &[Port]) -> Result<(), Error> {
        let refuse = |reason| Error::OtherModel {
            wanted: self.name(),
            reason,
        };
        for (name, shape) in wanted {
            let Some(port) = ports.iter().find(|port| port.name == *name) else {
                let have: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
                let have = have.join(", ");
                return Err(refuse(format!(
                    "it has no {side} `{name}`; its {side}s are {have}"
                )));
            };
            if !fits(&port.shape, shape) {
                let (have, want) = (shown(&port.shape), shown(shape));
                return Err(refuse(format!(
                    "its {side} `{name}` is {have}, and {want} is expected"
                )));
            }
        }
        if ports.len() != wanted.len() {
            let (have, want) = (ports.len(), wanted.len());
            return Err(refuse(format!(
                "it has {have} {side}s, and {want} are expected"
            )));
        }
        Ok(())
    }

    fn inputs(self) -> &'static [Want] {
        match self {
            Self::SileroVad => &[
                ("input", &[None, None]),
                ("state", &[Some(2), None, Some(128)]),
                ("sr", &[]),
            ],
            Self::Gtcrn => &[
                ("mix", &SPECTRUM),
                (
                    "conv_cache",
                    &[Some(2), Some(1), Some(16), Some(16), Some(33)],
                ),
                ("tra_cache", &[Some(2), Some(3), Some(1), Some(1), Some(16)]),
                ("inter_cache", &[Some(2), Some(1), Some(33), Some(16)]),
            ],
        }
    }

    fn outputs(self) -> &'static [Want] {
        match self {
            Self::SileroVad => &[
                ("output", &[None, Some(1)]),
                ("stateN", &[None, None, None]),
            ],
            Self::Gtcrn => &[
                ("enh", &SPECTRUM),
                (
                    "conv_cache_out",
                    &[Some(2), Some(1), Some(16), Some(16), Some(33)],
                ),
                (
                    "tra_cache_out",
                    &[Some(2), Some(3), Some(1), Some(1), Some(16)],
                ),
                ("inter_cache_out", &[Some(2), Some(1), Some(33), Some(16)]),
            ],
        }
    }
}

/// 257 bands of one frame, real and imaginary part.
const SPECTRUM: [Option<usize>; 4] = [Some(1), Some(257), Some(1), Some(2)];

/// Where two lengths are known, they agree.
fn fits(have: &[Option<usize>], want: &[Option<usize>]) -> bool {
    have.len() == want.len()
        && std::iter::zip(have, want).all(|pair| match pair {
            (Some(have), Some(want)) => have == want,
            _ => true,
        })
}

/// `[1, ?, 128]`.
fn shown(shape: &[Option<usize>]) -> String {
    let axis = |axis: &Option<usize>| axis.map_or("?".to_owned(), |length| length.to_string());
    let axes: Vec<_> = shape.iter().map(axis).collect();
    format!("[{}]", axes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn models_are_told_apart() {
        assert_eq!(Kind::of(&Fake::silero(|_| 0.0)), Some(Kind::SileroVad));
        assert_eq!(Kind::of(&Fake::gtcrn()), Some(Kind::Gtcrn));
    }

    #[test]
    fn what_is_not_as_expected_is_named() {
        let check = |change: fn(&mut Fake)| {
            let mut model = Fake::silero(|_| 0.0);
            change(&mut model);
            assert_eq!(Kind::of(&model), None);
            let refused = Kind::SileroVad.check(&model).unwrap_err();
            refused.to_string()
        };
        for (change, want) in [
            (
                (|model| model.inputs[1].name = "h".to_owned()) as fn(&mut Fake),
                "it has no input `state`; its inputs are input, h, sr",
            ),
            (
                |model| model.inputs[1].shape = vec![Some(2), None, Some(64)],
                "its input `state` is [2, ?, 64], and [2, ?, 128] is expected",
            ),
            (
                |model| model.outputs.push(model.outputs[0].clone()),
                "it has 3 outputs, and 2 are expected",
            ),
        ] {
            let said = check(change);
            assert!(said.ends_with(want), "{said}");
            assert!(said.contains("silero-vad"), "{said}");
        }
    }
}
