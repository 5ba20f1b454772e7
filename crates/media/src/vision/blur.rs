//! A blur of the background in which nothing of the foreground shines through.
//!
//! A blurred picture with a person cut out of it has a halo: the person's colours have run over the edge. So each pixel
//! counts only as far as it is background. Three passes of a box in each direction are as good as a Gaussian, and a
//! blurred picture has no small things in it, so all this is done on a smaller one.

use fast_image_resize::Resizer;
use image::{GrayImage, RgbImage};

use super::input::resized;

/// The smaller picture's blur, in its own pixels: enough for a smooth result.
const RADIUS_SMALL: f64 = 4.0;
/// Weight of pixels that are wholly foreground: what lies behind them is unknown, yet has to have a colour.
const WEIGHT_MIN: f32 = 1e-4;
/// Passes that make a box nearly a Gaussian.
const PASSES: usize = 3;

/// The picture's background, blurred to a standard deviation of `sigma` pixels.
pub(super) fn background(
    image: &RgbImage,
    matte: &GrayImage,
    sigma: f64,
    resizer: &mut Resizer,
) -> RgbImage {
    // A whole number, so that each of the smaller pixels stands for as many.
    let shrink = (sigma / RADIUS_SMALL).floor().max(1.0);
    let side = |length: u32| ((f64::from(length) / shrink).round() as u32).max(1);
    let (width, height) = (side(image.width()), side(image.height()));
    let mut pixels = shrunk(image, matte, (width, height));
    let radius = box_radius(sigma / shrink);
    let (columns, rows) = (width as usize, height as usize);
    let mut other = vec![[0.0; 4]; pixels.len()];
    for _ in 0..PASSES {
        // A pass along the rows writes columns, so two of them do both directions.
        pass(&pixels, &mut other, columns, radius);
        pass(&other, &mut pixels, rows, radius);
    }
    let bytes = pixels.iter().flat_map(|&[red, green, blue, weight]| {
        [red, green, blue].map(|value| (value / weight).round().clamp(0.0, 255.0) as u8)
    });
    let small = RgbImage::from_raw(width, height, bytes.collect()).expect("as many as before");
    let whole = [0.0, 0.0, f64::from(width), f64::from(height)];
    resized(resizer, &small, whole, image.dimensions())
}

/// A smaller picture: the mean colours of what is background in each place, multiplied by how much that is, and this
/// weight.
fn shrunk(image: &RgbImage, matte: &GrayImage, (width, height): (u32, u32)) -> Vec<[f32; 4]> {
    let (columns, rows) = (width as usize, height as usize);
    let (wide, high) = (image.width() as usize, image.height() as usize);
    let mut places = vec![[0.0f32; 4]; columns * rows];
    let mut counts = vec![0.0f32; columns * rows];
    let lines = image.as_raw().as_chunks::<3>().0.chunks_exact(wide);
    for (y, (line, alphas)) in lines.zip(matte.as_raw().chunks_exact(wide)).enumerate() {
        let row = y * rows / high * columns;
        for (x, (pixel, &alpha)) in line.iter().zip(alphas).enumerate() {
            let background = f32::from(255 - alpha) / 255.0;
            // Squared: a pixel that is half foreground has its colours.
            let weight = (background * background).max(WEIGHT_MIN);
            let [red, green, blue] = pixel.map(|value| f32::from(value) * weight);
            let place = row + x * columns / wide;
            add(&mut places[place], [red, green, blue, weight], 1.0);
            counts[place] += 1.0;
        }
    }
    for (place, count) in places.iter_mut().zip(counts) {
        *place = place.map(|value| value / count);
    }
    places
}

/// The box that, in [`PASSES`] passes, spreads as far as a Gaussian of `sigma`: each pass of `2 r + 1` pixels adds a
/// variance of `((2 r + 1)² − 1) / 12`.
fn box_radius(sigma: f64) -> usize {
    let side = (12.0 * sigma * sigma / PASSES as f64 + 1.0).sqrt();
    (((side - 1.0) / 2.0).round() as usize).max(1)
}

/// Sums along each row of `width` pixels, edges continued; what was row by row comes out column by column.
fn pass(from: &[[f32; 4]], to: &mut [[f32; 4]], width: usize, radius: usize) {
    let height = from.len() / width;
    let scale = 1.0 / (2 * radius + 1) as f32;
    for (y, row) in from.chunks_exact(width).enumerate() {
        let at = |x: isize| row[x.clamp(0, width as isize - 1) as usize];
        let reach = radius as isize;
        let mut sum = [0.0f32; 4];
        for x in -reach..=reach {
            add(&mut sum, at(x), 1.0);
        }
        for x in 0..width {
            to[x * height + y] = sum.map(|value| value * scale);
            add(&mut sum, at(x as isize + reach + 1), 1.0);
            add(&mut sum, at(x as isize - reach), -1.0);
        }
    }
}

fn add(sum: &mut [f32; 4], pixel: [f32; 4], sign: f32) {
    for (sum, value) in sum.iter_mut().zip(pixel) {
        *sum += sign * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_wall_stays_plain_and_the_person_does_not_shine_through() {
        let wall = [40, 90, 200];
        let image = RgbImage::from_fn(120, 80, |x, _| {
            image::Rgb(if (40..80).contains(&x) {
                [255, 0, 0]
            } else {
                wall
            })
        });
        let matte = GrayImage::from_fn(120, 80, |x, _| {
            image::Luma([if (40..80).contains(&x) { 255 } else { 0 }])
        });
        for sigma in [1.0, 3.0, 12.0, 60.0] {
            let blurred = background(&image, &matte, sigma, &mut Resizer::new());
            for x in [0, 20, 37, 82, 119] {
                let have = blurred.get_pixel(x, 40).0;
                let near = have.iter().zip(wall).all(|(a, b)| a.abs_diff(b) <= 6);
                assert!(near, "{sigma}: {x}: {have:?}");
            }
        }
    }

    #[test]
    fn it_spreads_as_far_as_it_should() {
        let sigma = 6.0;
        let mut image = RgbImage::new(201, 41);
        (0..41).for_each(|y| image.put_pixel(100, y, image::Rgb([255; 3])));
        let matte = GrayImage::new(201, 41);
        let blurred = background(&image, &matte, sigma, &mut Resizer::new());
        let row: Vec<f64> = (0..201)
            .map(|x| f64::from(blurred.get_pixel(x, 20)[0]))
            .collect();
        let sum: f64 = row.iter().sum();
        let variance: f64 = row
            .iter()
            .enumerate()
            .map(|(x, value)| value * (x as f64 - 100.0).powi(2))
            .sum::<f64>()
            / sum;
        assert!((variance.sqrt() - sigma).abs() < 1.5, "{}", variance.sqrt());
        assert!((sum - 255.0).abs() < 40.0, "{sum}");
    }

    #[test]
    fn a_picture_of_one_pixel_is_blurred_too() {
        let image = RgbImage::from_pixel(1, 1, image::Rgb([7, 8, 9]));
        for value in [0, 255] {
            let matte = GrayImage::from_pixel(1, 1, image::Luma([value]));
            let blurred = background(&image, &matte, 5.0, &mut Resizer::new());
            assert_eq!(blurred, image);
        }
    }
}
