//! `troika segment`, `classify` and `detect` on pictures that are made here, and on real models where they are.

use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use crate::{code, directory, json, shared, stderr, stdout, troika, troika_in};

/// A detector that sees seven boxes in whatever is bright.
fn boxes() -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../media/tests/data/boxes.onnx"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths here are text").to_owned()
}

/// A picture's file.
fn write(path: &Path, image: &RgbImage) -> String {
    image
        .save_with_format(path, ImageFormat::Png)
        .expect("is written");
    text(path)
}

fn read(path: &Path) -> DynamicImage {
    image::open(path).expect("is a picture")
}

fn plain(width: u32, height: u32, value: u8) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([value; 3]))
}

#[test]
fn boxes_are_listed_and_drawn() {
    let directory = directory("detect");
    let image = write(&directory.join("white.png"), &plain(128, 64, 255));
    let drawn = directory.join("drawn.png");
    let args = ["detect", &image, "-m", &boxes(), "-o", &text(&drawn), "-v"];
    let output = troika(&args);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let lines: Vec<String> = stdout(&output)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "0.900 16 24 48 40 cat",
            "0.700 16 24 48 40 dog",
            "0.600 76 38 116 58 cat",
            "0.500 116 52 128 64 dog"
        ]
    );
    let said = stderr(&output);
    assert!(
        said.contains("1 picture in ") && said.contains(" a second · cpu0 · "),
        "{said}"
    );
    assert!(said.contains("boxes.toml"), "{said}");
    let drawn = read(&drawn).into_rgb8();
    assert_eq!(drawn.dimensions(), (128, 64));
    assert_ne!(
        drawn.get_pixel(90, 38),
        &Rgb([255; 3]),
        "the frame of the third"
    );
    assert_eq!(drawn.get_pixel(64, 50), &Rgb([255; 3]));

    let dark = write(&directory.join("dark.png"), &plain(64, 64, 0));
    let several = troika(&["detect", &image, &dark, "-m", &boxes(), "--json"]);
    let answer = json(&several);
    assert_eq!(answer["results"][0]["detections"][1]["label"], "dog");
    assert_eq!(answer["results"][0]["detections"][1]["index"], 1);
    assert_eq!(answer["results"][0]["detections"][2]["box"][2], 116.0);
    assert_eq!(
        answer["results"][1]["detections"].as_array().map(Vec::len),
        Some(0)
    );
    assert_eq!(answer["pictures"], 2);
    assert_eq!(answer["device"], "cpu0");
    assert!(answer["per_second"].as_f64() > Some(0.0), "{answer}");
}

