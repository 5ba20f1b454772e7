//! Rotary position embedding.

use crate::pool::{Disjoint, Pool};

/// Which values of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2i, 2i + 1)`: Llama's weights as GGUF stores them.
    Adjacent,
    /// `(i, i + n_rot/2)`: the NEOX form, used by Qwen.
    Halves,
}

/// The rotation of every token of a batch, computed once and used by all layers.
#[derive(Debug, Default)]
pub struct RopeTable {
    /// Rotated values per head, an even number.
    n_rot: usize,
    /// `[n_tok][n_rot/2]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Rotations for tokens at `positions`: pair `i` turns by `position * frequencies[i]`, and cosines and sines are
    /// multiplied by `magnitude` (1, but for YaRN).
    ///
    /// Angles are computed in f64: in f32 a position of 100,000 would be off by a hundredth of a radian.
    pub fn new(positions: &[usize], frequencies: &[f64], magnitude: f64) -> Self {
        let mut table = Self {
            n_rot: 2 * frequencies.len(),
            cos: Vec::new(),
            sin: Vec::new(),
        };
        for &position in positions {
            for frequency in frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                table.cos.push((cos * magnitude) as f32);
                table.sin.push((sin * magnitude) as f32);
            }
        }
        table
    }

    /// Rotates `x` `[n_tok, n_head * head_dim]` in place; values of a head past `n_rot` stay.
    ///
    /// # Panics
    /// If the shape disagrees with the table.
    pub fn apply(&self, pool: &Pool, pairs: RopePairs, head_dim: usize, x: &mut [f32]) {
        let half = self.n_rot / 2;
        if half == 0 || self.cos.is_empty() {
            return;
        }
        let n_tok = self.cos.len() / half;
        assert!(
            self.n_rot <= head_dim && x.len().is_multiple_of(n_tok * head_dim),
            "x is [n_tok, n_head * head_dim]"
        );
        let row = x.len() / n_tok;
        let x = Disjoint::new(x);
        pool.for_each(n_tok, 16, |token| {
            // SAFETY: each token is handed out once.
            let x = unsafe { x.part(token * row, row) };
            let (cos, sin) = (
                &self.cos[token * half..][..half],
                &self.sin[token * half..][..half],
            );
            for head in x.chunks_exact_mut(head_dim) {
                rotate(pairs, cos, sin, &mut head[..self.n_rot]);
            }
        });
    }
}

fn rotate(pairs: RopePairs, cos: &[f32], sin: &[f32], x: &mut [f32]) {
    match pairs {
        RopePairs::Adjacent => {
            for ((pair, cos), sin) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
        RopePairs::Halves => {
            let (low, high) = x.split_at_mut(cos.len());
            for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: a pair is a complex number, turned by its angle.
    fn check(pairs: RopePairs, index: impl Fn(usize) -> (usize, usize)) {
        let (pool, frequencies) = (Pool::new(2), [1.0, 0.1]);
        let positions = [0, 3, 100_000];
        let x: Vec<f32> = (0..3 * 2 * 6).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut y = x.clone();
        RopeTable::new(&positions, &frequencies, 1.0).apply(&pool, pairs, 6, &mut y);
        for (token, position) in positions.into_iter().enumerate() {
            for head in 0..2 {
                let at = (token * 2 + head) * 6;
                for (i, frequency) in frequencies.into_iter().enumerate() {
                    let (a, b) = index(i);
                    let (x0, x1) = (f64::from(x[at + a]), f64::from(x[at + b]));
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    assert!((f64::from(y[at + a]) - (x0 * cos - x1 * sin)).abs() < 1e-6);
                    assert!((f64::from(y[at + b]) - (x0 * sin + x1 * cos)).abs() < 1e-6);
                }
                assert_eq!(x[at + 4..at + 6], y[at + 4..at + 6], "past n_rot");
            }
        }
    }

    #[test]
    fn pairs_turn_by_their_angle() {
        check(RopePairs::Adjacent, |i| (2 * i, 2 * i + 1));
        check(RopePairs::Halves, |i| (i, i + 2));
    }
}
