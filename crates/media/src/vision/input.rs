//! From a picture to a model's input, and where its pixels have gone.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use troika_device_npu::exec::{Data, Tensor};

use crate::card::{Colour, Invert, Layout, Numbers, Picture, Resize};

/// How the pixels of a picture lie in the model's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placement {
    /// Width and height of the model's picture.
    pub(super) size: (u32, u32),
    /// Pixels of the model for one of the picture, from left to right and from top to bottom.
    scale: (f32, f32),
    /// Where the picture's corner lies among the model's pixels. Negative where something was cut off.
    corner: (f32, f32),
}

impl Placement {
    /// A point of the model's picture in the picture it was made of.
    pub(super) fn back(&self, x: f32, y: f32) -> (f32, f32) {
        (
            (x - self.corner.0) / self.scale.0,
            (y - self.corner.1) / self.scale.1,
        )
    }

    /// Left, top, width and height of the picture, as parts of the model's.
    pub(super) fn region(&self, picture: (u32, u32)) -> [f32; 4] {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        [
            self.corner.0 / width,
            self.corner.1 / height,
            picture.0 as f32 * self.scale.0 / width,
            picture.1 as f32 * self.scale.1 / height,
        ]
    }
}

/// Part of a picture, and the size it gets.
struct Plan {
    /// Left, top, width, height in the picture.
    from: [f64; 4],
    /// Width and height.
    to: (u32, u32),
    /// Left and top in the model's picture.
    at: (u32, u32),
}

fn plan(how: Resize, picture: (u32, u32), model: (u32, u32)) -> Plan {
    let whole = [0.0, 0.0, f64::from(picture.0), f64::from(picture.1)];
    let ratio = (f64::from(model.0) / whole[2], f64::from(model.1) / whole[3]);
    match how {
        Resize::Stretch => Plan {
            from: whole,
            to: model,
            at: (0, 0),
        },
        Resize::Fit => {
            let scale = ratio.0.min(ratio.1);
            let side = |length: f64, max: u32| ((length * scale).round() as u32).clamp(1, max);
            let to = (side(whole[2], model.0), side(whole[3], model.1));
            Plan {
                from: whole,
                to,
                at: ((model.0 - to.0) / 2, (model.1 - to.1) / 2),
            }
        }
        Resize::Crop => {
            let scale = ratio.0.max(ratio.1);
            let side = |length: u32, max: f64| (f64::from(length) / scale).min(max);
            let (width, height) = (side(model.0, whole[2]), side(model.1, whole[3]));
            Plan {
                from: [
                    (whole[2] - width) / 2.0,
                    (whole[3] - height) / 2.0,
                    width,
                    height,
                ],
                to: model,
                at: (0, 0),
            }
        }
    }
}

impl Plan {
    fn placement(&self, model: (u32, u32)) -> Placement {
        let [left, top, width, height] = self.from;
        let scale = (f64::from(self.to.0) / width, f64::from(self.to.1) / height);
        Placement {
            size: model,
            scale: (scale.0 as f32, scale.1 as f32),
            corner: (
                (f64::from(self.at.0) - left * scale.0) as f32,
                (f64::from(self.at.1) - top * scale.1) as f32,
            ),
        }
    }
}

/// A part of a picture in another size. Where it gets smaller, every pixel counts.
pub(super) fn resized(
    resizer: &mut Resizer,
    image: &RgbImage,
    from: [f64; 4],
    to: (u32, u32),
) -> RgbImage {
    if to == image.dimensions() && from == [0.0, 0.0, f64::from(to.0), f64::from(to.1)] {
        return image.clone();
    }
    let [left, top, width, height] = from;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, width, height);
    let source = ImageRef::new(
        image.width(),
        image.height(),
        image.as_raw(),
        PixelType::U8x3,
    )
    .expect("a picture has three bytes for each pixel");
    let mut target = Image::new(to.0, to.1, PixelType::U8x3);
    resizer
        .resize(&source, &mut target, &options)
        .expect("the part lies inside of the picture. This is a bug.");
    RgbImage::from_raw(to.0, to.1, target.into_vec())
        .expect("a picture has three bytes for each pixel")
}

