//! A model's facts for people.

use std::fmt::Write as _;

use serde_json::Value;
use troika_base::Bytes;
use troika_library::{Lora, Manifest};

use super::facts::Facts;
use crate::output::{self, Align, count, line, number};

/// Characters of a value that are shown.
const VALUE_WIDTH: usize = 72;

pub(super) fn page(facts: &Facts<'_>, with_tensors: bool) -> String {
    let mut page = format!("{}\n", line(facts.name(), VALUE_WIDTH));
    page.push_str(&indented(Align::Left, &overview(facts)));
    if let Some(manifest) = facts.manifest {
        page.push_str("\nsettings\n");
        page.push_str(&indented(Align::Left, &settings(manifest)));
    }
    if !facts.memory.is_empty() {
        page.push_str("\nmemory\n");
        page.push_str(&memory(facts));
    }
    page.push_str("\nmetadata\n");
    page.push_str(&indented(Align::Left, &metadata(facts)));
    if with_tensors {
        page.push_str("\ntensors\n");
        page.push_str(&tensors(facts));
    }
    page
}

fn overview(facts: &Facts<'_>) -> Vec<[String; 2]> {
    let unknown = || "unknown".to_owned();
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row(
        "file",
        format!(
            "{}, GGUF {}",
            Bytes(facts.file.bytes()),
            facts.file.version()
        ),
    );
    row(
        "architecture",
        facts
            .architecture()
            .map_or_else(unknown, |name| line(name, VALUE_WIDTH)),
    );
    if !facts.file.tensors().is_empty() {
        row("parameters", count(facts.formats.parameters()));
        row("quantization", quantization(facts));
    }
    if let Some(spec) = &facts.spec {
        row("context", format!("{} tokens", spec.n_ctx));
        row(
            "shape",
            format!(
                "{} layers, width {}, feed-forward {}, {} heads of {} ({} for keys and values)",
                spec.n_layer, spec.n_embd, spec.n_ff, spec.n_head, spec.head_dim, spec.n_head_kv
            ),
        );
    }
    if let Some(tokenizer) = &facts.tokenizer {
        let pre = tokenizer
            .pre_name()
            .map(|pre| format!(" ({})", line(pre, 24)));
        row(
            "tokenizer",
            format!(
                "{}{}, {} tokens",
                tokenizer.model_name(),
                pre.unwrap_or_default(),
                tokenizer.n_vocab()
            ),
        );
    }
    row(
        "chat template",
        match (facts.template, &facts.template_error) {
            (Some(_), Some(error)) => line(error, 200),
            (Some(template), None) => {
                format!("{} (--template prints it)", Bytes(template.len() as u64))
            }
            (None, _) => "none: it continues texts".to_owned(),
        },
    );
    row(
        "runs here",
        match &*facts.obstacles {
            [] => "yes".to_owned(),
            obstacles => format!("no: {}", line(&obstacles.join("; "), 400)),
        },
    );
    rows
}

/// What was given to a created model.
fn settings(manifest: &Manifest) -> Vec<[String; 2]> {
    let mut rows = vec![["made of".to_owned(), line(&manifest.from, VALUE_WIDTH)]];
    for Lora { from, scale } in &manifest.adapters {
        rows.push(["adapter".to_owned(), format!("{from}, times {scale}")]);
    }
    if let Ok(Value::Object(parameters)) = serde_json::to_value(&manifest.parameters) {
        let row = |(name, value): (String, Value)| [name, line(&value.to_string(), VALUE_WIDTH)];
        rows.extend(parameters.into_iter().map(row));
    }
    let texts = [("system", &manifest.system), ("license", &manifest.license)];
    for (name, text) in texts {
        rows.extend(
            text.iter()
                .map(|text| [name.to_owned(), line(text, VALUE_WIDTH)]),
        );
    }
    if !manifest.messages.is_empty() {
        let count = manifest.messages.len();
        rows.push([
            "messages".to_owned(),
            format!("{count} before every conversation"),
        ]);
    }
    rows
}

/// Formats with their share of the bytes.
fn quantization(facts: &Facts<'_>) -> String {
    let total = facts.formats.bytes().0.max(1) as f64;
    let formats = facts.formats.by_bytes();
    let mut text: Vec<_> = formats
        .iter()
        .map(|(dtype, format)| format!("{dtype} {} %", number(format.bytes as f64 * 100.0 / total)))
        .collect();
    if let Some(bits) = facts.formats.bits_per_weight() {
        text.push(format!("{} bits per weight", number(bits)));
    }
    text.join(", ")
}

fn memory(facts: &Facts<'_>) -> String {
    let mut rows = vec![["context", "weights", "KV cache", "together"].map(str::to_owned)];
    for footprint in &facts.memory {
        rows.push([
            footprint.n_ctx.to_string(),
            footprint.weights.to_string(),
            footprint.kv.to_string(),
            footprint.total().to_string(),
        ]);
    }
    let mut text = indent(&output::table([Align::Right; 4], &rows));
    if let Some(least) = facts.memory.iter().find_map(|memory| memory.weights_min) {
        text += &format!(
            "  Where memory is short, experts stay in the file: slow, and {least} of weights will do.\n"
        );
    }
    text
}

fn metadata(facts: &Facts<'_>) -> Vec<[String; 2]> {
    facts
        .file
        .metadata()
        .iter()
        .map(|(key, value)| [line(key, 60), line(&value.to_string(), VALUE_WIDTH)])
        .collect()
}

fn tensors(facts: &Facts<'_>) -> String {
    let mut rows = vec![["name", "format", "shape", "size"].map(str::to_owned)];
    for tensor in facts.file.tensors() {
        let shape: Vec<_> = tensor.shape.iter().map(u64::to_string).collect();
        rows.push([
            line(&tensor.name, 60),
            tensor.dtype.to_string(),
            shape.join(" × "),
            Bytes(tensor.bytes).to_string(),
        ]);
    }
    use Align::{Left, Right};
    indent(&output::table([Left, Left, Left, Right], &rows))
}

fn indented(align: Align, rows: &[[String; 2]]) -> String {
    indent(&output::table([Align::Left, align], rows))
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {line}");
        out
    })
}
