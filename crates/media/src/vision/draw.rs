//! Boxes and their labels, drawn into a picture.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts as _};
use image::{Rgb, RgbImage};

use super::Detection;

/// Colours that are told apart, also by those who see red and green alike (Okabe and Ito, "Color Universal Design").
const COLOURS: [[u8; 3]; 7] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];
const INK: Rgb<u8> = Rgb([0; 3]);
/// Sides of a letter, in dots.
const LETTER: u32 = 8;
/// A picture with a shorter side of this many pixels has lines of one pixel.
const SIDE_OF_A_LINE: u32 = 300;

/// Draws each box in the colour of its class, with the class and its score above it.
pub fn detections(image: &mut RgbImage, detections: &[Detection]) {
    let line = (image.width().min(image.height()) / SIDE_OF_A_LINE).max(1);
    // The surest is drawn last, so that it is not hidden.
    for detection in detections.iter().rev() {
        let colour = Rgb(COLOURS[detection.index % COLOURS.len()]);
        let [left, top, right, bottom] = detection.corners.map(|place| place.round() as u32);
        frame(image, [left, top, right, bottom], line, colour);
        let text = format!("{} {:.0}%", detection.label, detection.score * 100.0);
        let height = (LETTER + 2) * line;
        // Above the box, or inside of it where there is no room.
        let y = top.checked_sub(height).unwrap_or(top);
        label(image, (left, y), &text, line, colour);
    }
}

fn fill(image: &mut RgbImage, [left, top, right, bottom]: [u32; 4], colour: Rgb<u8>) {
    for y in top..bottom.min(image.height()) {
        for x in left..right.min(image.width()) {
            image.put_pixel(x, y, colour);
        }
    }
}

fn frame(image: &mut RgbImage, [left, top, right, bottom]: [u32; 4], line: u32, colour: Rgb<u8>) {
    let inner = |near: u32, far: u32| ((near + line).min(far), far.saturating_sub(line).max(near));
    let (x_near, x_far) = inner(left, right);
    let (y_near, y_far) = inner(top, bottom);
    fill(image, [left, top, right, y_near], colour);
    fill(image, [left, y_far, right, bottom], colour);
    fill(image, [left, top, x_near, bottom], colour);
    fill(image, [x_far, top, right, bottom], colour);
}

fn label(image: &mut RgbImage, (left, top): (u32, u32), text: &str, dot: u32, colour: Rgb<u8>) {
    let letters = text.chars().count() as u32;
    let right = left + (letters * LETTER + 2) * dot;
    fill(image, [left, top, right, top + (LETTER + 2) * dot], colour);
    for (number, letter) in (0..).zip(text.chars()) {
        let glyph = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
        // A letter that the font lacks is a block.
        let glyph = glyph.unwrap_or([0xff; 8]);
        for (row, bits) in (0..).zip(glyph) {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let x = left + (1 + number * LETTER + column) * dot;
                let y = top + (1 + row) * dot;
                fill(image, [x, y, x + dot, y + dot], INK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(corners: [f32; 4]) -> Detection {
        Detection {
            label: "I".to_owned(),
            index: 1,
            score: 0.5,
            corners,
        }
    }

    #[test]
    fn a_box_is_a_frame_with_a_label_above() {
        let mut image = RgbImage::from_pixel(100, 100, Rgb([9; 3]));
        detections(&mut image, &[detection([20.0, 40.0, 80.0, 90.0])]);
        let at = |x: u32, y: u32| image.get_pixel(x, y).0;
        for (x, y) in [(20, 40), (79, 40), (20, 89), (79, 89), (50, 40), (20, 60)] {
            assert_eq!(at(x, y), COLOURS[1], "{x} {y}");
        }
        for (x, y) in [(19, 60), (80, 60), (50, 90), (50, 60)] {
            assert_eq!(at(x, y), [9; 3], "{x} {y}");
        }
        // The letter I has a stem.
        assert_eq!((at(20, 30), at(24, 34)), (COLOURS[1], INK.0));
    }

    #[test]
    fn nothing_is_drawn_beside_the_picture() {
        let mut image = RgbImage::new(5, 3);
        for corners in [
            [0.0, 0.0, 5.0, 3.0],
            [4.6, 2.6, 5.0, 3.0],
            [0.0, 0.0, 0.2, 0.2],
        ] {
            detections(&mut image, &[detection(corners)]);
        }
    }
}
