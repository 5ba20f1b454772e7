//! Rows of a benchmark table, predicted: so that anybody can hold the cost model against measurements.
//!
//! A [`Row`] names a device, an engine and a model as tables do; [`predict`] finds them in the catalogue and asks
//! [`crate::cost`], which knows nothing of the table. What cannot be predicted comes with the reason.

use serde::{Deserialize, Serialize};
use troika_base::{DeviceProfile, Estimate};

use crate::catalogue::{
    Block, Catalogue, Chip, Kind, blocks, profile, split_count, split_quantization,
};
use crate::cost::{Backend, Calibration, Forecast, Refusal, Setup, Slot, Split, Work, forecast};
use crate::model::ModelShape;
use crate::plan;
use crate::quantization::Quantization;

/// More devices than this are a slip of the pen.
const DEVICES_MAX: usize = 64;

/// What was, or would be, measured. Everything but device and model may be left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// `RTX 4090`, `2x RTX 3090`, `Apple M2 Ultra (76-core GPU)`, `cpu0` for this machine's.
    pub device: String,
    /// `llama.cpp`, `vllm`, `troika`, ...
    pub engine: String,
    /// `cuda`, `metal`, `vulkan`, `cpu`, ...
    pub backend: String,
    /// As the catalogue, a hub or a file names it.
    pub model: String,
    /// `Q4_K_M`; where absent, what the model's name says.
    pub quant: String,
    /// Tokens of the prompt; 0: reading was not measured.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer; 0: writing was not measured.
    pub gen_tokens: Option<u32>,
    /// Tokens in the context before.
    pub depth: Option<u32>,
    /// Sequences side by side.
    pub batch: Option<u32>,
    /// Measured answer tokens a second of all sequences, where this row is to calibrate others.
    pub decode_tps: Option<f64>,
    /// Measured prompt tokens a second of all sequences, likewise.
    pub prefill_tps: Option<f64>,
}

/// What the model says of a row.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Prediction {
    /// The device, by its name in the catalogue.
    pub device: Option<String>,
    /// The model, by its name in the catalogue.
    pub model: Option<String>,
    /// Answer tokens a second, of all sequences together.
    pub decode_tps: Option<Estimate>,
    /// Prompt tokens a second, of all sequences together.
    pub prefill_tps: Option<Estimate>,
    /// Bytes that are needed.
    pub memory_bytes: Option<u64>,
    /// Why something is missing, or what was taken for granted.
    pub reason: String,
}

/// Predicts a row. `here` are this machine's devices by their ids, `calibration` what is known of a device's real speed.
pub fn predict(
    row: &Row,
    catalogue: &Catalogue,
    here: &[(String, DeviceProfile)],
    calibration: impl Fn(&DeviceProfile) -> Option<Calibration>,
) -> Prediction {
    let mut prediction = Prediction::default();
    if let Err(reason) = fill(&mut prediction, row, catalogue, here, calibration) {
        prediction.reason = reason;
    }
    prediction
}

fn fill(
    prediction: &mut Prediction,
    row: &Row,
    catalogue: &Catalogue,
    here: &[(String, DeviceProfile)],
    calibration: impl Fn(&DeviceProfile) -> Option<Calibration>,
) -> Result<(), String> {
    let backend = backend(&row.backend)?;
    let (count, device) = device(row, backend, catalogue, here)?;
    prediction.device = Some(device.name.clone());
    let (model, quantization) = model(row, catalogue)?;
    prediction.model = Some(model.name.clone());
    let engine = engine(&row.engine);
    let setup = Setup {
        slots: vec![
            Slot {
                device: &device,
                memory_free: None,
            };
            count
        ],
        split: if matches!(
            engine.as_str(),
            "vllm" | "sglang" | "tensorrt-llm" | "exllamav3"
        ) {
            Split::Tensors
        } else {
            Split::Layers
        },
        link_gbs: None,
        backend,
        engine,
    };
    let factors = calibration(&device);
    let ask = |work: &Work| forecast(&setup, &model, &quantization, work, factors.as_ref());
    let (writing, reading) = works(row)?;
    let mut reasons = Vec::new();
    if let Some(work) = writing {
        let forecast = ask(&work).map_err(|refusal| refusal.to_string())?;
        prediction.decode_tps = Some(forecast.decode_tps_all);
        note(prediction, &mut reasons, forecast);
    }
    if let Some(work) = reading {
        let forecast = ask(&work).map_err(|refusal: Refusal| refusal.to_string())?;
        prediction.prefill_tps = forecast.prefill_tps;
        note(prediction, &mut reasons, forecast);
    }
    prediction.reason = reasons.join("; ");
    Ok(())
}

