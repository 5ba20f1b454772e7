//! Experts that are published in MXFP4: `golden/mxfp4.py` wrote what is expected.

use troika_base::DType;
use troika_kernels::quant;

use super::*;

#[path = "../../../engine/tests/common/requantize.rs"]
mod requantize;

const NAME: &str = "gpt-oss-mxfp4";

/// FNV-1a of values, word by word; zero has no sign.
fn fnv(values: &[f32]) -> String {
    let words = values.iter().map(|&value| (value + 0.0).to_bits());
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The bits are those of the checkpoint, and stand for the same weights.
#[test]
fn experts_in_mxfp4_stay_what_they_are() {
    let golden_json = read(&golden(NAME).join("golden.json"));
    let directory = checkpoint(NAME, &golden_json);
    let file = import(directory.path());
    let wants = golden_json["values"].as_object().unwrap();
    assert_eq!(wants.len(), 6);
    for (name, want) in wants {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype, DType::MXFP4, "{name}");
        let mut values = vec![0.0; tensor.n_elements() as usize];
        let bytes = file.read_all(tensor).unwrap();
        quant::dequantize_row(DType::MXFP4, &bytes, &mut values).unwrap();
        assert_eq!(fnv(&values), want.as_str().unwrap(), "{name}");
    }
    assert_eq!(file.metadata().u32("general.file_type").unwrap(), 38);
    // Products of these weights round activations, so logits are compared with the same weights as floats.
    let floats = requantize::requantize(&file, DType::F32);
    let floats = ModelFile::from_bytes(NAME, floats).unwrap();
    computes(NAME, load(&floats), &golden_json);
}

/// Codes that have no scales, or of another shape, are refused.
#[test]
fn codes_without_their_scales_are_refused() {
    let sound = read(&golden(NAME).join("golden.json"));
    let spoilt = |spoil: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut golden_json = sound.clone();
        spoil(golden_json["tensors"].as_object_mut().unwrap());
        let directory = checkpoint(NAME, &golden_json);
        Checkpoint::open(directory.path()).unwrap_err().to_string()
    };
    let scales = "model.layers.1.mlp.experts.down_proj_scales";
    let error = spoilt(&|tensors| drop(tensors.remove(scales)));
    assert!(error.contains(scales), "{error}");
    let error = spoilt(&|tensors| tensors[scales]["shape"] = serde_json::json!([4, 64, 1]));
    assert!(error.contains("MXFP4"), "{error}");
    let plain = "model.norm.weight";
    let error = spoilt(&|tensors| {
        tensors[plain] = serde_json::json!({"shape": [64], "codes": [0, 9]});
    });
    assert!(error.contains("U8"), "{error}");
}
