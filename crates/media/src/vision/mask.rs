//! A mask: for each place of a picture, how sure the model is that it belongs to the foreground.

use image::GrayImage;
use serde::Serialize;

/// How sure a model is that a place belongs to the foreground, on a grid of the model's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mask {
    /// Places from left to right.
    pub width: usize,
    /// From top to bottom.
    pub height: usize,
    /// 0 to 1, row by row.
    pub values: Vec<f32>,
    /// From where on a place counts as foreground.
    pub threshold: f32,
}

impl Mask {
    /// Part of the picture that is foreground, 0 to 1.
    pub fn coverage(&self) -> f32 {
        let inside = self.values.iter().filter(|&&value| value >= self.threshold);
        inside.count() as f32 / self.values.len() as f32
    }

    /// The mask for a picture of this size, 0 to 255, with nothing done to its edges.
    pub fn resized(&self, width: u32, height: u32) -> GrayImage {
        let mut bytes = Vec::with_capacity(width as usize * height as usize);
        enlarge(
            [&self.values],
            (self.width, self.height),
            (width, height),
            |_, [value]| {
                bytes.push((value.clamp(0.0, 1.0) * 255.0).round() as u8);
            },
        );
        GrayImage::from_raw(width, height, bytes).expect("a value for each pixel")
    }

    /// The mask without what lies beside the picture: left, top, width and height as parts of the mask's.
    pub(super) fn cropped(self, region: [f32; 4]) -> Self {
        if region == [0.0, 0.0, 1.0, 1.0] {
            return self;
        }
        let span = |start: f32, length: f32, count: usize| {
            let first = ((start * count as f32).round() as usize).min(count - 1);
            let last = ((start + length) * count as f32).round() as usize;
            first..last.clamp(first + 1, count)
        };
        let columns = span(region[0], region[2], self.width);
        let rows = span(region[1], region[3], self.height);
        let values = rows
            .clone()
            .flat_map(|row| &self.values[row * self.width..][columns.clone()])
            .copied();
        Self {
            values: values.collect(),
            width: columns.len(),
            height: rows.len(),
            threshold: self.threshold,
        }
    }
}

/// Goes over a larger grid row by row, with what lies between the values of smaller ones: linear in both directions,
/// centres over centres, edges continued.
pub(super) fn enlarge<const N: usize>(
    planes: [&[f32]; N],
    from: (usize, usize),
    to: (u32, u32),
    mut each: impl FnMut(usize, [f32; N]),
) {
    let columns: Vec<_> = between(from.0, to.0).collect();
    let mut rows: [Vec<f32>; N] = std::array::from_fn(|_| vec![0.0; from.0]);
    let mut index = 0;
    for (above, below, part) in between(from.1, to.1) {
        for (row, plane) in rows.iter_mut().zip(planes) {
            let (above, below) = (&plane[above * from.0..], &plane[below * from.0..]);
            for ((out, a), b) in row.iter_mut().zip(above).zip(below) {
                *out = a + part * (b - a);
            }
        }
        for &(left, right, part) in &columns {
            let values = std::array::from_fn(|plane| {
                let row: &[f32] = &rows[plane];
                row[left] + part * (row[right] - row[left])
            });
            each(index, values);
            index += 1;
        }
    }
}

/// For each place of the longer side its two neighbours on the shorter one, and how far it is from the first.
fn between(from: usize, to: u32) -> impl Iterator<Item = (usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    (0..to).map(move |index| {
        let place = ((index as f32 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f32);
        let first = place as usize;
        (first, (first + 1).min(from - 1), place - first as f32)
    })
}

/// Calms the masks of pictures that follow each other.
///
/// Where a model is sure it is believed at once, so nothing drags behind a hand that moves; where it wavers, what was
/// there before counts, so that edges do not flicker.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    before: Option<Mask>,
}

/// How much the mask before counts where the model has no idea.
const MEMORY: f32 = 0.8;

impl Smoother {
    /// The next picture's mask.
    pub fn smooth(&mut self, mut mask: Mask) -> Mask {
        let size = |mask: &Mask| (mask.width, mask.height);
        if let Some(before) = self
            .before
            .take()
            .filter(|before| size(before) == size(&mask))
        {
            for (value, before) in mask.values.iter_mut().zip(before.values) {
                let sure = (2.0 * *value - 1.0).clamp(-1.0, 1.0);
                *value += MEMORY * (1.0 - sure * sure) * (before - *value);
            }
        }
        self.before = Some(mask.clone());
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, values: &[f32]) -> Mask {
        Mask {
            width,
            height: values.len() / width,
            values: values.to_vec(),
            threshold: 0.5,
        }
    }

    #[test]
    fn masks_grow_linearly() {
        let grown = mask(2, &[0.0, 1.0]).resized(4, 2);
        assert_eq!(grown.as_raw(), &[0, 64, 191, 255, 0, 64, 191, 255]);
        let same = mask(2, &[0.0, 1.0, 0.4, 0.2]).resized(2, 2);
        assert_eq!(same.as_raw(), &[0, 255, 102, 51]);
        let point = mask(1, &[0.2]).resized(3, 1);
        assert_eq!(point.as_raw(), &[51, 51, 51]);
        assert_eq!(mask(2, &[0.0, 0.5, 0.7, 0.2]).coverage(), 0.5);
    }

    #[test]
    fn padding_is_taken_off() {
        let padded = mask(2, &[9.0, 9.0, 0.1, 0.2, 0.3, 0.4, 9.0, 9.0]);
        let cropped = padded.clone().cropped([0.0, 0.25, 1.0, 0.5]);
        assert_eq!(cropped, mask(2, &[0.1, 0.2, 0.3, 0.4]));
        assert_eq!(padded.clone().cropped([0.0, 0.0, 1.0, 1.0]), padded);
        // However thin the picture, something remains.
        assert_eq!(padded.cropped([0.5, 0.5, 0.001, 0.001]).values.len(), 1);
    }

    #[test]
    fn what_flickers_is_calmed_and_what_moves_is_not() {
        let mut smoother = Smoother::default();
        smoother.smooth(mask(3, &[0.0, 0.45, 1.0]));
        let next = smoother.smooth(mask(3, &[1.0, 0.55, 0.0]));
        assert_eq!((next.values[0], next.values[2]), (1.0, 0.0));
        let jump = next.values[1] - 0.45;
        assert!(jump > 0.0 && jump < 0.03, "{jump}");
        // A picture of another size has nothing to do with the one before.
        let other = mask(1, &[0.5]);
        assert_eq!(smoother.smooth(other.clone()), other);
    }
}
