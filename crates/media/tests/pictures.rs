//! Real models on real pictures, and a synthetic detector whose every box is known.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod digits;

use std::path::{Path, PathBuf};

use common::shared;
use image::{GrayImage, RgbImage};
use troika_device_npu::exec::{Wish, open};
use troika_media::card::Card;
use troika_media::vision::{Error, Mask, Model, matte, picture};

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn model(path: &Path) -> Model {
    let wish = Wish::parse("cpu0", "rten").unwrap();
    let executor = open(path, &wish).unwrap().executor;
    let card = Card::of_model(path, executor.inputs(), executor.outputs()).unwrap();
    Model::open(executor, card).unwrap()
}

/// Intersection over union of what is foreground in both, where the reference has looked.
fn agreement(reference: &GrayImage, foreground: impl Fn(u32, u32) -> bool) -> f64 {
    let (mut both, mut either) = (0, 0);
    for (x, y, value) in reference.enumerate_pixels() {
        let (want, have) = (value[0] > 0, foreground(4 * x + 2, 4 * y + 2));
        both += u32::from(want && have);
        either += u32::from(want || have);
    }
    f64::from(both) / f64::from(either)
}

#[test]
fn the_mask_of_a_person_is_that_of_onnx_runtime() {
    let (Some(path), Some(file)) = (
        shared("vision/selfie_segmentation_landscape.onnx"),
        shared("vision/sergey.png"),
    ) else {
        return;
    };
    let reference = image::open(own("sergey_mask.png")).unwrap().into_luma8();
    let image = picture::open(&file).unwrap();
    let mut model = model(&path);
    assert_eq!(
        model.card().title.as_deref(),
        Some("MediaPipe selfie segmentation (landscape)")
    );
    let mask = model.segment(&image).unwrap();
    let plain = mask.resized(600, 600);
    let matte = matte::matte(&mask, &image);
    let of = |image: &GrayImage| agreement(&reference, |x, y| image.get_pixel(x, y)[0] >= 128);
    println!(
        "IoU with ONNX Runtime: mask {:.4}, matte {:.4}",
        of(&plain),
        of(&matte)
    );
    assert!(of(&plain) >= 0.99, "{}", of(&plain));
    assert!(of(&matte) >= 0.98, "{}", of(&matte));
    // The test can fail: a mask of another place does not agree.
    let shifted = agreement(&reference, |x, y| {
        plain.get_pixel((x + 24) % 600, y)[0] >= 128
    });
    assert!(shifted < 0.97, "{shifted}");
    assert!(
        (mask.coverage() - 0.643).abs() < 0.005,
        "{}",
        mask.coverage()
    );
}

#[test]
fn digits_are_read_as_onnx_runtime_reads_them() {
    // Probability of the digit that was drawn, by ONNX Runtime 1.31.1 on the same 28 by 28 pixels.
    for (name, want) in [
        (
            "mnist-8.onnx",
            [
                1.0, 0.99999, 1.0, 1.0, 1.0, 1.0, 0.99999, 1.0, 0.99989, 0.99827,
            ],
        ),
        (
            "mnist.onnx",
            [
                0.50015, 0.99596, 0.37059, 0.8133, 0.59294, 0.5192, 0.38644, 0.97312, 0.88329,
                0.57643,
            ],
        ),
        (
            "cnn_mnist_pytorch.onnx",
            [
                1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.99994, 0.99791, 0.93691, 0.9984,
            ],
        ),
    ] {
        let Some(path) = shared(&format!("vision/{name}")) else {
            continue;
        };
        let mut model = model(&path);
        for (digit, want) in want.into_iter().enumerate() {
            let labels = model.classify(&digits::draw(digit, 28)).unwrap();
            assert_eq!(labels.len(), 10);
            let first = &labels[0];
            assert_eq!(
                (first.index, &*first.label),
                (digit, &*digit.to_string()),
                "{name}"
            );
            assert!(
                (first.score - want).abs() < 2e-4,
                "{name}: {digit}: {first:?}, not {want}"
            );
            let sum: f32 = labels.iter().map(|label| label.score).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{name}: {sum}");
        }
        // The same on paper, larger, and in the middle of a wide page, which makes it smaller again; the least sure of
        // the three needs its usual size.
        let margin = if name == "mnist.onnx" { 0 } else { 18 };
        for digit in [0, 1, 3, 4, 7] {
            let drawn = digits::draw(digit, 84);
            let page = RgbImage::from_fn(84 + 2 * margin, 84, |x, y| {
                let ink = match (margin..84 + margin).contains(&x) {
                    true => drawn.get_pixel(x - margin, y)[0],
                    false => 0,
                };
                image::Rgb([255 - ink; 3])
            });
            let labels = model.classify(&page).unwrap();
            assert_eq!(labels[0].index, digit, "{name}: {:?}", &labels[..2]);
        }
    }
}