/// Makes a model's input of a picture.
pub(super) fn tensor(
    card: &Picture,
    image: &RgbImage,
    resizer: &mut Resizer,
) -> (Tensor, Placement) {
    let model = (card.size.width, card.size.height);
    let plan = plan(card.resize, image.dimensions(), model);
    let part = resized(resizer, image, plan.from, plan.to);
    let inverts = match card.invert {
        Invert::Never => false,
        Invert::Always => true,
        Invert::Bright => edge_is_bright(&part),
    };
    let channels = card.colour.channels();
    let (width, height) = (model.0 as usize, model.1 as usize);
    // Where a number stands: `[pixel, channel]` strides.
    let (per_pixel, per_channel) = match card.layout {
        Layout::Nchw => (1, width * height),
        Layout::Nhwc => (channels, 1),
    };
    let mut bytes = vec![card.pad; width * height * channels];
    let row_bytes = part.width() as usize * 3;
    for (y, row) in part.as_raw().chunks_exact(row_bytes).enumerate() {
        let start = (y + plan.at.1 as usize) * width + plan.at.0 as usize;
        for (x, &[red, green, blue]) in row.as_chunks().0.iter().enumerate() {
            let mut pixel = match card.colour {
                Colour::Rgb => [red, green, blue],
                Colour::Bgr => [blue, green, red],
                Colour::Grey => [luma(red, green, blue); 3],
            };
            if inverts {
                pixel = pixel.map(|value| 255 - value);
            }
            for (channel, value) in pixel[..channels].iter().enumerate() {
                bytes[(start + x) * per_pixel + channel * per_channel] = *value;
            }
        }
    }
    let data = match card.numbers {
        Numbers::U8 => Data::U8(bytes),
        Numbers::F32 => Data::F32(scaled(card, &bytes, (per_pixel, per_channel))),
    };
    let shape = match card.layout {
        Layout::Nchw => vec![1, channels, height, width],
        Layout::Nhwc => vec![1, height, width, channels],
    };
    (Tensor { shape, data }, plan.placement(model))
}

/// Each byte as the number that stands for it in its channel.
fn scaled(card: &Picture, bytes: &[u8], (per_pixel, per_channel): (usize, usize)) -> Vec<f32> {
    let tables: Vec<[f32; 256]> = (0..card.colour.channels())
        .map(|channel| {
            let (mean, std) = (card.mean.of(channel), card.std.of(channel));
            std::array::from_fn(|value| (value as f32 * card.scale.get() - mean) / std)
        })
        .collect();
    let numbers = bytes.iter().enumerate().map(|(index, &value)| {
        let channel = match per_channel {
            1 => index % per_pixel,
            plane => index / plane,
        };
        tables[channel][usize::from(value)]
    });
    numbers.collect()
}

/// Brightness by Rec. 601.
pub(super) fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    ((sum + 500) / 1000) as u8
}

