//! How many layers of a model go to GPUs, and which.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use troika_base::Bytes;
use troika_device::{Error, ModelBytes};

/// What the user wants of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layers {
    /// As many as fit.
    #[default]
    Auto,
    /// So many.
    Count(usize),
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(count)) => Ok(Self::Count(count)),
            _ => Err("neither a number of layers nor `auto`".to_owned()),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// Which layers go where. Those that no GPU has are the CPU's, from the first on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of each GPU, in the order in which they were named.
    pub(super) gpus: Vec<Range<usize>>,
    pub(super) n_layer: usize,
    /// One GPU has all of it, the embedding table too.
    pub(super) is_whole: bool,
}

/// What there is to share, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Room<'a> {
    /// What the model takes on a GPU.
    pub(super) model: &'a ModelBytes,
    /// What is free on each GPU.
    pub(super) gpus: &'a [u64],
    /// What a step takes on each of them beside the model.
    pub(super) workspace: u64,
    /// Whether the CPU takes what is left.
    pub(super) has_cpu: bool,
}

impl Shares {
    /// Gives GPUs as many layers as fit, or as many as are wanted.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if fewer fit than are wanted, or not all of them where the CPU takes none.
    pub(super) fn new(room: &Room<'_>, wanted: Layers) -> Result<Self, Error> {
        let n_layer = room.model.layers.len();
        let most = match wanted {
            Layers::Auto => n_layer,
            Layers::Count(count) => count.min(n_layer),
        };
        let free = room
            .gpus
            .iter()
            .map(|&free| free.saturating_sub(room.workspace));
        let free: Vec<u64> = free.collect();
        if most == n_layer && free.first().is_some_and(|&free| room.model.whole() <= free) {
            let mut gpus = vec![0..0; free.len()];
            gpus[0] = 0..n_layer;
            return Ok(Self {
                gpus,
                n_layer,
                is_whole: true,
            });
        }
        let gpus = room.model.share(&free, most);
        let shares = Self {
            gpus,
            n_layer,
            is_whole: false,
        };
        let fitting = shares.on_gpus();
        let is_enough = match wanted {
            Layers::Auto => fitting > 0,
            Layers::Count(_) => fitting >= most,
        };
        match is_enough && room.has_cpu {
            true => Ok(shares),
            false => Err(room.refusal(wanted, fitting)),
        }
    }

    /// Layers that some GPU has.
    pub(super) fn on_gpus(&self) -> usize {
        self.gpus.iter().map(ExactSizeIterator::len).sum()
    }

    /// Layers that the CPU has.
    pub(super) fn on_cpu(&self) -> usize {
        self.n_layer - self.on_gpus()
    }

    /// Who has which, for people.
    pub(super) fn text(&self, gpus: &[&str]) -> String {
        let of_gpus = gpus.iter().zip(&self.gpus).rev();
        let parts = std::iter::once((&"cpu0", 0..self.on_cpu()))
            .chain(of_gpus.map(|(name, layers)| (name, layers.clone())));
        let parts = parts.filter(|(_, layers)| !layers.is_empty());
        let parts = parts.map(|(name, layers)| match layers.len() {
            1 => format!("layer {} on {name}", layers.start),
            _ => format!("layers {} to {} on {name}", layers.start, layers.end - 1),
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl Room<'_> {
    fn refusal(&self, wanted: Layers, fitting: usize) -> Error {
        let n_layer = self.model.layers.len();
        let wanted = match wanted {
            Layers::Auto if self.has_cpu => 1,
            Layers::Auto => n_layer,
            Layers::Count(count) => count.min(n_layer),
        };
        let weights: u64 = self.model.layers[n_layer - wanted..].iter().sum();
        let input = if wanted == n_layer {
            self.model.input
        } else {
            0
        };
        Error::OutOfMemory {
            need: Bytes(weights + self.model.output + input + self.workspace),
            free: Bytes(
                self.gpus
                    .iter()
                    .fold(0, |sum, &free| sum.saturating_add(free)),
            ),
            purpose: format!("{wanted} of {n_layer} layers with their cache on the GPU"),
            advice: match fitting {
                0 => {
                    "take the CPU (`--device cpu0`), a smaller model or a smaller context (`--ctx`)"
                        .to_owned()
                }
                n => format!(
                    "{n} fit (`--gpu-layers {n}`); or take a smaller model or a smaller context (`--ctx`)"
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(gpus: &[u64], has_cpu: bool, wanted: Layers) -> Result<Shares, String> {
        let model = ModelBytes {
            input: 50,
            layers: vec![10; 4],
            output: 7,
        };
        let room = Room {
            model: &model,
            gpus,
            workspace: 3,
            has_cpu,
        };
        Shares::new(&room, wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn as_many_layers_as_fit_are_on_the_gpu() {
        let auto = |free| shares(&[free], true, Layers::Auto);
        assert!(auto(100).is_ok_and(|shares| shares.is_whole));
        let all_but_input = auto(99).expect("they fit");
        assert!(!all_but_input.is_whole && all_but_input.on_cpu() == 0);
        let some = auto(39).expect("some fit");
        assert_eq!(
            some.text(&["gpu0"]),
            "layers 0 to 1 on cpu0, layers 2 to 3 on gpu0"
        );
        let one = auto(20).expect("one fits");
        assert_eq!(
            one.text(&["gpu0"]),
            "layers 0 to 2 on cpu0, layer 3 on gpu0"
        );
        let none = auto(19).expect_err("none fits");
        assert!(
            none.contains("needs 20 B") && none.contains("--device cpu0"),
            "{none}"
        );
    }

    #[test]
    fn a_number_is_a_number() {
        let count = |free, count| shares(&[free], true, Layers::Count(count));
        assert_eq!(count(1000, 2).expect("they fit").gpus[..], [2..4; 1]);
        assert_eq!(count(10, 0).expect("nothing fits anywhere").on_cpu(), 4);
        assert!(count(1000, 99).is_ok_and(|shares| shares.is_whole));
        let refused = count(39, 3).expect_err("two fit");
        assert!(refused.contains("--gpu-layers 2"), "{refused}");
    }

    #[test]
    fn without_the_cpu_all_of_it_fits_or_nothing() {
        assert!(shares(&[100], false, Layers::Auto).is_ok_and(|shares| shares.is_whole));
        let refused = shares(&[99], false, Layers::Auto).expect_err("the embedding table does not");
        assert!(refused.contains("needs 100 B"), "{refused}");
    }

    #[test]
    fn several_gpus_take_turns() {
        let two = shares(&[20, 23], true, Layers::Auto).expect("they fit");
        assert_eq!(two.gpus, [3..4, 1..3]);
        assert_eq!(
            two.text(&["gpu0", "gpu1"]),
            "layer 0 on cpu0, layers 1 to 2 on gpu1, layer 3 on gpu0"
        );
    }

    #[test]
    fn words_are_understood() {
        assert_eq!("auto".parse(), Ok(Layers::Auto));
        assert_eq!("0".parse(), Ok(Layers::Count(0)));
        assert!("-1".parse::<Layers>().is_err() && "".parse::<Layers>().is_err());
    }
}
