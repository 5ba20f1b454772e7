//! A picture's foreground over another background.

use std::str::FromStr;

use fast_image_resize::Resizer;
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};

use super::blur;
use super::input::resized;

/// What becomes of the background.
#[derive(Clone, Debug, PartialEq)]
pub enum Background {
    /// It is blurred: with a strength of 0 to 1.
    Blur(f64),
    /// It becomes transparent.
    Remove,
    /// It has one colour: red, green, blue.
    Colour([u8; 3]),
    /// It is another picture, which covers it.
    Picture(RgbImage),
}

/// The strongest blur, as a part of the picture's shorter side: nothing can be made out.
const SIGMA_MAX: f64 = 0.06;

/// Puts foregrounds over one sort of background; keeps what it needs between pictures.
pub struct Composer {
    background: Background,
    resizer: Resizer,
    /// The background picture in the size of the last one.
    covering: Option<RgbImage>,
}

impl Composer {
    /// For pictures that get this background.
    pub fn new(background: Background) -> Self {
        Self {
            background,
            resizer: Resizer::new(),
            covering: None,
        }
    }

    /// Whether what comes out has transparent parts.
    pub fn has_alpha(&self) -> bool {
        self.background == Background::Remove
    }

    /// The picture with its background replaced, where the matte says so.
    ///
    /// # Panics
    /// If picture and matte differ in size.
    pub fn compose(&mut self, image: &RgbImage, matte: &GrayImage) -> DynamicImage {
        assert_eq!(
            image.dimensions(),
            matte.dimensions(),
            "a matte of another size"
        );
        match &self.background {
            Background::Remove => DynamicImage::ImageRgba8(cut_out(image, matte)),
            Background::Colour(colour) => over(image, matte, std::iter::repeat(*colour)).into(),
            Background::Blur(strength) => {
                let shorter = image.width().min(image.height());
                let sigma = (strength * SIGMA_MAX * f64::from(shorter)).max(0.5);
                let blurred = blur::background(image, matte, sigma, &mut self.resizer);
                over(image, matte, pixels(&blurred)).into()
            }
            Background::Picture(picture) => {
                let covering = self
                    .covering
                    .take()
                    .filter(|covering| covering.dimensions() == image.dimensions())
                    .unwrap_or_else(|| covering(picture, image.dimensions(), &mut self.resizer));
                let out = over(image, matte, pixels(&covering)).into();
                self.covering = Some(covering);
                out
            }
        }
    }
}

fn pixels(image: &RgbImage) -> impl Iterator<Item = [u8; 3]> {
    image.as_raw().as_chunks().0.iter().copied()
}

/// As much of the middle of a picture as has the shape, in the size.
fn covering(picture: &RgbImage, size: (u32, u32), resizer: &mut Resizer) -> RgbImage {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let scale = (f64::from(size.0) / width).max(f64::from(size.1) / height);
    let (w, h) = (
        (f64::from(size.0) / scale).min(width),
        (f64::from(size.1) / scale).min(height),
    );
    resized(
        resizer,
        picture,
        [(width - w) / 2.0, (height - h) / 2.0, w, h],
        size,
    )
}

fn over(image: &RgbImage, matte: &GrayImage, behind: impl Iterator<Item = [u8; 3]>) -> RgbImage {
    let mut out = image.clone();
    let mixed = out.as_chunks_mut::<3>().0.iter_mut();
    for ((pixel, behind), &alpha) in mixed.zip(behind).zip(matte.as_raw()) {
        for (value, behind) in pixel.iter_mut().zip(behind) {
            *value = mix(*value, behind, alpha);
        }
    }
    out
}

/// `alpha` 255ths of the first, the rest of the second, rounded.
fn mix(front: u8, back: u8, alpha: u8) -> u8 {
    let sum = u32::from(front) * u32::from(alpha) + u32::from(back) * u32::from(255 - alpha);
    ((sum + 127) / 255) as u8
}

fn cut_out(image: &RgbImage, matte: &GrayImage) -> RgbaImage {
    let bytes = pixels(image)
        .zip(matte.as_raw())
        .flat_map(|([red, green, blue], &alpha)| [red, green, blue, alpha]);
    RgbaImage::from_raw(image.width(), image.height(), bytes.collect())
        .expect("four bytes for each pixel")
}

/// A colour as people write it: `#1e90ff`, or one of a few names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

const NAMES: [(&str, [u8; 3]); 6] = [
    ("black", [0; 3]),
    ("white", [255; 3]),
    ("grey", [128; 3]),
    // What films are shot before.
    ("green", [0, 177, 64]),
    ("blue", [0, 71, 187]),
    ("red", [255, 0, 0]),
];

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, colour)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*colour));
        }
        let digits = text.strip_prefix('#').filter(|digits| {
            digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        match digits.map(|digits| u32::from_str_radix(digits, 16)) {
            Some(Ok(value)) => {
                let [_, red, green, blue] = value.to_be_bytes();
                Ok(Self([red, green, blue]))
            }
            _ => {
                let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
                Err(format!(
                    "{text:?} is no colour; write #RRGGBB or one of {}",
                    names.join(", ")
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read() {
        for (text, want) in [
            ("#1e90FF", Some([0x1e, 0x90, 0xff])),
            ("white", Some([255; 3])),
            ("#12345", None),
            ("#+12345", None),
            ("mauve", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), want.map(Colour), "{text:?}");
        }
    }

    #[test]
    fn the_foreground_stays_and_the_rest_changes() {
        let image = RgbImage::from_fn(4, 1, |x, _| image::Rgb([x as u8 * 10; 3]));
        let matte = GrayImage::from_raw(4, 1, vec![0, 255, 128, 51]).expect("fits");
        let reds = |image: &DynamicImage| -> Vec<u8> {
            image.to_rgb8().pixels().map(|pixel| pixel[0]).collect()
        };
        let coloured = Composer::new(Background::Colour([200, 0, 0])).compose(&image, &matte);
        assert_eq!(reds(&coloured), [200, 10, 110, 166]);

        let mut composer = Composer::new(Background::Remove);
        let removed = composer.compose(&image, &matte);
        assert!(composer.has_alpha() && removed.color().has_alpha());
        let alphas: Vec<u8> = removed.to_rgba8().pixels().map(|pixel| pixel[3]).collect();
        assert_eq!(alphas, [0, 255, 128, 51]);
        assert_eq!(reds(&removed), [0, 10, 20, 30]);

        // The middle of a taller picture covers a wider one; another size is made anew.
        let tall = RgbImage::from_fn(2, 6, |_, y| image::Rgb([if y < 2 { 0 } else { 100 }; 3]));
        let mut composer = Composer::new(Background::Picture(tall));
        assert_eq!(reds(&composer.compose(&image, &matte)), [100, 10, 60, 86]);
        let (one, none) = (RgbImage::new(2, 6), GrayImage::new(2, 6));
        assert_eq!(reds(&composer.compose(&one, &none))[0], 0);
    }
}