#[test]
fn what_cannot_be_seen_is_refused() {
    let directory = directory("refused");
    let image = write(&directory.join("a.png"), &plain(8, 8, 255));
    let (model, other) = (boxes(), text(&directory.join("b.gif")));
    let alone = text(&directory.join("alone.onnx"));
    std::fs::copy(&model, &alone).expect("is copied");
    let card = text(&directory.join("card.toml"));
    std::fs::write(
        &card,
        "kind = \"detect\"\n[picture]\nsize = [64, 64]\npadding = 3\n",
    )
    .expect("is written");
    let torn = text(&directory.join("torn.png"));
    std::fs::write(&torn, b"\x89PNG\r\n\x1a\nno more").expect("is written");
    for (args, want, says) in [
        (&["detect", &image][..], 2, "--model"),
        (&["detect", "-m", &model], 2, "IMAGE"),
        (
            &["classify", &image, "-m", &model],
            1,
            "can detect, and one that can classify is needed",
        ),
        (&["detect", "no-such.png", "-m", &model], 1, "no-such.png"),
        (
            &["detect", &torn, "-m", &model],
            1,
            "cannot be read as a picture",
        ),
        (&["detect", &image, "-m", "no-such.onnx"], 1, "no-such.onnx"),
        (&["detect", &image, "-m", &alone], 1, "alone.toml"),
        (
            &["detect", &image, "-m", &alone, "--card", &card],
            1,
            "line 4",
        ),
        (
            &["detect", &image, "-m", &model, "-o", &image],
            2,
            "write over",
        ),
        (
            &["detect", &image, "-m", &model, "-o", &other],
            2,
            ".png, .jpg or .webp",
        ),
        (
            &["detect", &image, "-m", &model, "--device", "npu7"],
            2,
            "npu7",
        ),
        (
            &["segment", &image, "-m", &model, "-o", "x.png"],
            1,
            "can detect, and one that can segment",
        ),
        (&["segment", "-", "-m", &model, "-o", "-"], 2, "--size"),
        (
            &[
                "segment", &image, "-m", &model, "-o", "x.png", "--size", "8x8",
            ],
            2,
            "--size",
        ),
        (
            &[
                "segment",
                &image,
                "-m",
                &model,
                "-o",
                "x.jpg",
                "--background",
                "remove",
            ],
            2,
            "JPEG",
        ),
        (
            &[
                "segment",
                &image,
                "-m",
                &model,
                "-o",
                "x.png",
                "--background",
                "mauve",
            ],
            2,
            "mauve",
        ),
        (
            &[
                "segment",
                &image,
                "-m",
                &model,
                "-o",
                "x.png",
                "--strength",
                "0",
            ],
            2,
            "from 1 to 100",
        ),
        (
            &["segment", "-", "-m", &model, "-o", "-", "--size", "8by8"],
            2,
            "1280x720",
        ),
        (
            &["segment", &image, "-o", "x.png"],
            1,
            "selfie_segmentation*.onnx",
        ),
    ] {
        let output = troika(args);
        let said = stderr(&output);
        assert_eq!(code(&output), Some(want), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    assert!(!Path::new("x.png").exists() && !Path::new("x.jpg").exists());
    // A device that is required is that one, or none.
    let npu = troika(&[
        "detect",
        &image,
        "-m",
        &model,
        "--device",
        "npu0",
        "--library",
        "rten",
    ]);
    assert_eq!(code(&npu), Some(1), "{}", stderr(&npu));
}

#[test]
fn a_digit_is_read() {
    let Some(model) = shared("vision/mnist-8.onnx") else {
        return;
    };
    let directory = directory("classify");
    // A one in ink on paper.
    let paper = RgbImage::from_fn(56, 56, |x, y| {
        let is_ink = (26..30).contains(&x) && (10..46).contains(&y);
        Rgb([if is_ink { 10 } else { 245 }; 3])
    });
    let image = write(&directory.join("one.png"), &paper);
    let output = troika(&["classify", &image, "-m", &model, "--top", "2"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let answer = stdout(&output);
    let first = answer.lines().next().map(str::trim_start);
    assert!(
        first.is_some_and(|first| first.ends_with("  1")),
        "{answer}"
    );
    assert_eq!(answer.lines().count(), 2);
    let answer = json(&troika(&[
        "classify", &image, "-m", &model, "--json", "--top", "10",
    ]));
    let labels = answer["results"][0]["labels"]
        .as_array()
        .expect("is a list");
    let sum: f64 = labels
        .iter()
        .filter_map(|label| label["score"].as_f64())
        .sum();
    assert!((sum - 1.0).abs() < 1e-3 && labels.len() == 10, "{answer}");
}

#[test]
fn a_background_is_blurred_removed_or_replaced() {
    let (Some(model), Some(person)) = (
        shared("vision/selfie_segmentation_landscape.onnx"),
        shared("vision/sergey.png"),
    ) else {
        return;
    };
    let directory = directory("segment");
    let original = read(Path::new(&person)).into_rgb8();
    // The middle of the face, and a corner behind it.
    let (face, corner) = ((300, 250), (4, 4));
    let made = |name: &str, flags: &[&str]| {
        let path = directory.join(name);
        let to = text(&path);
        let args = [&["segment", &person, "-m", &model, "-o", &to], flags].concat();
        let output = troika(&args);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        read(&path)
    };
    let green = made("green.png", &["--background", "#00ff00"]).into_rgb8();
    assert_eq!(green.get_pixel(corner.0, corner.1), &Rgb([0, 255, 0]));
    assert_eq!(
        green.get_pixel(face.0, face.1),
        original.get_pixel(face.0, face.1)
    );

    let removed = made("removed.webp", &["--background", "remove"]).into_rgba8();
    let alpha = |(x, y): (u32, u32)| removed.get_pixel(x, y)[3];
    assert_eq!((alpha(face), alpha(corner)), (255, 0));

    let matte = made("matte.png", &["--mask-only"]).into_luma8();
    assert_eq!(
        (
            matte.get_pixel(face.0, face.1)[0],
            matte.get_pixel(corner.0, corner.1)[0]
        ),
        (255, 0)
    );
    let soft = matte
        .pixels()
        .filter(|pixel| (30..=225).contains(&pixel[0]))
        .count();
    assert!(soft > 500, "the edge is soft: {soft}");

    // The background has lost its detail, and the face has not.
    let detail = |image: &RgbImage, is_face: bool| -> f64 {
        let is_here = |x: u32, y: u32| (matte.get_pixel(x, y)[0] == 255) == is_face;
        let pairs = (1..600).flat_map(|x| (0..600).map(move |y| (x, y)));
        let differences = pairs
            .filter(|&(x, y)| is_here(x, y) && is_here(x - 1, y))
            .map(|(x, y)| {
                let (here, left) = (image.get_pixel(x, y)[1], image.get_pixel(x - 1, y)[1]);
                f64::from(here.abs_diff(left))
            });
        differences.sum()
    };
    let weak = made("weak.png", &["--strength", "5"]).into_rgb8();
    let strong = made("strong.png", &["--strength", "100"]).into_rgb8();
    assert_eq!(detail(&strong, true), detail(&original, true));
    assert!(detail(&strong, false) < detail(&weak, false));
    assert!(detail(&weak, false) < detail(&original, false));

    let other = write(&directory.join("other.png"), &plain(50, 20, 77));
    let replaced = made("replaced.jpg", &["--background", &other]).into_rgb8();
    assert!(replaced.get_pixel(corner.0, corner.1)[0].abs_diff(77) < 4);
}

#[test]
fn frames_come_from_a_directory_or_a_pipe() {
    let Some(model) = shared("vision/selfie_segmentation_landscape.onnx") else {
        return;
    };
    let directory = directory("frames");
    let (from, to) = (directory.join("from"), directory.join("to"));
    std::fs::create_dir_all(&from).expect("is made");
    for index in 0..3 {
        write(
            &from.join(format!("{index}.png")),
            &plain(32, 18, 60 * index),
        );
    }
    std::fs::write(from.join("notes.txt"), b"no picture").expect("is written");
    let args = [
        "segment",
        &text(&from),
        "-m",
        &model,
        "-o",
        &text(&to),
        "--json",
    ];
    let output = troika(&args);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let answer = json(&output);
    assert_eq!(answer["pictures"], 3);
    assert!(answer["foreground"].as_f64() < Some(1.0), "{answer}");
    for index in 0..3 {
        assert_eq!(
            read(&to.join(format!("{index}.png")))
                .into_rgb8()
                .dimensions(),
            (32, 18)
        );
    }
    let again = troika(&["segment", &text(&from), "-m", &model, "-o", &text(&from)]);
    assert_eq!(code(&again), Some(2), "{}", stderr(&again));

    let frames = [plain(32, 18, 90).into_raw(), plain(32, 18, 200).into_raw()].concat();
    let home = Path::new("no-such-home");
    let pipe = |bytes: &[u8], flags: &[&str]| {
        let args = ["segment", "-", "-m", &model, "-o", "-", "--size", "32x18"];
        troika_in(home, &[&args, flags].concat(), bytes)
    };
    for (flags, bytes) in [
        (&[][..], 3),
        (&["--background", "remove"], 4),
        (&["--mask-only"], 1),
    ] {
        let output = pipe(&frames, flags);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(output.stdout.len(), 2 * 32 * 18 * bytes, "{flags:?}");
        assert!(stderr(&output).contains("2 pictures in "));
    }
    let torn = pipe(&frames[..2000], &[]);
    assert_eq!((code(&torn), torn.stdout.len()), (Some(1), 32 * 18 * 3));
    assert!(
        stderr(&torn).contains("272 of 1728 bytes"),
        "{}",
        stderr(&torn)
    );
    let shared_stdout = pipe(&frames, &["--json"]);
    assert_eq!(code(&shared_stdout), Some(2), "{}", stderr(&shared_stdout));
}
