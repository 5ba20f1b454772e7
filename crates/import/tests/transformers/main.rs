//! Imported models against Hugging Face's transformers: `golden/make.py` wrote what is expected. Weights are a hash of
//! their names and indices, computed here as there.
#![expect(
    clippy::unwrap_used,
    reason = "golden files that are not what they should be fail the test"
)]

mod encoders;
mod mxfp4;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use troika_base::TokenId;
use troika_device::LoadOptions;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Adapter, CpuDevice, Model, Session, with_adapters};
use troika_gguf::ModelFile;
use troika_import::Checkpoint;

/// Tokens of the cache: more than any golden text has.
const N_CTX: usize = 256;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Evenly spread from 0 to 1: SplitMix64 of the name's FNV-1a and the index.
fn units(seed: &Value, name: &str, n: usize) -> impl Iterator<Item = f64> + use<> {
    let start = format!("{seed}:{name}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let value = move |i: u64| {
        let x = start.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f64 / f64::from(1 << 24)
    };
    (1..=n as u64).map(value)
}

/// What `make.py` has for weights: floats of a mean and a spread.
fn weights(units: impl Iterator<Item = f64>, [mean, spread]: [f64; 2]) -> Vec<u8> {
    units
        .flat_map(|unit| ((mean + spread * (unit - 0.5) * 12f64.sqrt()) as f32).to_le_bytes())
        .collect()
}

/// A checkpoint as its makers would publish it.
fn checkpoint(name: &str, golden_json: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf, to: &str| std::fs::copy(from, directory.path().join(to)).unwrap();
    copy(golden(name).join("config.json"), "config.json");
    copy(golden("tokenizer.json"), "tokenizer.json");
    copy(golden("tokenizer_config.json"), "tokenizer_config.json");
    save(golden_json, &directory.path().join("model.safetensors"));
    directory
}

/// Writes the tensors that a golden file tells of.
fn save(golden_json: &Value, path: &Path) {
    let mut tensors = BTreeMap::new();
    for (tensor, told) in golden_json["tensors"].as_object().unwrap() {
        let shape = told["shape"].as_array().unwrap().iter();
        let shape: Vec<usize> = shape.map(|n| n.as_u64().unwrap() as usize).collect();
        let units = units(&golden_json["seed"], tensor, shape.iter().product());
        let pair = |key: &str| {
            let pair = told[key].as_array()?;
            Some([0, 1].map(|i| pair[i].as_f64().unwrap()))
        };
        // Codes and scales are told by the least and by how many there are.
        let (dtype, bytes) = match pair("codes") {
            Some([least, count]) => {
                let code = |unit: f64| (least + (unit * count).floor()) as u8;
                (Dtype::U8, units.map(code).collect())
            }
            None => (Dtype::F32, weights(units, pair("kind").unwrap())),
        };
        tensors.insert(tensor.clone(), (dtype, shape, bytes));
    }
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn import(directory: &Path) -> ModelFile {
    let path = directory.join("model.gguf");
    let checkpoint = Checkpoint::open(directory).unwrap();
    let mut last = None;
    let progress = |progress| {
        last = Some(progress);
        ControlFlow::Continue(())
    };
    checkpoint.write(&path, progress).unwrap();
    let last = last.unwrap();
    assert_eq!(
        (last.done_bytes, last.bytes),
        (checkpoint.bytes(), checkpoint.bytes())
    );
    ModelFile::open(&path).unwrap()
}

fn load(file: &ModelFile) -> Model {
    let device = CpuDevice::batch_invariant(2);
    let options = LoadOptions::new(N_CTX);
    Model::load(file, &device, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    let id = |id: &Value| TokenId(id.as_u64().unwrap() as u32);
    value.as_array().unwrap().iter().map(id).collect()
}

fn argmax(row: &[f32]) -> TokenId {
    let best = (0..row.len())
        .max_by(|&a, &b| row[a].total_cmp(&row[b]))
        .unwrap();
    TokenId(best as u32)
}

/// The largest logits of some tokens of the prompt, and the greedy tokens after it.
fn agrees(name: &str) {
    let golden = read(&golden(name).join("golden.json"));
    let directory = checkpoint(name, &golden);
    computes(name, load(&import(directory.path())), &golden);
}

/// The same with what PEFT has trained over the model.
fn agrees_with_adapter(name: &str) {
    let of_model = read(&golden(name).join("golden.json"));
    let directory = checkpoint(name, &of_model);
    let file = import(directory.path());
    let of_adapter = golden(&format!("adapter-{name}"));
    let golden = read(&of_adapter.join("golden.json"));
    let adapter = adapter_directory(&of_adapter, &golden);
    let adapter = Adapter {
        file: troika_import::adapter(adapter.path(), &file).unwrap(),
        scale: 1.0,
    };
    let file = with_adapters(file, &[adapter]).unwrap();
    computes(name, load(&file), &golden);
}

fn adapter_directory(from: &Path, golden_json: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let config = "adapter_config.json";
    std::fs::copy(from.join(config), directory.path().join(config)).unwrap();
    let weights = directory.path().join("adapter_model.safetensors");
    save(golden_json, &weights);
    directory
}

fn computes(name: &str, mut model: Model, golden: &Value) {
    let mut session = Session::new(&mut model);
    let logits = session.score(&ids(&golden["prompt"])).unwrap();
    let rows: Vec<&[f32]> = logits.rows().collect();
    let mut worst = 0f64;
    for (position, top) in golden["top"].as_object().unwrap() {
        let row = rows[position.parse::<usize>().unwrap()];
        let largest = top[0][1].as_f64().unwrap().abs();
        for pair in top.as_array().unwrap() {
            let have = f64::from(row[pair[0].as_u64().unwrap() as usize]);
            worst = worst.max((have - pair[1].as_f64().unwrap()).abs() / largest);
        }
    }
    assert!(
        worst < 1e-3,
        "{name}: logits differ by {worst:.2e} of the largest"
    );
    let mut next = argmax(rows[rows.len() - 1]);
    for (i, want) in ids(&golden["greedy"]).into_iter().enumerate() {
        assert_eq!(next, want, "{name}: greedy token {i}");
        next = argmax(session.decode(next).unwrap());
    }
}

macro_rules! agree {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                agrees($name);
            }
        )*
    };
}

