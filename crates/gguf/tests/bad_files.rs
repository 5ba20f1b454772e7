//! Files made wrong by hand, one for each way: the message names the key or tensor, the byte, and what was expected.

mod common;

use common::raw::{ARRAY, BOOL, F32, Q4_0, Q4_K, Raw, STRING, U8, U32};
use troika_gguf::ModelFile;

/// Opens the bytes and checks that the message has all the parts.
fn check(raw: Raw, parts: &[&str]) {
    let error = match ModelFile::from_bytes("bad.gguf", raw.0) {
        Ok(_) => panic!("accepted; expected an error with {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts.iter().chain(&["bad.gguf"]) {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    assert!(error.len() < 1000, "{} bytes of message", error.len());
}

/// Checks that bytes which differ from a bad file in the tested point only are accepted.
fn check_good(raw: Raw) {
    ModelFile::from_bytes("good.gguf", raw.0).expect("the file is right");
}

#[test]
fn not_gguf() {
    check(Raw(vec![]), &["starts with \"\"", "expected \"GGUF\""]);
    check(Raw(b"GG".to_vec()), &["starts with \"GG\""]);
    check(
        Raw(b"PK\x03\x04 and so on".to_vec()),
        &["starts with \"PK\\x03\\x04\""],
    );
    check(
        Raw(b"GGUF".to_vec()),
        &["header, byte 4", "expected 4 more bytes, 0 are left"],
    );
    check(
        Raw(b"GGUF\x03\0\0\0\x01".to_vec()),
        &["header, byte 8", "expected 8 more bytes, 1 are left"],
    );
}

#[test]
fn other_versions() {
    check(
        Raw(b"GGUF".to_vec()).u32(1).u64(0).u64(0),
        &["version 1", "only versions 2 and 3"],
    );
    check(Raw(b"GGUF".to_vec()).u32(4).u64(0).u64(0), &["version 4"]);
    check(Raw(b"GGUF".to_vec()).u32(0).u64(0).u64(0), &["version 0"]);
    check(
        Raw(b"GGUF".to_vec()).u32(3 << 24).u64(0).u64(0),
        &["version 3", "big-endian"],
    );
    check_good(Raw(b"GGUF".to_vec()).u32(2).u64(0).u64(0));
    check_good(Raw::new(0, 0));
}

#[test]
fn counts_beyond_the_file() {
    check(
        Raw::new(u64::MAX, 0),
        &[
            "header, byte 8",
            "18446744073709551615 tensors, expected 0 at most",
        ],
    );
    check(
        Raw::new(0, u64::MAX),
        &["header, byte 16", "metadata entries, expected 0 at most"],
    );
    check(
        Raw::new(1, 0).u64(0),
        &["header, byte 8", "a count of 1 tensors, expected 0 at most"],
    );
    // Enough bytes for more entries than any model has.
    check(
        Raw::new(0, 70_000).bytes(&vec![0; 70_000 * 13]),
        &["header, byte 16", "70000", "expected 65536"],
    );
    check(
        Raw::new(0, 1)
            .key("tokens", ARRAY)
            .u32(STRING)
            .u64(1 << 61)
            .u64(0),
        &[
            "key `tokens`, byte 46",
            "2305843009213693952 array items, expected 1 at most",
        ],
    );
    check(
        Raw::new(0, 1).key("scores", ARRAY).u32(6).u64(3).u64(0),
        &["key `scores`, byte 46", "3 array items, expected 2 at most"],
    );
}

#[test]
fn texts_beyond_the_file() {
    check(
        Raw::new(0, 1).u64(9).bytes(b"short"),
        &[
            "metadata entry 0, byte 24",
            "expected 9 more bytes, 5 are left",
        ],
    );
    check(
        Raw::new(0, 1).u64(70_000).bytes(&[b'k'; 70_000]),
        &["metadata entry 0, byte 24", "70000 bytes, expected 65535"],
    );
    check(
        Raw::new(0, 1).key("name", STRING).u64(u64::MAX).u32(0),
        &[
            "key `name`, byte 40",
            "expected 18446744073709551615 more bytes, 4 are left",
        ],
    );
    check(
        Raw::new(0, 1)
            .key("name", STRING)
            .u64(3)
            .bytes(b"a\xff\xfe"),
        &["key `name`, byte 48", "UTF-8", "first 1"],
    );
    check(
        Raw::new(0, 1).u64(2).bytes(&[0xc3, 0x28]).u32(U8).u8(0),
        &["metadata entry 0, byte 32", "UTF-8"],
    );
}

#[test]
fn values_that_do_not_exist() {
    check(
        Raw::new(0, 1).key("k", 13).u64(0),
        &["key `k`, byte 33", "value type 13, expected 0 to 12"],
    );
    check(
        Raw::new(0, 1).key("k", ARRAY).u32(99).u64(0),
        &["key `k`, byte 37", "value type 99"],
    );
    check(
        Raw::new(0, 1).key("k", BOOL).u8(2),
        &["key `k`, byte 37", "boolean of 2, expected 0 or 1"],
    );
    check(
        Raw::new(0, 1).key("k", U32).u8(2),
        &["key `k`, byte 37", "expected 4 more bytes, 1 are left"],
    );
}

#[test]
fn keys_that_stand_twice() {
    let raw = Raw::new(0, 2).key("k", U8).u8(1).key("k", U8).u8(2);
    check(raw, &["key `k`, byte 38", "stands twice, first at byte 24"]);
}

#[test]
fn nested_arrays() {
    let nested = |depth: usize| {
        let raw = Raw::new(0, 1).key("deep", ARRAY);
        (1..depth)
            .fold(raw, |raw, _| raw.u32(ARRAY).u64(1))
            .u32(U8)
            .u64(1)
            .u8(0)
    };
    check_good(nested(8));
    check(nested(9), &["key `deep`", "arrays nested more than 8 deep"]);
    check(
        nested(100_000),
        &["key `deep`", "arrays nested more than 8 deep"],
    );
}

#[test]
fn alignments() {
    let aligned = |raw: Raw| raw.tensor("t", &[1], F32, 0).data(64 << 10, 4);
    let keyed = || Raw::new(1, 1).text("general.alignment");
    for n in [8, 32, 4096, 64 << 10] {
        check_good(aligned(keyed().u32(U32).u32(n)));
    }
    for n in [0, 1, 4, 48, 128 << 10, u32::MAX] {
        let found = format!("found u32 {n}");
        let parts = [
            "key `general.alignment`, byte 53",
            "a power of two from 8 to 65536",
            found.as_str(),
        ];
        check(aligned(keyed().u32(U32).u32(n)), &parts);
    }
    check(
        aligned(keyed().u32(STRING).text("32")),
        &["key `general.alignment`", "found string"],
    );
}

#[test]
fn tensor_names() {
    let named = |name: &str| Raw::new(1, 0).tensor(name, &[1], F32, 0).data(32, 4);
    check_good(named(&"n".repeat(64)));
    check(
        named(&"n".repeat(65)),
        &["tensor 0, byte 24", "tensor name of 65 bytes, expected 64"],
    );
    let twice = Raw::new(3, 0)
        .tensor("b", &[1], F32, 64)
        .tensor("a", &[1], F32, 32)
        .tensor("b", &[1], F32, 0);
    check(
        twice.data(32, 96),
        &["tensor `b`, byte 90", "stands twice, first at byte 24"],
    );
    // A name from a file cannot write to the terminal.
    check(
        Raw::new(1, 0).tensor("\x1b[2Jx\n", &[0], F32, 0),
        &["tensor `\\u{1b}[2Jx\\n`"],
    );
}

#[test]
fn shapes() {
    let shaped = |shape: &[u64], dtype| {
        Raw::new(1, 0)
            .tensor("w", shape, dtype, 0)
            .data(32, 1 << 12)
    };
    check_good(shaped(&[32, 2, 3, 4], Q4_0));
    check(
        shaped(&[], F32),
        &["tensor `w`, byte 33", "0 dimensions, expected 1 to 4"],
    );
    check(
        shaped(&[1; 5], F32),
        &["tensor `w`, byte 33", "5 dimensions, expected 1 to 4"],
    );
    let n_dims = Raw::new(1, 0).text("w").u32(u32::MAX).data(32, 64);
    check(n_dims, &["tensor `w`, byte 33", "4294967295 dimensions"]);
    check(
        shaped(&[32, 0], F32),
        &["tensor `w`, byte 37", "dimension 1 is 0"],
    );
    check(
        shaped(&[33, 1], Q4_0),
        &[
            "tensor `w`, byte 37",
            "rows of 33 weights",
            "multiple of 32 for Q4_0",
        ],
    );
    check(
        shaped(&[128, 2], Q4_K),
        &[
            "tensor `w`",
            "rows of 128 weights",
            "multiple of 256 for Q4_K",
        ],
    );
    // Products that are 0 or small once they have wrapped.
    check(
        shaped(&[1 << 32, 1 << 32], F32),
        &["tensor `w`, byte 37", "no size that fits 64 bits"],
    );
    check(
        shaped(&[1 << 62, 1], F32),
        &["tensor `w`", "F32 of shape [4611686018427387904, 1]"],
    );
    check(
        shaped(&[1 << 16, 1 << 16, 1 << 16, 1 << 16], Q4_0),
        &["tensor `w`", "no size that fits 64 bits"],
    );
    check(shaped(&[u64::MAX, 1], F32), &["tensor `w`", "no size"]);
}

#[test]
fn number_formats() {
    for id in [4, 31, 38, 1000, u32::MAX] {
        let found = format!("number format {id}, expected 0 F32");
        let raw = Raw::new(1, 0).tensor("w", &[256], id, 0).data(32, 4096);
        check(raw, &["tensor `w`, byte 45", &found, "12 Q4_K"]);
    }
}

#[test]
fn places_of_tensors() {
    // The data starts at byte 64: 24 + 33 bytes of header.
    let placed = |offset, bytes| {
        Raw::new(1, 0)
            .tensor("w", &[8], F32, offset)
            .data(32, bytes)
    };
    check_good(placed(0, 32));
    check_good(placed(32, 64));
    check(
        placed(16, 64),
        &[
            "tensor `w`, byte 24",
            "data at offset 16, expected a multiple of 32",
        ],
    );
    check(
        placed(0, 31),
        &[
            "tensor `w`, byte 24",
            "32 bytes of data from byte 64, the file has 95",
        ],
    );
    check(
        placed(32, 63),
        &[
            "tensor `w`, byte 24",
            "32 bytes of data from byte 96, the file has 127",
        ],
    );
    check(
        placed(u64::MAX - 31, 64),
        &[
            "tensor `w`, byte 24",
            "from byte 18446744073709551615, the file has 128",
        ],
    );
    check(placed(1 << 63, 64), &["tensor `w`", "the file has 128"]);

    let two = |offset| {
        let raw = Raw::new(2, 0)
            .tensor("a", &[16], F32, offset)
            .tensor("b", &[9], F32, 64);
        raw.data(32, 256)
    };
    check_good(two(0));
    check_good(two(128));
    check(
        two(32),
        &[
            "tensor `b`, byte 57",
            "data from byte 160, tensor `a` reaches to byte 192",
        ],
    );
    check(
        two(96),
        &[
            "tensor `a`, byte 24",
            "data from byte 192, tensor `b` reaches to byte 196",
        ],
    );
    check(
        two(64),
        &["tensor `b`, byte 57", "tensor `a` reaches to byte 224"],
    );
}

#[test]
fn every_prefix_is_refused() {
    let whole = Raw::new(1, 3)
        .key("general.name", STRING)
        .text("a model")
        .key("tokens", ARRAY)
        .u32(STRING)
        .u64(2)
        .text("a")
        .text("bc")
        .key("nested", ARRAY)
        .u32(ARRAY)
        .u64(1)
        .u32(U32)
        .u64(2)
        .u64(0)
        .tensor("w", &[8, 2], F32, 0)
        .data(32, 64);
    check_good(whole.clone());
    for len in 0..whole.0.len() {
        let error = ModelFile::from_bytes("cut", whole.0[..len].to_vec()).map(|_| ());
        assert!(error.is_err(), "accepted when cut to {len} bytes");
        // Of the beginning of a file whose rest is elsewhere, that is no fault.
        let beginning = whole.0[..len].to_vec();
        let found = ModelFile::from_beginning("cut", beginning, whole.0.len() as u64);
        let found = found.map(|file| file.map(|file| file.tensors().len()));
        assert!(matches!(found, Ok(None | Some(1))), "{len}: {found:?}");
    }
    let all = ModelFile::from_beginning("all", whole.0.clone(), whole.0.len() as u64);
    assert!(all.is_ok_and(|file| file.is_some()));
}
