//! The rotary embedding as graphs want it: pairs made of a head's two halves, and tables as wide as a head.

use troika_device::{Rope, RopePairs};

/// How heads are turned in a graph.
///
/// Compilers know one form of the rotation: value `i` is paired with value `i + head_dim / 2`. Where a file's pairs are
/// others, the rows of its query and key matrices are put in another order; products of queries with keys do not
/// change by that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotation {
    head_dim: usize,
    /// Radians per position, one for each pair; the last pairs, which have none, stay as they are.
    frequencies: Vec<f64>,
    magnitude: f64,
    /// Which of the file's values of a head is the graph's, if they differ.
    order: Option<Vec<usize>>,
}

impl Rotation {
    /// Of heads with `head_dim` values.
    pub(super) fn new(rope: &Rope, head_dim: usize) -> Self {
        let (n_pair, half) = (rope.frequencies.len(), head_dim / 2);
        let n_rot = 2 * n_pair;
        let unturned = half - n_pair;
        let pair = |i: usize| match rope.pairs {
            RopePairs::Adjacent => [2 * i, 2 * i + 1],
            RopePairs::Halves => [i, i + n_pair],
        };
        let low = (0..n_pair).map(|i| pair(i)[0]);
        let high = (0..n_pair).map(|i| pair(i)[1]);
        let order: Vec<usize> = low
            .chain(n_rot..n_rot + unturned)
            .chain(high)
            .chain(n_rot + unturned..head_dim)
            .collect();
        Self {
            head_dim,
            frequencies: rope.frequencies.clone(),
            magnitude: rope.magnitude,
            order: (!order.is_sorted()).then_some(order),
        }
    }

    /// Which of the file's values of a head is the graph's; `None` if they are in the same order.
    pub(super) fn order(&self) -> Option<&[usize]> {
        self.order.as_deref()
    }

    /// Radians per position of the first half's values; the second's are the same.
    pub(super) fn frequencies(&self) -> impl Iterator<Item = f64> {
        let unturned = self.head_dim / 2 - self.frequencies.len();
        let turned = self.frequencies.iter().copied();
        turned.chain(std::iter::repeat_n(0.0, unturned))
    }

    /// What cosines and sines of the first half's values are multiplied with; the second's are the same.
    pub(super) fn magnitudes(&self) -> impl Iterator<Item = f64> {
        let unturned = self.head_dim / 2 - self.frequencies.len();
        let turned = std::iter::repeat_n(self.magnitude, self.frequencies.len());
        turned.chain(std::iter::repeat_n(1.0, unturned))
    }

    /// Writes cosines and sines of all positions, `[positions, head_dim]` each. Angles are computed in f64.
    ///
    /// # Panics
    /// If a table has another length.
    pub(super) fn tables(&self, positions: &[usize], cos: &mut [f32], sin: &mut [f32]) {
        let len = positions.len() * self.head_dim;
        assert_eq!((cos.len(), sin.len()), (len, len), "a row per position");
        let half = self.head_dim / 2;
        let rows = cos
            .chunks_exact_mut(self.head_dim)
            .zip(sin.chunks_exact_mut(self.head_dim));
        for (&position, (cos, sin)) in positions.iter().zip(rows) {
            for (i, (frequency, magnitude)) in self.frequencies().zip(self.magnitudes()).enumerate()
            {
                let (s, c) = (position as f64 * frequency).sin_cos();
                let (s, c) = ((s * magnitude) as f32, (c * magnitude) as f32);
                (cos[i], sin[i]) = (c, s);
                (cos[half + i], sin[half + i]) = (c, s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(pairs: RopePairs, n_pair: usize, head_dim: usize) -> Rotation {
        let rope = Rope {
            pairs,
            frequencies: (0..n_pair).map(|i| 0.5f64.powi(i as i32)).collect(),
            magnitude: 2.0,
        };
        Rotation::new(&rope, head_dim)
    }

    #[test]
    fn pairs_become_halves() {
        let adjacent = rotation(RopePairs::Adjacent, 3, 6);
        assert_eq!(adjacent.order(), Some(&[0, 2, 4, 1, 3, 5][..]));
        assert_eq!(rotation(RopePairs::Halves, 3, 6).order(), None);
        // Four of eight values are turned; the others lie behind those of their half.
        let partial = rotation(RopePairs::Adjacent, 2, 8);
        assert_eq!(partial.order(), Some(&[0, 2, 4, 5, 1, 3, 6, 7][..]));
        let partial = rotation(RopePairs::Halves, 2, 8);
        assert_eq!(partial.order(), Some(&[0, 1, 4, 5, 2, 3, 6, 7][..]));
    }

    #[test]
    fn tables_are_as_wide_as_a_head_and_leave_what_is_not_turned() {
        let partial = rotation(RopePairs::Halves, 2, 8);
        let (mut cos, mut sin) = ([0.0; 16], [0.0; 16]);
        partial.tables(&[0, 3], &mut cos, &mut sin);
        let close = |have: &[f32], want: [f64; 4]| {
            let both = want.iter().chain(&want);
            have.iter()
                .zip(both)
                .all(|(have, want)| (f64::from(*have) - want).abs() < 1e-6)
        };
        assert!(close(&cos[..8], [2.0, 2.0, 1.0, 1.0]));
        assert!(close(&sin[..8], [0.0; 4]));
        let (s, c) = (f64::sin_cos(3.0), f64::sin_cos(1.5));
        assert!(close(&cos[8..], [2.0 * s.1, 2.0 * c.1, 1.0, 1.0]));
        assert!(close(&sin[8..], [2.0 * s.0, 2.0 * c.0, 0.0, 0.0]));
    }
}
