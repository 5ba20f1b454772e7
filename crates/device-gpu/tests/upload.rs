//! What is uploaded arrives, however much of it is on its way, and before anything that is recorded after it.

mod common;

use troika_device_gpu::{Options, Recorder, find};

const PIECE: usize = 1 << 20;
/// More than staging memory takes.
const PIECES: usize = 100;

/// The words of a piece.
fn piece(number: usize) -> Vec<u32> {
    let word = |i: usize| (number * 1_000_003 + i) as u32;
    (0..PIECE / 4).map(word).collect()
}

#[test]
fn more_than_staging_memory_takes_arrives_in_order() {
    if common::gpu().is_none() {
        return;
    }
    // One whose submissions are this test's alone.
    let found = find().into_iter().next().expect("as above");
    let gpu = found.open("gpu0", Options::default()).expect("it opens");
    let mut recorder = Recorder::new(gpu.clone());
    let buffer = gpu.buffer(PIECES * PIECE, "uploads").expect("room");
    let before = gpu.submissions();
    // What is written twice is what was written last.
    for number in [PIECES].into_iter().chain(0..PIECES) {
        let at = number % PIECES * PIECE;
        let bytes = piece(number);
        gpu.upload(&buffer, at, bytemuck::cast_slice(&bytes))
            .expect("it goes");
    }
    let handed_over = gpu.submissions() - before;
    assert!((4..20).contains(&handed_over), "{handed_over}");
    for number in 0..PIECES {
        let at = number * PIECE;
        let bytes = recorder.read(&buffer, at..at + PIECE).expect("it reads");
        assert!(
            bytemuck::pod_collect_to_vec::<u8, u32>(&bytes) == piece(number),
            "piece {number}"
        );
    }
}
