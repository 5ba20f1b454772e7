//! The roofline of whatever GPU there is: figures that can be, within the time.

mod common;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use common::gpu;
use troika_base::Bytes;
use troika_device::{Cancelled, Error};
use troika_device_gpu::roofline::{Arithmetic, Effort, Series, measure};

const EFFORT: Effort = Effort {
    time: Duration::from_millis(800),
    bytes: Bytes(5 << 20),
};

#[test]
fn a_gpu_shows_what_it_can() {
    let Some(gpu) = gpu() else { return };
    let (mut done, mut told) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let roofline = measure(&gpu, EFFORT, &mut |part, what| {
        done.push(part);
        if told.last().is_none_or(|last| last != what) {
            told.push(what.to_owned());
        }
        ControlFlow::Continue(())
    })
    .expect("no failure");
    println!("{roofline:#?}");
    // Compiling, and machines that others use too.
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(done.is_sorted() && done.iter().all(|part| (0.0..1.0).contains(part)));

    let sets: Vec<u64> = roofline
        .read_gbs
        .iter()
        .map(|(set, _)| set.0 >> 20)
        .collect();
    assert_eq!(sets, [1, 4], "powers of two within what was asked for");
    let caps = gpu.caps();
    let kinds: Vec<Arithmetic> = roofline.tops.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.contains(&Arithmetic::F16), caps.f16);
    assert_eq!(kinds.len(), 2 + usize::from(caps.f16) + caps.tiles.len());
    assert_eq!(roofline.stamped, caps.timestamps);
    assert_eq!(told.len(), sets.len() + kinds.len() + 7, "{told:?}");

    let rates = roofline.read_gbs.iter().map(|(_, series)| series);
    let rates = rates.chain(roofline.tops.iter().map(|(_, series)| series));
    let more = [
        &roofline.copy_gbs,
        &roofline.gather_gbs,
        &roofline.dispatch_us,
        &roofline.submit_us,
        &roofline.record_us,
        &roofline.upload_gbs,
        &roofline.download_gbs,
    ];
    for series in rates.chain(more) {
        assert!(is_sound(series), "{series:?}");
    }
    // No machine computes 10^18 operations or moves 10^15 bytes a second: a kernel that did nothing would.
    assert!(roofline.tops.iter().all(|(_, tops)| tops.median() < 1e6));
    assert!(roofline.read_gbs.iter().all(|(_, gbs)| gbs.median() < 1e6));
}

fn is_sound(series: &Series) -> bool {
    let samples = series.samples();
    samples.len() >= 3
        && samples
            .iter()
            .all(|&sample| sample > 0.0 && sample.is_finite())
}

#[test]
fn measuring_can_be_stopped() {
    let Some(gpu) = gpu() else { return };
    let mut calls = 0;
    let ended = measure(&gpu, EFFORT, &mut |_, _| {
        calls += 1;
        match calls {
            5 => ControlFlow::Break(Cancelled),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(ended, Err(Error::Interrupted)));
    assert_eq!(calls, 5);
}
