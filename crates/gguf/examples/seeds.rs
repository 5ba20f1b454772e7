//! Writes small good models, the seeds of the fuzz corpus: `cargo run --example seeds -- DIRECTORY`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use troika_base::DType;
use troika_gguf::{Array, Metadata, Writer, checked_tensor_bytes};

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: seeds DIRECTORY")?
        .into();
    fs::create_dir_all(&directory)?;

    Writer::new(Metadata::default()).write_file(&directory.join("empty.gguf"))?;
    Writer::new(vocabulary()).write_file(&directory.join("vocabulary.gguf"))?;
    for &dtype in DType::ALL {
        let mut metadata = Metadata::default();
        metadata.insert("general.alignment", 8u32);
        let shape = [dtype.block_len() as u64, 2];
        let data = vec![0; usize::try_from(checked_tensor_bytes(dtype, &shape)?)?];
        let mut writer = Writer::new(metadata);
        writer.tensor_bytes("a", dtype, &shape, &data);
        writer.tensor_bytes("b", DType::F32, &[1, 1, 1, 1], &[0; 4]);
        writer.write_file(&directory.join(format!("{dtype}.gguf")))?;
    }
    Ok(())
}

/// Every type of value.
fn vocabulary() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    metadata.insert("u8", 1u8);
    metadata.insert("i8", -1i8);
    metadata.insert("u16", 1u16);
    metadata.insert("i16", -1i16);
    metadata.insert("u32", 1u32);
    metadata.insert("i32", -1i32);
    metadata.insert("u64", 1u64);
    metadata.insert("i64", -1i64);
    metadata.insert("f32", 1f32);
    metadata.insert("f64", 1f64);
    metadata.insert("bool", true);
    metadata.insert("tokens", &["<s>", "", "▁a"][..]);
    metadata.insert("scores", vec![0f32, -1.0, -2.0]);
    metadata.insert("types", vec![3i32, 1, 1]);
    metadata.insert("flags", vec![true, false]);
    let nested = vec![Array::U8(vec![1]), Array::Array(vec![])];
    metadata.insert("nested", Array::Array(nested));
    metadata
}
