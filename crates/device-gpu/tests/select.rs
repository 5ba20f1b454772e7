//! The largest values of rows, against a sort on the host.

mod common;

use common::{gpu, noise};
use troika_device_gpu::kernels::Select;
use troika_device_gpu::select::{Chosen, argmax, top_k};
use troika_device_gpu::{Bind, Key, Recorder, Scratch, Tensor};

fn run(rows: &[f32], width: usize, k: usize) -> Option<Vec<Vec<Chosen>>> {
    let gpu = gpu()?;
    let (mut recorder, scratch) = (Recorder::new(gpu.clone()), Scratch::new(gpu));
    let logits = Tensor::new(&scratch, rows.len() / width, width).expect("room");
    recorder.write(logits.buffer(), 0, bytemuck::cast_slice(rows));
    let top = top_k(&mut recorder, &scratch, &logits, k).expect("compiles");
    Some(top.read(&mut recorder).expect("no failure"))
}

/// The reference: a stable sort, largest first.
fn want(row: &[f32], k: usize) -> Vec<Chosen> {
    let mut all: Vec<Chosen> = (0..)
        .zip(row)
        .map(|(id, &value)| Chosen { id, value })
        .collect();
    all.sort_by(|a, b| b.value.partial_cmp(&a.value).expect("numbers"));
    all.truncate(k);
    all
}

fn check(rows: &[f32], width: usize, k: usize) {
    if let Some(have) = run(rows, width, k) {
        let want: Vec<_> = rows.chunks(width).map(|row| want(row, k)).collect();
        assert_eq!(have, want, "{k} of {width}");
    }
}

#[test]
fn the_largest_are_found_in_vocabularies_of_any_size() {
    for width in [4, 256, 1000, 4096, 4100, 32_000, 262_148] {
        for k in [1, 3, 40, 64] {
            if k <= width {
                check(&noise(2 * width, width as u64), width, k);
            }
        }
    }
}

#[test]
fn what_is_chosen_from_what_was_chosen_is_chosen_again() {
    // 64 of each of 70 chunks are more than one chunk holds.
    let width = 70 * Select::CHUNK;
    check(&noise(width, 5), width, 64);
}

#[test]
fn among_equals_the_lower_id_comes_first() {
    let mut row: Vec<f32> = (0..9000).map(|i| (i % 5) as f32).collect();
    check(&row, 9000, 64);
    row.fill(-1.5);
    check(&row, 9000, 64);
    // Zeros of both signs are equal.
    let zeros: Vec<f32> = (0..5000)
        .map(|i| if i % 3 == 0 { 0.0 } else { -0.0 })
        .collect();
    check(&zeros, 5000, 20);
}

#[test]
fn extremes_keep_their_order() {
    let mut row = vec![f32::NEG_INFINITY; 8192];
    row[5000] = f32::MIN;
    row[17] = f32::MIN_POSITIVE;
    row[18] = -f32::MIN_POSITIVE;
    row[8191] = f32::INFINITY;
    row[4096] = f32::MAX;
    check(&row, 8192, 12);
}

#[test]
fn what_is_no_number_shows() {
    for nan in [f32::NAN, -f32::NAN] {
        let mut row = noise(6000, 1);
        row[4321] = nan;
        let Some(have) = run(&row, 6000, 2) else {
            return;
        };
        assert_eq!(have[0][0].id, 4321);
        assert!(have[0][0].value.is_nan());
        row[4321] = f32::NEG_INFINITY;
        assert_eq!(have[0][1], want(&row, 1)[0]);
    }
}

#[test]
fn the_ids_of_the_largest_are_the_next_tokens() {
    let Some(gpu) = gpu() else { return };
    let (mut recorder, scratch) = (Recorder::new(gpu.clone()), Scratch::new(gpu));
    let rows = noise(3 * 5000, 9);
    let logits = Tensor::new(&scratch, 3, 5000).expect("room");
    recorder.write(logits.buffer(), 0, bytemuck::cast_slice(&rows));
    let top = argmax(&mut recorder, &scratch, &logits).expect("compiles");
    let bytes = recorder.read(top.ids(), 0..12).expect("no failure");
    let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
    let want: Vec<u32> = rows.chunks(5000).map(|row| want(row, 1)[0].id).collect();
    assert_eq!(ids, want);
}

#[test]
fn subgroups_and_shared_memory_choose_the_same() {
    let Some(gpu) = gpu() else { return };
    let (mut recorder, scratch) = (Recorder::new(gpu.clone()), Scratch::new(gpu.clone()));
    let row = noise(3000, 2);
    let logits = gpu
        .buffer_with(bytemuck::cast_slice(&row), "logits")
        .expect("room");
    for key in Select::all() {
        if key.chosen || (key.subgroups && gpu.caps().subgroup.is_none()) {
            continue;
        }
        let out = scratch.take(2 * 8 * 4).expect("room");
        let binds = [Bind::whole(&out), Bind::whole(&logits)];
        let grid = Select::grid(1, row.len());
        recorder
            .dispatch(Key::Select(key), &binds, &[3000, 1, 8], grid)
            .expect("compiles");
        let bytes = recorder.read(&out, 0..32).expect("no failure");
        let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        let want: Vec<u32> = want(&row, 8).iter().map(|chosen| chosen.id).collect();
        assert_eq!(ids, want, "{key:?}");
    }
}