agree! {
    llama: "llama",
    mistral: "mistral",
    mixtral: "mixtral",
    qwen2: "qwen2",
    qwen3: "qwen3",
    qwen3moe: "qwen3moe",
    smollm3: "smollm3",
    granite: "granite",
    granitemoe: "granitemoe",
    gemma2: "gemma2",
    gemma3: "gemma3",
    phi3: "phi3",
    phi3_long: "phi3-long",
    gpt_oss: "gpt-oss",
}

#[test]
fn adapters_of_llama() {
    agrees_with_adapter("llama");
}

#[test]
fn adapters_of_qwen3() {
    agrees_with_adapter("qwen3");
}

#[test]
fn adapters_of_phi3() {
    agrees_with_adapter("phi3");
}

/// What would be computed wrongly or left out is refused by name.
#[test]
fn adapters_that_are_not_known_are_refused() {
    let of_model = read(&golden("qwen3").join("golden.json"));
    let model = checkpoint("qwen3", &of_model);
    let file = import(model.path());
    let of_adapter = golden("adapter-qwen3");
    let sound = read(&of_adapter.join("golden.json"));
    let refused = |spoil: &dyn Fn(&Path)| {
        let directory = adapter_directory(&of_adapter, &sound);
        spoil(directory.path());
        let error = troika_import::adapter(directory.path(), &file).unwrap_err();
        error.to_string()
    };
    let set = |key: &'static str, value: Value| {
        move |directory: &Path| {
            let path = directory.join("adapter_config.json");
            let mut config = read(&path);
            config[key] = value.clone();
            std::fs::write(path, config.to_string()).unwrap();
        }
    };
    for (key, value) in [
        ("peft_type", Value::from("IA3")),
        ("use_dora", Value::from(true)),
        ("bias", Value::from("all")),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("alpha_pattern", serde_json::json!({"q_proj": 3})),
        ("lora_alpha", Value::Null),
    ] {
        let error = refused(&set(key, value));
        assert!(error.contains(key), "{error}");
    }
    let without = |directory: &Path| {
        std::fs::remove_file(directory.join("adapter_config.json")).unwrap();
    };
    assert!(refused(&without).contains("adapter_config.json"));
    let pickle = |directory: &Path| {
        let from = directory.join("adapter_model.safetensors");
        std::fs::rename(from, directory.join("adapter_model.bin")).unwrap();
    };
    assert!(refused(&pickle).contains("pickle"));
    let name = "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_A.weight";
    let strange = |directory: &Path| {
        let golden = serde_json::json!({
            "seed": 0,
            "tensors": {name: {"shape": [4, 64], "kind": [0.0, 1.0]}},
        });
        save(&golden, &directory.join("adapter_model.safetensors"));
    };
    assert!(refused(&strange).contains(name));
}

/// Texts become the tokens that Hugging Face's tokenizers make of them.
#[test]
fn the_tokenizer_is_the_same() {
    let golden_json = read(&golden("llama").join("golden.json"));
    let directory = checkpoint("llama", &golden_json);
    let model = load(&import(directory.path()));
    let options = EncodeOptions {
        add_special: false,
        parse_special: true,
    };
    for pair in read(&golden("tokens.json")).as_array().unwrap() {
        let text = pair[0].as_str().unwrap();
        assert_eq!(
            model.tokenizer().encode(text, options),
            ids(&pair[1]),
            "{text:?}"
        );
    }
    assert!(model.tokenizer().adds_bos());
    assert!(model.chat_template().unwrap().is_ok());
}