/// Whether the pixels along the four sides are rather white than black.
fn edge_is_bright(image: &RgbImage) -> bool {
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    let across = (0..=right).flat_map(|x| [(x, 0), (x, bottom)]);
    let down = (0..=bottom).flat_map(|y| [(0, y), (right, y)]);
    let (mut sum, mut count) = (0u64, 0u64);
    for (x, y) in across.chain(down) {
        let [red, green, blue] = image.get_pixel(x, y).0;
        sum += u64::from(luma(red, green, blue));
        count += 1;
    }
    sum > 127 * count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(text: &str) -> Picture {
        toml::from_str(text).expect("is a section of a card")
    }

    fn floats(tensor: Tensor) -> Vec<f32> {
        match tensor.data {
            Data::F32(values) => values,
            other => panic!("not floats: {other:?}"),
        }
    }

    #[test]
    fn pixels_stand_where_the_card_says() {
        let image = RgbImage::from_fn(2, 1, |x, _| image::Rgb([x as u8 * 100, 10, 20]));
        let of = |text: &str| floats(tensor(&card(text), &image, &mut Resizer::new()).0);
        assert_eq!(
            of("size = [2, 1]\nscale = 1.0"),
            [0.0, 100.0, 10.0, 10.0, 20.0, 20.0]
        );
        assert_eq!(
            of("size = [2, 1]\nscale = 1.0\nlayout = \"nhwc\"\ncolour = \"bgr\""),
            [20.0, 10.0, 0.0, 20.0, 10.0, 100.0]
        );
        assert_eq!(
            of("size = [2, 1]\nscale = 0.5\nmean = [0.0, 1.0, 2.0]\nstd = [1.0, 2.0, 4.0]"),
            [0.0, 50.0, 2.0, 2.0, 2.0, 2.0]
        );
        let grey = of("size = [2, 1]\nscale = 1.0\ncolour = \"grey\"\ninvert = \"always\"");
        assert_eq!(grey, [255.0 - 8.0, 255.0 - 38.0]);
        let (bytes, _) = tensor(
            &card("size = [2, 1]\nnumbers = \"u8\""),
            &image,
            &mut Resizer::new(),
        );
        assert_eq!(bytes.data, Data::U8(vec![0, 100, 10, 10, 20, 20]));
    }

    #[test]
    fn what_was_fitted_is_found_again() {
        let image = RgbImage::from_pixel(200, 100, image::Rgb([255; 3]));
        let fit = card("size = [64, 64]\nresize = \"fit\"\npad = 7\nscale = 1.0");
        let (input, placement) = tensor(&fit, &image, &mut Resizer::new());
        let rows: Vec<f32> = floats(input)
            .chunks(64)
            .take(64)
            .map(|row| row[5])
            .collect();
        assert_eq!(rows.iter().filter(|&&value| value == 7.0).count(), 32);
        assert_eq!(rows[16..48], [255.0; 32]);
        assert_eq!(placement.back(0.0, 16.0), (0.0, 0.0));
        assert_eq!(placement.back(64.0, 48.0), (200.0, 100.0));
        assert_eq!(placement.region((200, 100)), [0.0, 0.25, 1.0, 0.5]);

        let crop = card("size = [50, 50]\nresize = \"crop\"");
        let (_, placement) = tensor(&crop, &image, &mut Resizer::new());
        assert_eq!(placement.back(0.0, 0.0), (50.0, 0.0));
        assert_eq!(placement.back(50.0, 50.0), (150.0, 100.0));
    }

    #[test]
    fn extreme_shapes_keep_a_pixel() {
        let line = RgbImage::from_pixel(3000, 1, image::Rgb([9; 3]));
        for resize in ["fit", "crop", "stretch"] {
            let card = card(&format!("size = [32, 32]\nresize = \"{resize}\""));
            let (input, placement) = tensor(&card, &line, &mut Resizer::new());
            assert_eq!(floats(input).len(), 3 * 32 * 32);
            let (x, y) = placement.back(16.0, 16.0);
            assert!(
                (0.0..=3000.0).contains(&x) && (0.0..=1.0).contains(&y),
                "{resize}: {x} {y}"
            );
        }
    }

    #[test]
    fn paper_is_told_from_blackboard() {
        let mut image = RgbImage::from_pixel(8, 8, image::Rgb([250; 3]));
        image.put_pixel(4, 4, image::Rgb([0; 3]));
        let card = card("size = [8, 8]\ncolour = \"grey\"\nscale = 1.0\ninvert = \"bright\"");
        let of = |image: &RgbImage| floats(tensor(&card, image, &mut Resizer::new()).0);
        let paper = of(&image);
        assert_eq!((paper[0], paper[4 * 8 + 4]), (5.0, 255.0));
        for pixel in image.pixels_mut() {
            pixel.0 = pixel.0.map(|value| 255 - value);
        }
        assert_eq!(of(&image), paper);
    }
}
