//! Good files, damaged at random: never a panic, never an accepted tensor that cannot be read, never long, never large.

mod common;

use std::cell::Cell;
use std::time::{Duration, Instant};

use common::exercise::exercise;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use troika_base::DType;
use troika_gguf::{Array, Metadata, ModelFile, Value, Writer};

/// One kind of damage.
#[derive(Clone, Debug)]
enum Damage {
    FlipBit(Index, u8),
    SetByte(Index, u8),
    /// A number at an 8-, 4- or 1-byte field.
    SetNumber(Index, u64, usize),
    Truncate(Index),
    Extend(Vec<u8>),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// Copies a stretch of the file to another place in it.
    Splice(Index, usize, Index),
}

/// Numbers at which sums and products wrap, signs flip and caps end.
const ABSURD: &[u64] = &[
    0,
    1,
    2,
    5,
    8,
    9,
    12,
    31,
    33,
    64,
    65,
    0xff,
    0xffff,
    1 << 16,
    1 << 20,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    (1 << 40) + 1,
    1 << 60,
    1 << 61,
    (1 << 61) + 1,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX - 7,
    u64::MAX,
];

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    let few = || proptest::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        (index(), 0..8u8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::SetByte(at, byte)),
        (index(), select(ABSURD), select(&[1, 4, 8][..]))
            .prop_map(|(at, number, width)| Damage::SetNumber(at, number, width)),
        index().prop_map(Damage::Truncate),
        few().prop_map(Damage::Extend),
        (index(), 1..40usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        (index(), few()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (index(), 1..80usize, index()).prop_map(|(from, len, to)| Damage::Splice(from, len, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match damage {
        Damage::FlipBit(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Damage::SetByte(at, byte) => bytes[at.index(len)] = *byte,
        Damage::SetNumber(at, number, width) => {
            let at = at.index(len);
            let end = (at + width).min(len);
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        Damage::Truncate(at) => bytes.truncate(at.index(len)),
        Damage::Extend(more) => bytes.extend(more),
        Damage::Remove(at, n) => {
            let at = at.index(len);
            bytes.drain(at..(at + n).min(len));
        }
        Damage::Insert(at, more) => {
            let at = at.index(len);
            bytes.splice(at..at, more.iter().copied());
        }
        Damage::Splice(from, n, to) => {
            let from = from.index(len);
            let stretch = bytes[from..(from + n).min(len)].to_vec();
            let to = to.index(len);
            let end = (to + stretch.len()).min(len);
            bytes[to..end].copy_from_slice(&stretch[..end - to]);
        }
    }
}

/// A small file with every type of value and several number formats.
fn good_file() -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    metadata.insert("general.alignment", 64u32);
    metadata.insert("u8", 1u8);
    metadata.insert("i8", -1i8);
    metadata.insert("u16", 2u16);
    metadata.insert("i16", -2i16);
    metadata.insert("i32", -3i32);
    metadata.insert("u64", 1u64 << 40);
    metadata.insert("i64", -4i64);
    metadata.insert("f32", 1e-5f32);
    metadata.insert("f64", 1e-300f64);
    metadata.insert("bool", true);
    metadata.insert("tokens", &["<s>", "", "▁once", "🐎"][..]);
    metadata.insert("scores", vec![0.0f32, -1.0, -2.0]);
    metadata.insert("types", vec![3i32, 1, 1]);
    metadata.insert("flags", vec![true, false]);
    let nested = Array::Array(vec![
        Array::U8(vec![1, 2]),
        Array::Array(vec![Array::F64(vec![])]),
    ]);
    metadata.insert("nested", Value::Array(nested));
    let zeros = [0u8; 1024];
    let mut writer = Writer::new(metadata);
    writer
        .tensor_bytes("token_embd.weight", DType::F32, &[8, 4], &zeros[..128])
        .tensor_bytes("blk.0.attn_q.weight", DType::Q4_0, &[64, 3], &zeros[..108])
        .tensor_bytes(
            "blk.0.ffn_up.weight",
            DType::Q4_K,
            &[256, 1, 2],
            &zeros[..288],
        )
        .tensor_bytes("output_norm.weight", DType::F16, &[3], &zeros[..6]);
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("the model is right");
    bytes
}

/// Everything before the first tensor's data.
fn header_len(file: &[u8]) -> usize {
    let model = ModelFile::from_bytes("good", file.to_vec()).expect("the model is right");
    model.tensors()[0].offset as usize
}

#[test]
fn damaged_files_are_refused_or_whole() {
    let good = good_file();
    assert!(exercise(&good), "the undamaged file is accepted");
    let (accepted, refused) = (Cell::new(0u32), Cell::new(0u32));
    let slowest = Cell::new(Duration::ZERO);
    // The seed is proptest's own, so that the shares below are the same in every run.
    let config = Config {
        cases: 6000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let outcome = runner.run(&proptest::collection::vec(damage(), 1..5), |damages| {
        let mut bytes = good.clone();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        let start = Instant::now();
        let count = if exercise(&bytes) {
            &accepted
        } else {
            &refused
        };
        count.set(count.get() + 1);
        slowest.set(slowest.get().max(start.elapsed()));
        Ok(())
    });
    outcome.unwrap();
    println!(
        "{} accepted, {} refused, slowest {:?}",
        accepted.get(),
        refused.get(),
        slowest.get()
    );
    // A test in which everything is refused at the first byte would prove nothing.
    assert!(accepted.get() > 300 && refused.get() > 3000);
    assert!(slowest.get() < Duration::from_secs(2));
}

#[test]
fn every_bit_of_the_header_is_read_safely() {
    let good = good_file();
    for at in 0..header_len(&good) {
        let mut bytes = good.clone();
        for bit in 0..8 {
            bytes[at] = good[at] ^ (1 << bit);
            exercise(&bytes);
        }
    }
}

#[test]
fn every_absurd_number_at_every_byte_is_read_safely() {
    let good = good_file();
    for at in 0..header_len(&good) {
        let mut bytes = good.clone();
        for number in ABSURD {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            exercise(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut noise = b"GGUF\x03\0\0\0".to_vec();
        noise.extend(&bytes);
        exercise(&noise);
        prop_assert!(!exercise(&bytes));
    }
}