#[test]
fn boxes_are_found_where_they_are() {
    let mut model = model(&own("boxes.onnx"));
    assert_eq!(model.card().title.as_deref(), Some("Seven boxes"));
    let white = RgbImage::from_pixel(128, 64, image::Rgb([255; 3]));
    let found: Vec<_> = model
        .detect(&white)
        .unwrap()
        .into_iter()
        .map(|found| (found.label, found.score, found.corners))
        .collect();
    let want = [
        ("cat", 0.9, [16.0, 24.0, 48.0, 40.0]),
        ("dog", 0.7, [16.0, 24.0, 48.0, 40.0]),
        ("cat", 0.6, [76.0, 38.0, 116.0, 58.0]),
        ("dog", 0.5, [116.0, 52.0, 128.0, 64.0]),
    ];
    assert_eq!(
        found,
        want.map(|(label, score, corners)| (label.to_owned(), score, corners))
    );
    // A tall picture of four times the size: padding at its sides.
    let tall = RgbImage::from_pixel(256, 512, image::Rgb([255; 3]));
    let first = model.detect(&tall).unwrap().remove(1);
    // 28 to 36 from the top is 28 × 8; the left side, 8, lies in the padding of 16.
    assert_eq!(first.corners, [0.0, 224.0, 64.0, 288.0]);
    // The scores are those of the picture that is given: nothing is seen in the dark but the padding.
    let mut dark = RgbImage::new(64, 64);
    assert_eq!(model.detect(&dark).unwrap(), []);
    dark.put_pixel(3, 3, image::Rgb([0, 179, 0]));
    let scores: Vec<f32> = model
        .detect(&dark)
        .unwrap()
        .iter()
        .map(|found| found.score)
        .collect();
    let want = [0.95, 0.9, 0.7, 0.6, 0.5].map(|score| score * 179.0 / 255.0);
    assert!(
        scores.len() == 5 && scores.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6),
        "{scores:?}"
    );
}

#[test]
fn a_picture_becomes_a_vector() {
    let wish = Wish::parse("cpu0", "rten").unwrap();
    let of = |vector: &str, image: RgbImage| {
        let text = format!("kind = \"embed\"\n[picture]\nsize = [8, 8]\n[vector]\n{vector}");
        let executor = open(&own("colour.onnx"), &wish).unwrap().executor;
        let card = Card::parse(&text, "a.toml", None).unwrap();
        Model::open(executor, card).unwrap().embed(&image)
    };
    let colour = |pixel: [u8; 3]| RgbImage::from_pixel(20, 9, image::Rgb(pixel));
    let near = |have: Vec<f32>, want: [f32; 3]| {
        assert!(
            have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6),
            "{have:?}"
        );
    };
    near(
        of("normalise = false", colour([51, 0, 102])).unwrap(),
        [0.2, 0.0, 0.4],
    );
    near(of("", colour([60, 0, 80])).unwrap(), [0.6, 0.0, 0.8]);
    let black = of("output = \"colour\"", colour([0; 3]))
        .unwrap_err()
        .to_string();
    assert!(black.contains("length 0"), "{black}");
}

#[test]
fn models_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    is_send::<Model>();
}

#[test]
fn a_model_does_what_its_card_is_for() {
    let mut model = model(&own("boxes.onnx"));
    let error = model.classify(&RgbImage::new(8, 8)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("can detect, and one that can classify is needed"),
        "{error}"
    );
    assert!(model.segment(&RgbImage::new(8, 8)).is_err());
}