fn note(prediction: &mut Prediction, reasons: &mut Vec<String>, forecast: Forecast) {
    let bytes = forecast.memory.total();
    prediction.memory_bytes = Some(prediction.memory_bytes.unwrap_or(0).max(bytes));
    for reason in forecast.notes {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}

/// Writing and reading as two pieces of work.
///
/// `llama-bench` measures them apart, each behind `depth` tokens; servers and their load generators write behind the prompt.
fn works(row: &Row) -> Result<(Option<Work>, Option<Work>), String> {
    let prompt = row.prompt_tokens.unwrap_or(0);
    let gen_tokens = row.gen_tokens.unwrap_or(if prompt == 0 { 128 } else { 0 });
    let depth = row.depth.unwrap_or(0);
    let batch = row.batch.unwrap_or(1);
    if batch == 0 {
        return Err("`batch` is 0: it has to be at least 1".into());
    }
    if prompt == 0 && gen_tokens == 0 {
        return Err(
            "neither prompt_tokens nor gen_tokens is above 0: there is nothing to predict".into(),
        );
    }
    let total = [prompt, gen_tokens, depth]
        .into_iter()
        .try_fold(0u32, u32::checked_add);
    let context =
        total.ok_or("prompt_tokens, gen_tokens and depth add up to more than any context")?;
    let measured_apart = matches!(
        engine(&row.engine).as_str(),
        "llama.cpp" | "troika" | "mlx" | ""
    );
    let work = |prompt_tokens, gen_tokens, depth| Work {
        prompt_tokens,
        gen_tokens,
        depth,
        batch,
        kv_bits: 16.0,
        context,
        tokens_per_step: 1.0,
    };
    let before = if measured_apart {
        depth
    } else {
        depth + prompt
    };
    let writing = (gen_tokens > 0).then(|| work(0, gen_tokens, before));
    let reading = (prompt > 0).then(|| work(prompt, 0, depth));
    Ok((writing, reading))
}

fn engine(name: &str) -> String {
    let name = name.trim().to_lowercase();
    match name.as_str() {
        "llamacpp" | "llama-cpp" | "llama-bench" | "llamafile" | "llama-server" | "ggml" => {
            "llama.cpp".into()
        }
        "mlx-lm" | "mlx_lm" => "mlx".into(),
        "tensorrt" | "trt-llm" | "tensorrtllm" => "tensorrt-llm".into(),
        _ => name,
    }
}

fn backend(name: &str) -> Result<Option<Backend>, String> {
    let plain: String = name
        .to_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    Ok(Some(match plain.as_str() {
        "" => return Ok(None),
        "cuda" | "cublas" | "tensorrt" => Backend::Cuda,
        "rocm" | "hip" | "hipblas" => Backend::Rocm,
        "metal" | "mps" | "mlx" | "metalblas" | "mtl" => Backend::Metal,
        "vulkan" | "webgpu" | "wgpu" => Backend::Vulkan,
        "sycl" | "ipex" | "levelzero" => Backend::Sycl,
        "openvino" => Backend::OpenVino,
        "qnn" | "hexagon" | "genie" | "htp" => Backend::Qnn,
        "vitisai" | "flm" | "fastflowlm" | "ryzenai" | "xdna" => Backend::VitisAi,
        "coreml" | "ane" => Backend::CoreMl,
        "cpu" | "blas" | "openblas" | "amx" | "neon" => Backend::Cpu,
        _ => {
            return Err(format!(
                "`{name}` is not a back end that is known; say cuda, rocm, metal, vulkan, sycl, openvino, qnn, vitisai, coreml or cpu"
            ));
        }
    }))
}

/// The device of a row, and how many of it.
fn device(
    row: &Row,
    backend: Option<Backend>,
    catalogue: &Catalogue,
    here: &[(String, DeviceProfile)],
) -> Result<(usize, DeviceProfile), String> {
    let name = row.device.trim();
    if name.is_empty() {
        return Err("no device is named".into());
    }
    if let Some((_, profile)) = here.iter().find(|(id, _)| id.eq_ignore_ascii_case(name)) {
        return Ok((1, profile.clone()));
    }
    let (count, plain) = split_count(name);
    if count > DEVICES_MAX {
        return Err(format!(
            "{count} devices are more than the {DEVICES_MAX} that are computed"
        ));
    }
    // Tables say which part of a chip ran the model: `Core Ultra 7 258V NPU`.
    let whole = [" NPU", " GPU", " CPU", " iGPU"]
        .into_iter()
        .find_map(|part| plain.strip_suffix(part))
        .unwrap_or(plain);
    let found = catalogue
        .chip(plain)
        .or_else(|unknown| catalogue.chip(whole).map_err(|_| unknown))
        .map_err(|unknown| unknown.to_string())?;
    let block = block(found.row, plain, backend)?;
    Ok((count, profile(found.row, block, found.memory_gb)))
}

/// The part of a chip that did the work: as the back end says, else as the name says, else its GPU.
fn block(chip: &Chip, name: &str, backend: Option<Backend>) -> Result<Block, String> {
    let parts = blocks(chip);
    let named = name.to_lowercase();
    let wanted = match backend {
        Some(Backend::Cpu) => Some(Block::Cpu),
        Some(Backend::Qnn | Backend::VitisAi | Backend::CoreMl) => Some(Block::Npu),
        _ if named.contains("npu") && chip.kind != Kind::Npu => Some(Block::Npu),
        _ => None,
    };
    match wanted {
        Some(block) if parts.contains(&block) => Ok(block),
        // Benchmarks name the card beside which the processor ran.
        Some(Block::Cpu) => Err(format!(
            "{} is no processor; name the processor that ran it",
            chip.name
        )),
        Some(_) => Err(format!("{} has no NPU that is known", chip.name)),
        None => parts
            .first()
            .copied()
            .ok_or_else(|| format!("{} has nothing that runs a model", chip.name)),
    }
}

fn model(row: &Row, catalogue: &Catalogue) -> Result<(ModelShape, Quantization), String> {
    let name = row.model.trim();
    if name.is_empty() {
        return Err("no model is named".into());
    }
    let (_, in_name) = split_quantization(name);
    let shape = plan::choose::named(name, catalogue).map_err(|unknown| unknown.to_string())?;
    let quant = match (row.quant.trim(), in_name) {
        ("", Some(in_name)) => in_name,
        ("", None) if shape.architecture.replace('_', "-") == "gpt-oss" => "MXFP4",
        ("", None) => {
            return Err(
                "no quantization is told, neither in `quant` nor in the model's name".into(),
            );
        }
        (told, _) => told,
    };
    let quantization = Quantization::parse(quant).map_err(|unknown| unknown.to_string())?;
    Ok((shape, quantization))
}

/// How far rows with measured speeds lie from what is predicted of them: the median of each device's ratios.
pub fn calibrate(
    rows: &[Row],
    catalogue: &Catalogue,
    here: &[(String, DeviceProfile)],
) -> Vec<(String, Calibration)> {
    let mut ratios: Vec<(String, Vec<f64>, Vec<f64>)> = Vec::new();
    for row in rows {
        let predicted = predict(row, catalogue, here, |_| None);
        let Some(device) = predicted.device else {
            continue;
        };
        let at = ratios
            .iter()
            .position(|(name, ..)| *name == device)
            .unwrap_or_else(|| {
                ratios.push((device, Vec::new(), Vec::new()));
                ratios.len() - 1
            });
        let ratio = |measured: Option<f64>, predicted: Option<Estimate>| {
            let ratio = measured? / predicted?.value;
            (ratio.is_finite() && ratio > 0.0).then_some(ratio)
        };
        ratios[at]
            .1
            .extend(ratio(row.decode_tps, predicted.decode_tps));
        ratios[at]
            .2
            .extend(ratio(row.prefill_tps, predicted.prefill_tps));
    }
    ratios
        .into_iter()
        .map(|(device, decode, prefill)| {
            let calibration = Calibration {
                decode: median(decode),
                prefill: median(prefill),
            };
            (device, calibration)
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: &str, model: &str, quant: &str) -> Row {
        Row {
            device: device.into(),
            engine: "llama.cpp".into(),
            model: model.into(),
            quant: quant.into(),
            prompt_tokens: Some(512),
            gen_tokens: Some(128),
            ..Row::default()
        }
    }

    fn ask(row: &Row) -> Prediction {
        predict(row, Catalogue::builtin(), &[], |_| None)
    }

    #[test]
    fn rows_of_tables_are_understood() {
        for (device, model, quant, backend) in [
            ("RTX 4090", "LLaMA 2 7B", "Q4_0", "CUDA"),
            ("NVIDIA GeForce RTX 3060", "llama 7B", "Q4_0", "Vulkan"),
            ("Apple M2 Ultra", "llama 7B", "F16", "Metal"),
            ("M1 Max", "Meta-Llama-3-8B", "Q4_K - Medium", "MTL,BLAS"),
            ("AMD Radeon RX 7900 XTX", "gpt-oss-20b", "", "ROCm"),
            ("2x RTX 3090", "llama-3.3-70b", "Q4_K_M", "cuda"),
            (
                "Radeon 780M",
                "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
                "",
                "vulkan",
            ),
            ("Ryzen 9 7950X", "llama-3.1-8b", "Q4_0", "cpu"),
            ("Core Ultra 7 258V NPU", "llama-3.1-8b", "INT4", "openvino"),
        ] {
            let mut row = row(device, model, quant);
            row.backend = backend.split(',').next().unwrap_or_default().into();
            let got = ask(&row);
            let decode = got
                .decode_tps
                .unwrap_or_else(|| panic!("{device}, {model}: {}", got.reason));
            assert!(
                decode.low < decode.value && decode.value < decode.high,
                "{device}: {decode:?}"
            );
            assert!(got.prefill_tps.is_some(), "{device}: {}", got.reason);
        }
    }

    #[test]
    fn what_cannot_be_predicted_has_a_reason() {
        for (row, part) in [
            (row("RTX 40900", "llama 7B", "Q4_0"), "RTX 4090"),
            (row("RTX 4090", "lama 9Z", "Q4_0"), "lama 9Z"),
            (row("RTX 4090", "llama 7B", "Q99"), "Q99"),
            (row("RTX 4090", "llama 7B", ""), "quant"),
            (row("RTX 3060", "llama-3.3-70b", "Q4_K_M"), "needs"),
            (row("", "llama 7B", "Q4_0"), "device"),
            (row("999x RTX 4090", "llama 7B", "Q4_0"), "999"),
            (
                Row {
                    batch: Some(0),
                    ..row("RTX 4090", "llama 7B", "Q4_0")
                },
                "batch",
            ),
            (
                Row {
                    depth: Some(u32::MAX),
                    ..row("RTX 4090", "llama 7B", "Q4_0")
                },
                "context",
            ),
            (
                Row {
                    backend: "cpu".into(),
                    ..row("RTX 4090", "llama 7B", "Q4_0")
                },
                "processor",
            ),
        ] {
            let got = ask(&row);
            assert_eq!((got.decode_tps, got.prefill_tps), (None, None), "{row:?}");
            assert!(got.reason.contains(part), "{row:?}: {}", got.reason);
        }
    }

    #[test]
    fn one_measured_row_moves_all_of_its_device() {
        let measured = Row {
            decode_tps: Some(100.0),
            ..row("RTX 4070", "llama 7B", "Q4_0")
        };
        let factors = calibrate(std::slice::from_ref(&measured), Catalogue::builtin(), &[]);
        let got = predict(&measured, Catalogue::builtin(), &[], |device| {
            factors
                .iter()
                .find(|(name, _)| *name == device.name)
                .map(|(_, factor)| *factor)
        });
        let decode = got.decode_tps.expect("is predicted");
        assert!((decode.value - 100.0).abs() < 1e-6, "{decode:?}");
    }
}
