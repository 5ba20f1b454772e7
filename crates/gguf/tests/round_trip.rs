//! What is written reads back the same, whatever it is.

mod common;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;
use troika_base::DType;
use troika_gguf::{
    Array, Error, Metadata, ModelFile, Problem, Value, Writer, checked_tensor_bytes,
};

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..50).prop_map(Array::U8),
        vec(any::<i8>(), 0..50).prop_map(Array::I8),
        vec(any::<u16>(), 0..50).prop_map(Array::U16),
        vec(any::<i16>(), 0..50).prop_map(Array::I16),
        vec(any::<u32>(), 0..50).prop_map(Array::U32),
        vec(any::<i32>(), 0..50).prop_map(Array::I32),
        vec(any::<f32>(), 0..50).prop_map(Array::F32),
        vec(any::<bool>(), 0..50).prop_map(Array::Bool),
        vec(".*", 0..20).prop_map(Array::String),
        vec(any::<u64>(), 0..50).prop_map(Array::U64),
        vec(any::<i64>(), 0..50).prop_map(Array::I64),
        vec(any::<f64>(), 0..50).prop_map(Array::F64),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| vec(inner, 0..5).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".*".prop_map(Value::String),
        array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

/// A tensor's format and shape, and the byte that fills it.
fn tensor() -> impl Strategy<Value = (DType, Vec<u64>, u8)> {
    let shape = (1..3u64, vec(1..4u64, 0..4));
    (select(DType::ALL), shape, any::<u8>()).prop_map(|(dtype, (blocks, rest), fill)| {
        let mut shape = vec![blocks * dtype.block_len() as u64];
        shape.extend(rest);
        (dtype, shape, fill)
    })
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn written_models_read_back(
        entries in vec((".{0,20}", value()), 0..12),
        tensors in vec(tensor(), 0..8),
        alignment in proptest::option::of(select(&[8u32, 16, 32, 64, 4096][..])),
    ) {
        let mut metadata = Metadata::default();
        for (key, value) in entries {
            metadata.insert(key, value);
        }
        if let Some(n) = alignment {
            metadata.insert("general.alignment", n);
        }
        let mut writer = Writer::new(metadata.clone());
        for (i, (dtype, shape, fill)) in tensors.iter().enumerate() {
            let bytes = checked_tensor_bytes(*dtype, shape).unwrap();
            // In several writes, as a callback that streams would.
            writer.tensor(format!("tensor.{i}"), *dtype, shape, move |out| {
                (0..bytes).try_for_each(|_| out.write_all(&[*fill]))?;
                Ok(())
            });
        }
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).unwrap();

        let model = ModelFile::from_bytes("round trip", bytes).unwrap();
        prop_assert_eq!(model.version(), 3);
        prop_assert_eq!(model.metadata(), &metadata);
        let keys = |m: &Metadata| m.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(keys(model.metadata()), keys(&metadata), "the order is kept");
        prop_assert_eq!(model.tensors().len(), tensors.len());
        for (i, (dtype, shape, fill)) in tensors.iter().enumerate() {
            let info = model.tensor(&format!("tensor.{i}")).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (*dtype, shape));
            prop_assert_eq!(info.offset % u64::from(alignment.unwrap_or(32)), 0);
            prop_assert!(model.read_all(info).unwrap().iter().all(|byte| byte == fill));
        }
        prop_assert!(common::exercise::exercise(&common::exercise::rewritten(&model)));
    }
}

/// Strings and numbers that straddle the reader's buffer of 64 KiB at every alignment.
#[test]
fn values_cross_the_buffer() {
    for shift in 0..24 {
        let mut metadata = Metadata::default();
        metadata.insert("shift", "x".repeat(shift));
        metadata.insert(
            "tokens",
            (0..9000)
                .map(|i| "y".repeat(i % 23))
                .collect::<Vec<String>>(),
        );
        metadata.insert(
            "scores",
            (0..40_000).map(|i| i as f32).collect::<Vec<f32>>(),
        );
        metadata.insert("types", (0..30_000u64).collect::<Vec<u64>>());
        metadata.insert("template", "long ".repeat(50_000));
        metadata.insert("flags", vec![true; 70_000]);
        metadata.insert("last", 7u16);
        let mut bytes = Vec::new();
        Writer::new(metadata.clone()).write_to(&mut bytes).unwrap();
        let model = ModelFile::from_bytes("large", bytes).unwrap();
        assert!(*model.metadata() == metadata);
    }
}

