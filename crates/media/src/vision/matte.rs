//! From a model's coarse mask to a matte: how opaque each pixel of the foreground is.
//!
//! A mask of 256 by 144 places laid over a picture of 1280 by 720 has edges like stairs, and cuts where the model
//! guessed, not where the picture changes. A guided filter bends its edges to the picture's own; see He and Sun,
//! "Fast Guided Filter" (arXiv 1505.00996): both are compared on the coarse grid, and only the two coefficients of the
//! result are enlarged.

use image::{GrayImage, RgbImage};

use super::Mask;
use super::input::luma;
use super::mask::enlarge;

/// Reach of the filter, in places of the mask to each side.
const RADIUS: usize = 3;
/// Differences of brightness (0 to 1, squared) below this are noise, not an edge.
const EPSILON: f32 = 2e-3;
/// How far from the threshold the matte begins and ends to be opaque.
const SOFT: f32 = 0.3;

/// The matte of a picture: 0 where it is background, 255 where it is foreground, and in between at its edges.
pub fn matte(mask: &Mask, image: &RgbImage) -> GrayImage {
    let grid = (mask.width, mask.height);
    let (slope, offset) = coefficients(mask, &coarse(image, grid));
    let pixels = image.as_raw().as_chunks::<3>().0;
    let mut bytes = Vec::with_capacity(pixels.len());
    enlarge(
        [&slope, &offset, &mask.values],
        grid,
        image.dimensions(),
        |index, [slope, offset, value]| {
            let [red, green, blue] = pixels[index];
            let guided = slope * f32::from(luma(red, green, blue)) / 255.0 + offset;
            bytes.push(opacity(value, guided, mask.threshold));
        },
    );
    GrayImage::from_raw(image.width(), image.height(), bytes).expect("a value for each pixel")
}

/// The opacity of a pixel, from what the model says and what the filter makes of it.
fn opacity(value: f32, guided: f32, threshold: f32) -> u8 {
    // Where the model is sure, the filter has no say: a dark coat before a dark wall stays whole.
    let doubt = (1.0 - (2.0 * value - 1.0).abs()).clamp(0.0, 1.0);
    let value = value + doubt * (guided.clamp(0.0, 1.0) - value);
    let x = ((value - threshold) / (2.0 * SOFT) + 0.5).clamp(0.0, 1.0);
    (x * x * (3.0 - 2.0 * x) * 255.0).round() as u8
}

/// Brightness of a picture, 0 to 1, averaged over the places of a grid.
fn coarse(image: &RgbImage, (columns, rows): (usize, usize)) -> Vec<f32> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = image.as_raw().as_chunks::<3>().0;
    let span = |index: usize, count: usize, length: usize| {
        let start = (index * length / count).min(length - 1);
        start..((index + 1) * length / count).max(start + 1)
    };
    let mut out = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let lines = span(row, rows, height);
        for column in 0..columns {
            let across = span(column, columns, width);
            let sum: u32 = lines
                .clone()
                .flat_map(|line| &pixels[line * width..][across.clone()])
                .map(|&[red, green, blue]| u32::from(luma(red, green, blue)))
                .sum();
            out.push(sum as f32 / (lines.len() * across.len()) as f32 / 255.0);
        }
    }
    out
}

/// Slope and offset of the line that makes the mask of the brightness around each place.
fn coefficients(mask: &Mask, guide: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let grid = (mask.width, mask.height);
    let mean = |values: Vec<f32>| box_mean(&values, grid, RADIUS);
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<_>>();
    let mean_guide = mean(guide.to_vec());
    let mean_mask = mean(mask.values.clone());
    let guide_squared = mean(product(guide, guide));
    let guide_mask = mean(product(guide, &mask.values));
    let mut slope = Vec::with_capacity(guide.len());
    let mut offset = Vec::with_capacity(guide.len());
    for index in 0..guide.len() {
        let (guide, mask) = (mean_guide[index], mean_mask[index]);
        let variance = guide_squared[index] - guide * guide;
        let a = (guide_mask[index] - guide * mask) / (variance.max(0.0) + EPSILON);
        slope.push(a);
        offset.push(mask - a * guide);
    }
    (mean(slope), mean(offset))
}

/// The mean of the values within `radius` in each direction, as many as there are.
fn box_mean(values: &[f32], (width, height): (usize, usize), radius: usize) -> Vec<f32> {
    let across: Vec<f32> = values
        .chunks_exact(width)
        .flat_map(|row| means(row.iter().copied(), radius))
        .collect();
    let mut out = vec![0.0; values.len()];
    for column in 0..width {
        let line = across[column..].iter().step_by(width).copied();
        for (row, mean) in means(line, radius).into_iter().enumerate().take(height) {
            out[row * width + column] = mean;
        }
    }
    out
}

/// The same along one line.
fn means(line: impl Iterator<Item = f32>, radius: usize) -> Vec<f32> {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(line.scan(0.0, |sum, value| {
            *sum += f64::from(value);
            Some(*sum)
        }))
        .collect();
    let length = sums.len() - 1;
    (0..length)
        .map(|index| {
            let (first, last) = (
                index.saturating_sub(radius),
                (index + radius + 1).min(length),
            );
            ((sums[last] - sums[first]) / (last - first) as f64) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_the_mean_of_what_is_there() {
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let means = box_mean(&values, (4, 3), 1);
        assert_eq!(means[0], (1.0 + 4.0 + 5.0) / 4.0);
        assert_eq!(means[5], 5.0);
        assert_eq!(box_mean(&values, (4, 3), 9), [5.5; 12]);
    }

    #[test]
    fn an_edge_bends_to_the_pictures_own() {
        // Bright on the left up to column 36 of 64; the mask, four pixels a place, wavers between 28 and 44.
        let image = RgbImage::from_fn(64, 64, |x, _| {
            image::Rgb([if x < 36 { 220 } else { 30 }; 3])
        });
        let row: Vec<f32> = (0..16)
            .map(|column| match column {
                ..7 => 1.0,
                7..11 => 0.5,
                _ => 0.0,
            })
            .collect();
        let mask = Mask {
            width: 16,
            height: 16,
            values: row.repeat(16),
            threshold: 0.5,
        };
        let matte = matte(&mask, &image);
        let at = |x: u32| matte.get_pixel(x, 32)[0];
        assert_eq!((at(4), at(60)), (255, 0));
        assert!(at(34) > 200 && at(37) < 55, "{} {}", at(34), at(37));
        // A picture without any edge keeps the mask's own.
        let plain = super::matte(&mask, &RgbImage::from_pixel(64, 64, image::Rgb([128; 3])));
        let middle = plain.get_pixel(36, 32)[0];
        assert!((90..=165).contains(&middle), "{middle}");
    }

    #[test]
    fn where_the_model_is_sure_it_is_believed() {
        for guided in [-3.0, 0.0, 0.5, 1.0, 7.0] {
            assert_eq!(opacity(1.0, guided, 0.5), 255);
            assert_eq!(opacity(0.0, guided, 0.5), 0);
        }
    }
}
