//! How many layers fit where: from what each of them takes, and not from a rule of thumb.

use std::ops::Range;

use troika_gguf::{ModelFile, TensorInfo};

use super::TensorPlace;

/// What a model takes on a device, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelBytes {
    /// What comes before the first layer.
    pub input: u64,
    /// Each layer, with its keys and values.
    pub layers: Vec<u64>,
    /// What comes behind the last layer.
    pub output: u64,
}

impl ModelBytes {
    /// Of a file's model of so many layers, where `bytes` is what a tensor takes there and `kv` a layer's part of the
    /// cache.
    pub fn of(
        file: &ModelFile,
        n_layer: usize,
        kv: u64,
        bytes: impl Fn(&TensorInfo) -> u64,
    ) -> Self {
        let mut of = Self {
            layers: vec![kv; n_layer],
            ..Self::default()
        };
        for tensor in file.resident_tensors() {
            let place = match TensorPlace::of(file, tensor) {
                TensorPlace::Input => Some(&mut of.input),
                TensorPlace::Output => Some(&mut of.output),
                TensorPlace::Layer(layer) => of.layers.get_mut(layer),
            };
            if let Some(sum) = place {
                *sum = sum.saturating_add(bytes(tensor));
            }
        }
        of
    }

    /// All of it.
    pub fn whole(&self) -> u64 {
        let layers = self
            .layers
            .iter()
            .fold(0, |sum: u64, &layer| sum.saturating_add(layer));
        layers
            .saturating_add(self.input)
            .saturating_add(self.output)
    }

    /// The layers that each of several devices gets that have `rooms` bytes free, the preferred one first: it has the
    /// last layers and the output matrix, the next one those before them, and so on. At most `most` in all. Layers that
    /// are in no range are left to somebody else.
    pub fn share(&self, rooms: &[u64], most: usize) -> Vec<Range<usize>> {
        let mut end = self.layers.len();
        let least = end.saturating_sub(most);
        let mut fixed = self.output;
        rooms
            .iter()
            .map(|&room| {
                let Some(mut left) = room.checked_sub(fixed) else {
                    return end..end;
                };
                let mut first = end;
                while first > least && self.layers[first - 1] <= left {
                    first -= 1;
                    left -= self.layers[first];
                }
                // Without a layer it has no use for the output matrix, and nobody after it has either.
                if first < end {
                    fixed = 0;
                }
                let own = first..end;
                end = first;
                own
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelBytes {
        ModelBytes {
            input: 50,
            layers: vec![10, 10, 20, 10],
            output: 7,
        }
    }

    #[test]
    fn as_many_as_fit_and_not_a_byte_more() {
        let share = |rooms: &[u64], most| model().share(rooms, most);
        assert_eq!(share(&[u64::MAX], usize::MAX)[..], [0..4; 1]);
        assert_eq!(share(&[57], usize::MAX)[..], [0..4; 1]);
        assert_eq!(share(&[56], usize::MAX)[..], [1..4; 1]);
        assert_eq!(share(&[36], usize::MAX)[..], [3..4; 1]);
        assert_eq!(share(&[16], usize::MAX)[..], [4..4; 1]);
        assert_eq!(share(&[57], 2)[..], [2..4; 1]);
        assert_eq!(share(&[57], 0)[..], [4..4; 1]);
        assert_eq!(model().whole(), 107);
    }

    #[test]
    fn several_share_what_is_left() {
        let share = |rooms: &[u64], most| model().share(rooms, most);
        assert_eq!(share(&[17, 30, 100], usize::MAX), [3..4, 1..3, 0..1]);
        assert_eq!(share(&[17, 19, 10], usize::MAX), [3..4, 3..3, 3..3]);
        // The first has no room: the second has the output matrix.
        assert_eq!(share(&[5, 37], usize::MAX), [4..4, 2..4]);
    }
}