/// What the reader would refuse is not written at all.
#[test]
fn the_writer_refuses_what_the_reader_would() {
    let check = |metadata: Metadata, tensors: &[(&str, DType, &[u64])], want: &str| {
        let mut writer = Writer::new(metadata);
        for &(name, dtype, shape) in tensors {
            writer.tensor(name, dtype, shape, |_| panic!("no data is asked for"));
        }
        let mut bytes = Vec::new();
        let error = writer.write_to(&mut bytes).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
        assert!(bytes.is_empty(), "written all the same");
    };
    let none = Metadata::default;
    let with = |key: String, value: Value| {
        let mut metadata = Metadata::default();
        metadata.insert(key, value);
        metadata
    };
    check(
        none(),
        &[("w", DType::Q4_K, &[255])],
        "tensor `w`, byte 24: rows of 255 weights",
    );
    check(
        none(),
        &[("w", DType::F32, &[])],
        "tensor `w`, byte 24: 0 dimensions",
    );
    check(
        none(),
        &[("w", DType::F32, &[2, 0])],
        "tensor `w`, byte 24: dimension 1 is 0",
    );
    check(
        none(),
        &[("w", DType::F32, &[1 << 61, 2])],
        "no size that fits 64 bits",
    );
    check(
        none(),
        &[("w", DType::F32, &[1]), ("w", DType::F32, &[1])],
        "stands twice",
    );
    check(
        none(),
        &[(&"n".repeat(65), DType::F32, &[1])],
        "65 bytes, expected 64",
    );
    let huge: &[u64] = &[1 << 60];
    check(
        none(),
        &[("a", DType::I64, huge), ("b", DType::I64, huge)],
        "no size that fits 64 bits",
    );
    check(
        with("k".repeat(65536), 1u8.into()),
        &[],
        "65536 bytes, expected 65535",
    );
    check(
        with("general.alignment".to_owned(), 24u32.into()),
        &[],
        "found u32 24",
    );
    let deep = (0..9).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    check(
        with("deep".to_owned(), deep.into()),
        &[],
        "nested more than 8 deep",
    );
}

#[test]
fn data_of_another_length_is_an_error() {
    for have in [0u64, 15, 17, 100] {
        let mut writer = Writer::new(Metadata::default());
        writer.tensor("w", DType::F32, &[4], move |out| {
            // A callback that ignores what it is told is caught too.
            (0..have).for_each(|_| _ = out.write_all(&[0]));
            Ok(())
        });
        match writer.write_to(&mut Vec::new()) {
            Err(Error::DataLength {
                tensor,
                want: 16,
                have: counted,
            }) => {
                assert_eq!((tensor.as_str(), counted), ("w", have));
            }
            other => panic!("{have} bytes: {other:?}"),
        }
    }
}

#[test]
fn an_error_of_the_callback_is_kept() {
    let mut writer = Writer::new(Metadata::default());
    writer.tensor("w", DType::F32, &[4], |_| {
        Err("the disk of the source is gone".into())
    });
    let error = writer.write_to(&mut Vec::new()).unwrap_err();
    assert!(
        matches!(&error, Error::Data { tensor, source } if tensor == "w" && source.to_string().contains("gone"))
    );
}

#[test]
fn sizes_agree_with_wide_arithmetic() {
    // Near the largest shapes that fit, and just above.
    let shapes: &[&[u64]] = &[
        &[1 << 20, 1 << 20, 1 << 20],
        &[1 << 31, 1 << 31],
        &[1 << 60],
        &[256, u64::MAX],
        &[1 << 62, 3],
    ];
    for &dtype in DType::ALL {
        for shape in shapes
            .iter()
            .filter(|shape| shape[0] % dtype.block_len() as u64 == 0)
        {
            let product = shape
                .iter()
                .try_fold(1u128, |product, &n| product.checked_mul(u128::from(n)))
                .unwrap();
            let wide = product / dtype.block_len() as u128 * dtype.block_bytes() as u128;
            match checked_tensor_bytes(dtype, shape) {
                Ok(bytes) => assert_eq!(u128::from(bytes), wide),
                Err(Problem::SizeOverflow { .. }) => {
                    assert!(
                        wide.max(product) > u128::from(u64::MAX),
                        "{dtype} {shape:?}"
                    )
                }
                Err(other) => panic!("{dtype} {shape:?}: {other}"),
            }
        }
    }
}
