//! Tuning on a GPU that is there, and what is kept of it.

mod common;

use std::time::Duration;

use common::gpu;
use troika_device_gpu::matmul::{Formats, Tuning};
use troika_device_gpu::tune::{Products, Shape, Stopwatch as _, Store, Tuned, search};
use troika_device_gpu::weights::Format;

const SHAPES: [Shape; 2] = [
    Shape {
        format: Format::Q4_0,
        n_out: 96,
        n_in: 256,
        count: 3,
    },
    Shape {
        format: Format::F16,
        n_out: 64,
        n_in: 96,
        count: 1,
    },
];

#[test]
fn products_are_timed_and_the_search_ends_in_time() {
    let Some(gpu) = gpu() else { return };
    let start = Tuning::of(&gpu);
    let mut products = Products::new(&gpu, &SHAPES, Duration::from_millis(300)).expect("room");
    let one = products.time(&start, &SHAPES[0], 1).expect("it is well");
    assert!(one.is_some_and(|time| time > Duration::ZERO));
    let mut told = 0;
    let tuned = search(&mut products, gpu.caps(), &SHAPES, start, &mut |_| {
        told += 1
    });
    let tuned = tuned.expect("it is well");
    assert!(told > 0 && tuned.covers(&SHAPES));
    // One way may have begun just before the end, and it compiles two kernels first.
    assert!(
        products.spent() < Duration::from_secs(60),
        "{:?}",
        products.spent()
    );
    gpu.check().expect("nothing failed");
}

#[test]
fn what_was_found_is_kept_and_a_damaged_file_is_not_used() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(&folder.path().join("cache/gpu"), gpu.found());
    assert_eq!(store.load(), None);
    let tuned = Tuned {
        tuning: Tuning {
            size: 128,
            ..Tuning::of(&gpu)
        },
        formats: Formats::NONE.with(Format::Q4_0),
        tried: 7,
        complete: true,
    };
    store.save(&tuned);
    assert_eq!(store.load().as_ref(), Some(&tuned));
    assert!(tuned.covers(&SHAPES[..1]) && !tuned.covers(&SHAPES));

    let text = std::fs::read_to_string(store.path()).expect("is there");
    assert!(
        text.contains(&gpu.found().name),
        "people can read it: {text}"
    );
    let damaged = [
        text.replace("\"size\": 128", "\"size\": 256"),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ];
    for text in damaged {
        std::fs::write(store.path(), &text).expect("written");
        assert_eq!(store.load(), None, "{text}");
    }
    store.save(&tuned);
    assert_eq!(store.load(), Some(tuned), "and it can be written anew");
}

#[test]
fn another_driver_is_another_file() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut other = gpu.found().clone();
    other.driver.push('1');
    let paths = [gpu.found(), &other].map(|found| Store::new(folder.path(), found));
    assert_ne!(paths[0].path(), paths[1].path());
}
