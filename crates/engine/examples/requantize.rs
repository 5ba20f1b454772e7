//! Writes a model with its matrices in another number format: `requantize IN.gguf FORMAT OUT.gguf`.
//!
//! For `bench/golden`, which shows the same files to llama.cpp that the tests make for themselves.

#[path = "../tests/common/requantize.rs"]
mod requantize;

use std::path::Path;

use troika_base::DType;
use troika_gguf::ModelFile;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, format, to] = &arguments[..] else {
        return Err("usage: requantize IN.gguf FORMAT OUT.gguf".into());
    };
    let dtype = DType::from_name(format).ok_or("no such format")?;
    let file = ModelFile::open(Path::new(from))?;
    std::fs::write(to, requantize::requantize(&file, dtype))?;
    Ok(())
}
