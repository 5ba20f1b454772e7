//! The search for blocks whose magnitudes are points of a grid.
//!
//! For a given scale the best point of a group of weights is found by trying all, and so is the best of some scales. As in
//! the [K formats](super::two_level), the largest scale says what the block's `d` is, and then the code of each sub-block's
//! scale, or one beside it, is chosen with the points of the least error.

use super::{F16Le, search};

/// How the signs of a group of 8 weights are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    /// One for each weight.
    Free,
    /// Such that an even number of them is negative.
    Even,
    /// None: points are of signed digits, an eighth up or down; all groups of 32 weights move alike.
    ShiftOf32,
    /// As [`ShiftOf32`](Self::ShiftOf32), and each group moves by itself.
    ShiftOf8,
}

/// A format.
pub(super) struct Kind {
    pub(super) grid: &'static [u32],
    /// Weights of a point: 8 or 4.
    pub(super) point_len: usize,
    /// Weights that share a scale: 32 or 16.
    pub(super) scale_len: usize,
    pub(super) signs: Signs,
    /// The scale of code 0, what each code adds, and the last code.
    pub(super) scale: (f32, f32, u8),
}

/// What 8 weights become.
#[derive(Clone, Copy, Default)]
pub(super) struct Group {
    /// Of points of 8 only the first is used.
    pub(super) points: [u16; 2],
    pub(super) signs: u8,
    pub(super) is_lowered: bool,
}

/// What a block becomes: for each 32 weights two codes of scales, which are the same if they share one, and four groups.
pub(super) struct Found {
    pub(super) d: F16Le,
    pub(super) codes: [[u8; 2]; 8],
    pub(super) groups: [[Group; 4]; 8],
}

/// The values of a grid's points are `level · by + add`.
#[derive(Clone, Copy)]
struct Values {
    by: f32,
    add: f32,
}

const MAGNITUDES: Values = Values { by: 1.0, add: 0.0 };
const RAISED: Values = Values {
    by: 0.125,
    add: -0.875,
};
const LOWERED: Values = Values {
    by: 0.125,
    add: -1.125,
};

impl Kind {
    /// The block of little weighted error; `None` if it cannot be quantized.
    pub(super) fn search(&self, x: &[f32; 256], weights: &[f32; 256]) -> Option<Found> {
        search::largest(x)?;
        let subs = || x.chunks(self.scale_len).zip(weights.chunks(self.scale_len));
        let fits: Vec<f32> = subs().map(|(x, weights)| self.fit(x, weights)).collect();
        let (first, step, last) = self.scale;
        let largest = fits.iter().copied().fold(0.0, f32::max);
        let d = F16Le::from_f32_away(largest / (first + step * f32::from(last)));
        let unit = d.to_f32();
        if !unit.is_finite() {
            return None;
        }
        let mut found = Found {
            d,
            codes: [[0; 2]; 8],
            groups: [[Group::default(); 4]; 8],
        };
        if unit == 0.0 {
            return Some(found);
        }
        for (j, ((x, weights), fit)) in subs().zip(fits).enumerate() {
            let nearest = ((fit / unit - first) / step + 0.5) as u8;
            let mut best = f32::INFINITY;
            for code in nearest.saturating_sub(1).min(last)..=nearest.saturating_add(1).min(last) {
                let (error, groups) =
                    self.choose(x, weights, unit * (first + step * f32::from(code)));
                if error < best {
                    best = error;
                    let (block, half) = (j * self.scale_len / 32, j * self.scale_len % 32 / 16);
                    let n = self.scale_len / 8;
                    found.codes[block][half..][..n / 2].fill(code);
                    found.groups[block][half * 2..][..n].copy_from_slice(&groups[..n]);
                }
            }
        }
        Some(found)
    }

    /// The best scale of a sub-block.
    fn fit(&self, x: &[f32], weights: &[f32]) -> f32 {
        let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        // A magnitude whose inverse overflows is zero in every format.
        if largest < f32::MIN_POSITIVE * 256.0 {
            return 0.0;
        }
        let mut top = 0.0f32;
        for &levels in self.grid {
            for level in levels.to_le_bytes() {
                top = top.max(self.values()[0].of(level));
            }
        }
        let mut best = (f32::INFINITY, 0.0);
        for part in [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0] {
            let scale = part * largest / top;
            let (error, groups) = self.choose(x, weights, scale);
            if error < best.0 {
                best = (error, self.refit(x, weights, &groups).unwrap_or(scale));
            }
        }
        best.1
    }

