//! Digits drawn with a round pen, as a hand would: truth that needs no data.

use image::RgbImage;

type Line = &'static [(f64, f64)];

/// The strokes of each digit, in a box of 28 by 28.
const STROKES: [&[Line]; 10] = [
    &[&[
        (14., 5.),
        (9., 8.),
        (8., 14.),
        (9., 20.),
        (14., 23.),
        (19., 20.),
        (20., 14.),
        (19., 8.),
        (14., 5.),
    ]],
    &[&[(14., 5.), (14., 23.)]],
    &[&[
        (9., 9.),
        (11., 6.),
        (15., 5.),
        (19., 8.),
        (18., 12.),
        (9., 22.),
        (20., 22.),
    ]],
    &[&[
        (9., 6.),
        (18., 6.),
        (13., 12.),
        (18., 15.),
        (18., 20.),
        (13., 23.),
        (9., 21.),
    ]],
    &[
        &[(11., 5.), (9., 15.), (20., 15.)],
        &[(17., 6.), (17., 23.)],
    ],
    &[&[
        (18., 6.),
        (10., 6.),
        (10., 13.),
        (15., 12.),
        (19., 16.),
        (17., 21.),
        (13., 23.),
        (9., 21.),
    ]],
    &[&[
        (16., 5.),
        (10., 12.),
        (9., 18.),
        (12., 23.),
        (17., 22.),
        (18., 17.),
        (14., 14.),
        (10., 17.),
    ]],
    &[&[(8., 6.), (19., 6.), (13., 23.)]],
    &[
        &[(14., 5.), (10., 8.), (14., 13.), (18., 8.), (14., 5.)],
        &[(14., 13.), (9., 18.), (14., 23.), (19., 18.), (14., 13.)],
    ],
    &[&[
        (18., 10.),
        (14., 13.),
        (10., 10.),
        (13., 6.),
        (18., 7.),
        (18., 12.),
        (16., 23.),
    ]],
];

/// From the middle of a stroke to where its edge begins to fade.
const PEN: f64 = 1.2;

/// A digit, white on black, on so many pixels in each direction.
pub(crate) fn draw(digit: usize, side: u32) -> RgbImage {
    let unit = f64::from(side) / 28.0;
    RgbImage::from_fn(side, side, |x, y| {
        let at = ((f64::from(x) + 0.5) / unit, (f64::from(y) + 0.5) / unit);
        let lines = STROKES[digit].iter().flat_map(|line| line.windows(2));
        let distance = lines
            .map(|ends| distance(at, ends[0], ends[1]))
            .fold(f64::INFINITY, f64::min);
        let ink = (PEN + 0.5 - distance).clamp(0.0, 1.0) * 255.0;
        image::Rgb([ink.round() as u8; 3])
    })
}

fn distance(at: (f64, f64), from: (f64, f64), to: (f64, f64)) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let along = ((at.0 - from.0) * dx + (at.1 - from.1) * dy) / (dx * dx + dy * dy);
    let along = along.clamp(0.0, 1.0);
    (at.0 - from.0 - along * dx).hypot(at.1 - from.1 - along * dy)
}
