//! llama-bench, the measuring program of llama.cpp: an entry per test, either reading (`pp`) or writing (`tg`) or both (`pg`).

use super::json::Entry;
use super::{Conditions, Measurement, Skipped, What};

/// Fields that are worth keeping by their own names.
const MORE: [&str; 12] = [
    "model_n_params",
    "n_batch",
    "n_ubatch",
    "type_k",
    "type_v",
    "split_mode",
    "tensor_split",
    "no_kv_offload",
    "flash_attn",
    "use_mmap",
    "cpu_info",
    "n_cpu_moe",
];

pub(super) fn entry(entry: &Entry<'_>) -> Result<(Vec<Measurement>, Vec<Skipped>), Skipped> {
    let value = entry.positive("avg_ts")?;
    let count = |name| entry.number(name).unwrap_or(0.0);
    let (prompt, answer) = (count("n_prompt"), count("n_gen"));
    let what = match (prompt > 0.0, answer > 0.0) {
        (true, true) => What::CombinedTps,
        (true, false) => What::PrefillTps,
        (false, true) => What::DecodeTps,
        (false, false) => {
            let why = "`n_prompt` and `n_gen` are both 0: what was measured is not told";
            return Err(Skipped::new(&*entry.place, why));
        }
    };
    let deviation = entry.number("stddev_ts");
    let mut measurement = Measurement::new(&source(entry), what, value).between(
        deviation.map(|deviation| value - deviation),
        deviation.map(|deviation| value + deviation),
    );
    measurement.engine = Some("llama.cpp".to_owned());
    measurement.backend = entry
        .text("backends")
        .map(|names| names.replace(',', "+").to_lowercase());
    measurement.device = device(entry);
    let (model, quant) = entry
        .text("model_type")
        .map_or((None, None), |text| split_model_type(&text));
    measurement.model = model.or_else(|| file_name(entry));
    measurement.quant = quant;
    measurement.when = entry.text("test_time");
    measurement.conditions = Conditions {
        prompt_tokens: Some(prompt),
        gen_tokens: Some(answer),
        // Older builds have no such test.
        depth: Some(count("n_depth")),
        batch: Some(1.0),
        threads: entry.number("n_threads"),
        gpu_layers: entry.number("n_gpu_layers"),
        repeats: entry
            .get("samples_ts")
            .and_then(|samples| samples.as_array())
            .map(|samples| samples.len() as f64),
        seconds: None,
        more: MORE
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), entry.text(name)?)))
            .chain(file_name(entry).map(|name| ("model_file".to_owned(), name)))
            .collect(),
    };
    Ok((vec![measurement], Vec::new()))
}

fn source(entry: &Entry<'_>) -> String {
    let mut source = "llama-bench".to_owned();
    if let Some(build) = entry.number("build_number").filter(|&build| build > 0.0) {
        source.push_str(&format!(" b{build}"));
    }
    if let Some(commit) = entry.text("build_commit") {
        source.push_str(&format!(" ({commit})"));
    }
    source
}

/// The chip that did the work: the GPU's name if one was used, otherwise the processor's.
fn device(entry: &Entry<'_>) -> Option<String> {
    let backends = entry.text("backends").unwrap_or_default().to_lowercase();
    let is_cpu_alone = backends
        .split(',')
        .all(|name| matches!(name.trim(), "cpu" | "blas"));
    let layers = entry.number("n_gpu_layers");
    match entry.text("gpu_info") {
        Some(gpu) if !is_cpu_alone && layers != Some(0.0) => Some(gpu),
        _ => entry.text("cpu_info"),
    }
}

/// The file's name without its directories, which are the user's own affair.
fn file_name(entry: &Entry<'_>) -> Option<String> {
    let path = entry.text("model_filename")?;
    let name = path.rsplit(['/', '\\']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Model and quantization from llama.cpp's description of them: `llama 8B Q4_K - Medium`.
pub(super) fn split_model_type(text: &str) -> (Option<String>, Option<String>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| is_quantization(word)) else {
        return (Some(text.to_owned()), None);
    };
    let name = words[..at]
        .iter()
        .filter(|word| !matches!(**word, "mostly" | "all"))
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    let base = words[at].to_ascii_uppercase();
    let size = match words.get(at + 1..at + 3) {
        Some(["-", size]) => *size,
        _ => "",
    };
    let quant = match (&*base, size) {
        // The plain Q2_K is called medium, though there is no Q2_K_M.
        ("Q2_K", "Medium") => base,
        (_, "Small") => base + "_S",
        (_, "Medium") => base + "_M",
        (_, "Large") => base + "_L",
        _ => base,
    };
    ((!name.is_empty()).then_some(name), Some(quant))
}

fn is_quantization(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let digit_after = |prefix: &str| {
        word.strip_prefix(prefix).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_')
        })
    };
    matches!(
        &*word,
        "F16" | "F32" | "BF16" | "FP16" | "FP32" | "MXFP4" | "NVFP4"
    ) || ["Q", "IQ", "TQ"].into_iter().any(digit_after)
}