    /// What points may stand for.
    fn values(&self) -> &'static [Values] {
        match self.signs {
            Signs::Free | Signs::Even => &[MAGNITUDES],
            Signs::ShiftOf32 | Signs::ShiftOf8 => &[RAISED, LOWERED],
        }
    }

    /// The scale, above 0, that fits these groups best.
    fn refit(&self, x: &[f32], weights: &[f32], groups: &[Group; 4]) -> Option<f32> {
        let (mut xq, mut qq) = (0.0, 0.0);
        for (i, (x, weight)) in x.iter().zip(weights).enumerate() {
            let q = self.value(&groups[i / 8], i % 8);
            xq += weight * x * q;
            qq += weight * q * q;
        }
        let scale: f32 = xq / qq;
        (scale.is_normal() && scale > 0.0).then_some(scale)
    }

    /// What weight `i` of a group stands for, by a scale of 1.
    fn value(&self, group: &Group, i: usize) -> f32 {
        let point = group.points[i / self.point_len];
        let bytes = self.levels(point.into());
        let level = bytes[i % self.point_len];
        let values = self.values()[usize::from(group.is_lowered)];
        let sign = if group.signs >> i & 1 == 1 { -1.0 } else { 1.0 };
        sign * values.of(level)
    }

    /// The levels of a point, the second half of which is not used for points of 4.
    fn levels(&self, point: usize) -> [u8; 8] {
        match self.point_len {
            8 => super::grids::point(self.grid, point),
            _ => {
                let [a, b, c, d] = self.grid[point].to_le_bytes();
                [a, b, c, d, 0, 0, 0, 0]
            }
        }
    }

    /// The best groups of a sub-block for this scale, and their weighted squared error.
    fn choose(&self, x: &[f32], weights: &[f32], scale: f32) -> (f32, [Group; 4]) {
        let mut best = (f32::INFINITY, [Group::default(); 4]);
        for (values, is_lowered) in self.values().iter().zip([false, true]) {
            let (mut error, mut groups) = (0.0, [Group::default(); 4]);
            for (g, (x, weights)) in x.chunks(8).zip(weights.chunks(8)).enumerate() {
                let of_group = match self.signs {
                    Signs::ShiftOf8 => {
                        let of =
                            |values, is_lowered| self.group(x, weights, scale, values, is_lowered);
                        let (raised, lowered) = (of(RAISED, false), of(LOWERED, true));
                        if lowered.0 < raised.0 {
                            lowered
                        } else {
                            raised
                        }
                    }
                    _ => self.group(x, weights, scale, *values, is_lowered),
                };
                error += of_group.0;
                groups[g] = of_group.1;
            }
            if error < best.0 {
                best = (error, groups);
            }
            if self.signs == Signs::ShiftOf8 {
                break;
            }
        }
        best
    }

    /// The best points for 8 weights.
    fn group(
        &self,
        x: &[f32],
        weights: &[f32],
        scale: f32,
        values: Values,
        is_lowered: bool,
    ) -> (f32, Group) {
        let mut group = Group {
            is_lowered,
            ..Group::default()
        };
        let mut target: [f32; 8] = std::array::from_fn(|i| x[i]);
        if matches!(self.signs, Signs::Free | Signs::Even) {
            for (i, x) in x.iter().enumerate() {
                group.signs |= u8::from(*x < 0.0) << i;
            }
            if self.signs == Signs::Even && group.signs.count_ones() % 2 == 1 {
                // The sign that matters least is the wrong one.
                let loss = |i: &usize| weights[*i] * x[*i] * x[*i];
                let least = (0..8).min_by(|a, b| loss(a).total_cmp(&loss(b)));
                group.signs ^= 1 << least.unwrap_or(0);
            }
            for (i, target) in target.iter_mut().enumerate() {
                if group.signs >> i & 1 == 1 {
                    *target = -*target;
                }
            }
        }
        let mut error = 0.0;
        for part in 0..8 / self.point_len {
            let at = part * self.point_len..(part + 1) * self.point_len;
            let found = self.point(&target[at.clone()], &weights[at], scale, values);
            error += found.0;
            group.points[part] = found.1;
        }
        (error, group)
    }

    /// The best point.
    fn point(&self, x: &[f32], weights: &[f32], scale: f32, values: Values) -> (f32, u16) {
        match self.point_len {
            8 => nearest::<8>(self.grid, x, weights, scale, values),
            _ => nearest::<4>(self.grid, x, weights, scale, values),
        }
    }
}

impl Values {
    fn of(self, level: u8) -> f32 {
        f32::from(level) * self.by + self.add
    }
}

/// The point of `N` weights with the least weighted squared error, and that.
fn nearest<const N: usize>(
    grid: &[u32],
    x: &[f32],
    weights: &[f32],
    scale: f32,
    values: Values,
) -> (f32, u16) {
    let mut best = (f32::INFINITY, 0);
    for (index, dwords) in grid.chunks_exact(N / 4).enumerate() {
        let mut error = 0.0;
        for i in 0..N {
            let level = dwords[i / 4].to_le_bytes()[i % 4];
            let diff = scale * values.of(level) - x[i];
            error += weights[i] * diff * diff;
        }
        if error < best.0 {
            best = (error, index as u16);
        }
    }
    best
}