#[test]
fn a_model_that_nobody_knows_needs_a_card() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some.onnx");
    std::fs::copy(own("boxes.onnx"), &path).unwrap();
    let executor = open(&path, &Wish::parse("cpu0", "rten").unwrap())
        .unwrap()
        .executor;
    let error = Card::of_model(&path, executor.inputs(), executor.outputs()).unwrap_err();
    let said = error.to_string();
    for part in [
        "some.toml",
        "images [1, 3, 64, 64]",
        "output0 [1, 6, 7]",
        "--card",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Every way of not fitting is told with the key, and with what the model has instead.
    let card = std::fs::read_to_string(own("boxes.toml")).unwrap();
    for (from, to, says) in [
        (
            "[64, 64]",
            "[64, 32]",
            "`picture.size` and what stands beside it make a picture of [1, 3, 32, 64], and the model's `images` is [1, 3, 64, 64]",
        ),
        (
            "size = [64, 64]",
            "size = [64, 64]\ncolour = \"grey\"",
            "[1, 1, 64, 64]",
        ),
        (
            "[picture]",
            "[picture]\ninput = \"image\"",
            "`picture.input` is \"image\", and the model has images",
        ),
        (
            "[boxes]",
            "[boxes]\noutput = \"boxes\"",
            "`boxes.output` is \"boxes\", and the model has output0",
        ),
        (
            "table = \"columns\"",
            "table = \"rows\"\n",
            "the model 3 classes",
        ),
        (
            "\"scores\"]",
            "\"score\", \"class\", \"skip\"]",
            "`boxes.row` has 7 numbers",
        ),
        (
            "[\"cat\", \"dog\"]",
            "[\"cat\"]",
            "`labels` has 1 names, and the model 2 classes",
        ),
    ] {
        let text = card.replace(from, to);
        assert_ne!(text, card);
        let card = Card::parse(&text, "a.toml", None).unwrap();
        let error = card
            .check(executor.inputs(), executor.outputs())
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn pictures_stand_upright_and_none_is_believed_to_be_huge() {
    // Two pixels, red and blue, photographed with the camera on its side (EXIF orientation 6).
    let directory = tempfile::tempdir().unwrap();
    let lying = RgbImage::from_fn(32, 16, |x, _| {
        image::Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] })
    });
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
        .encode_image(&lying)
        .unwrap();
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let noted: Vec<u8> = [&jpeg[..2], exif, &jpeg[2..]].concat();
    let path = directory.path().join("photo.jpg");
    std::fs::write(&path, noted).unwrap();
    let upright = picture::open(&path).unwrap();
    assert_eq!(upright.dimensions(), (16, 32));
    assert!(upright.get_pixel(8, 4)[0] > 200 && upright.get_pixel(8, 28)[2] > 200);

    // A PNG of a few bytes that says it has 60000 by 60000 pixels.
    let mut png = picture::png(&RgbImage::new(1, 1).into()).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = picture::decode(&png, "huge.png").unwrap_err();
    assert!(matches!(&error, Error::TooLarge { .. }), "{error:?}");
    for (bytes, name) in [
        (&b"GIF89a"[..], "a.gif"),
        (b"", "empty"),
        (&jpeg[..200], "cut.jpg"),
    ] {
        let error = picture::decode(bytes, name).unwrap_err();
        assert!(matches!(&error, Error::NoPicture { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(matches!(
        picture::open(directory.path()),
        Err(Error::NoPicture { .. })
    ));
    assert!(matches!(
        picture::open(Path::new("no/such.png")),
        Err(Error::Io { .. })
    ));
}

/// The checksum of PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn pictures_are_written_as_their_names_say() {
    let directory = tempfile::tempdir().unwrap();
    let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 7]));
    let transparent = image::RgbaImage::from_pixel(2, 2, image::Rgba([255, 0, 0, 51]));
    for name in ["a.png", "a.webp", "a.jpg"] {
        let path = directory.path().join(name);
        picture::save(&image.clone().into(), &path).unwrap();
        let read = picture::open(&path).unwrap();
        assert_eq!(read.dimensions(), (9, 7));
        assert!(name == "a.jpg" || read == image, "{name}");
        let saved = picture::save(&transparent.clone().into(), &path);
        match name {
            "a.jpg" => assert!(matches!(saved, Err(Error::Format { .. })), "{saved:?}"),
            // Read again, it lies on white paper.
            _ => assert_eq!(
                picture::open(&path).unwrap().get_pixel(0, 0).0,
                [255, 204, 204]
            ),
        }
    }
    let nothing = picture::save(&image.into(), &directory.path().join("a.bmp"));
    assert!(matches!(nothing, Err(Error::Format { .. })));
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 3, "no half-written file is left");
}

#[test]
fn a_thin_picture_has_a_mask_too() {
    let Some(path) = shared("vision/selfie_segmentation_landscape.onnx") else {
        return;
    };
    let mut model = model(&path);
    for (width, height) in [(1, 1), (2000, 1), (1, 900)] {
        let image = RgbImage::from_pixel(width, height, image::Rgb([90, 80, 70]));
        let mask: Mask = model.segment(&image).unwrap();
        assert_eq!(matte::matte(&mask, &image).dimensions(), (width, height));
    }
}
