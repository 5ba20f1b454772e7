//! Names as people and drivers write them, made comparable.
//!
//! A name has two keys. The *strict* one is the name without case, spaces and punctuation, and is unique in the catalogue.
//! The *loose* one also lacks what says nothing: vendors, "graphics", "(TM)", sizes of memory. Several rows may share
//! one, and then it takes the memory, or a better name, to tell them apart.

/// A name without case, spaces and punctuation.
pub fn strict(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// A chip's name taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChipName {
    /// What is left of it.
    pub(super) loose: String,
    /// The memory that it names, in GB.
    pub(super) memory_gb: Option<f64>,
}

/// Words that tell no two chips apart.
const CHIP_NOISE: [&str; 25] = [
    "ati",
    "amd",
    "apple",
    "card",
    "chip",
    "corp",
    "corporation",
    "cpu",
    "edition",
    "geforce",
    "generation",
    "google",
    "gpu",
    "graphics",
    "inc",
    "intel",
    "nvidia",
    "processor",
    "qualcomm",
    "r",
    "radeon",
    "series",
    "tesla",
    "tm",
    "vram",
];

/// Takes a chip's name apart.
///
/// What drivers and `/proc/cpuinfo` add is cut off: `w/ Radeon 890M`, `@ 3.40GHz`, `16-Core Processor`; of
/// `AD102 [GeForce RTX 4090]` the part in brackets counts.
pub(super) fn chip_name(name: &str) -> ChipName {
    let mut name = name.to_lowercase();
    if let Some((_, rest)) = name.split_once('[')
        && let Some((inside, _)) = rest.split_once(']')
    {
        name = inside.to_owned();
    }
    for end in [" w/", " with ", " @"] {
        if let Some((before, _)) = name.split_once(end) {
            name.truncate(before.len());
        }
    }
    let words = words(&name);
    let mut kept = String::new();
    let mut memory_gb = None;
    let mut words = words.as_slice();
    while let [word, rest @ ..] = words {
        let next = rest.first().map(String::as_str);
        let size = match next {
            Some("gb" | "gib") => word.parse::<f64>().ok().map(|gb| (gb, 2)),
            _ => gigabytes(word).map(|gb| (gb, 1)),
        };
        words = match (size, word.as_str()) {
            (Some((gb, taken)), _) => {
                memory_gb = Some(gb);
                &words[taken..]
            }
            // "16-Core Processor" ends the name of a processor, where "32-core GPU" tells two chips apart.
            (None, _) if next == Some("core") && rest.get(1).is_some_and(|w| w == "processor") => {
                &rest[2..]
            }
            (None, "mobile") => {
                kept.push_str("laptop");
                rest
            }
            (None, "cores") => {
                kept.push_str("core");
                rest
            }
            (None, noise) if CHIP_NOISE.contains(&noise) => rest,
            (None, word) => {
                kept.push_str(word);
                rest
            }
        };
    }
    ChipName {
        loose: kept,
        memory_gb,
    }
}

/// `24gb` as a number.
fn gigabytes(word: &str) -> Option<f64> {
    let number = word
        .strip_suffix("gb")
        .or_else(|| word.strip_suffix("gib"))?;
    number.parse().ok()
}

/// Words that tell no two models apart.
const MODEL_NOISE: [&str; 12] = [
    "awq", "base", "chat", "gguf", "gptq", "hf", "instruct", "it", "latest", "meta", "mlx", "model",
];

/// A model's name without what says nothing: the account it is published by, the file's ending, "instruct" and the like.
///
/// The quantization should be split off before, by [`split_quantization`].
pub(super) fn model_key(name: &str) -> String {
    let name = name
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or(name)
        .to_lowercase();
    words(without_shard(name.trim_end_matches(".gguf")))
        .iter()
        .filter(|word| !MODEL_NOISE.contains(&word.as_str()))
        .map(String::as_str)
        .collect()
}

/// Runs of letters and digits.
pub(super) fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// A file's name without `-00001-of-00003`.
fn without_shard(name: &str) -> &str {
    let Some((rest, total)) = name.rsplit_once("-of-") else {
        return name;
    };
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    match rest.rsplit_once('-') {
        Some((name, part)) if is_number(part) && is_number(total) => name,
        _ => name,
    }
}

/// Splits a count off a name: `2x RTX 3090`, `2 x RTX 3090`, `RTX 3090 x2`, `RTX 3090 ×2`; without one it is 1.
///
/// ```
/// use troika_planner::catalogue::split_count;
/// assert_eq!(split_count("2x RTX 3090"), (2, "RTX 3090"));
/// assert_eq!(split_count("RX 7900 XTX"), (1, "RX 7900 XTX"));
/// ```
pub fn split_count(name: &str) -> (usize, &str) {
    let name = name.trim();
    let is_times = |c: char| matches!(c, 'x' | 'X' | '×' | '*');
    let digits = name.len() - name.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, rest) = name.split_at(digits);
    let rest = rest.trim_start();
    if let Some(rest) = rest.strip_prefix(is_times)
        && let rest = rest.trim_start_matches([' ', '\t', '-'])
        && !rest.is_empty()
        && let Ok(count @ 1..) = count.parse()
    {
        return (count, rest);
    }
    let without = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let count = &name[without.len()..];
    if let Some(before) = without.trim_end().strip_suffix(is_times)
        && before.ends_with([' ', '\t', '('])
        && let Ok(count @ 1..) = count.parse()
    {
        return (count, before.trim_end_matches([' ', '\t', '(']));
    }
    (1, name)
}

/// Splits a quantization off a model's name, as files, hubs and benchmarks write it.
///
/// ```
/// use troika_planner::catalogue::split_quantization;
/// assert_eq!(split_quantization("Qwen3-8B-Q4_K_M.gguf"), ("Qwen3-8B", Some("Q4_K_M")));
/// assert_eq!(split_quantization("llama 8B Q4_K - Medium"), ("llama 8B", Some("Q4_K - Medium")));
/// assert_eq!(split_quantization("llama3.1:8b"), ("llama3.1:8b", None));
/// ```
pub fn split_quantization(name: &str) -> (&str, Option<&str>) {
    let trimmed = name.trim();
    let no_ending = match trimmed
        .len()
        .checked_sub(5)
        .and_then(|at| trimmed.split_at_checked(at))
    {
        Some((start, ending)) if ending.eq_ignore_ascii_case(".gguf") => without_shard(start),
        _ => trimmed,
    };
    // From the left, so that the whole of `UD-Q4_K_XL` and of `Q4_K - Medium` is found.
    let is_boundary = |c: char| matches!(c, '-' | '.' | ':' | ' ' | '_' | '@' | '(');
    for (at, boundary) in no_ending.char_indices().filter(|&(_, c)| is_boundary(c)) {
        let suffix = &no_ending[at + boundary.len_utf8()..];
        if is_quantization(suffix) {
            let ends = |c: char| is_boundary(c) && c != ')';
            let rest = no_ending[..at].trim_end_matches(ends);
            if !rest.is_empty() {
                return (rest, Some(suffix.trim_end_matches(')').trim()));
            }
        }
    }
    (no_ending, None)
}

/// Whether a text is the name of a quantization, and nothing else.
fn is_quantization(text: &str) -> bool {
    let text = text.trim().trim_end_matches(')').to_ascii_uppercase();
    let text = text.replace(" - ", "_").replace(['-', ' '], "_");
    let text = text.trim_end_matches("_GGUF").trim_end_matches("_MOE");
    let text = text.strip_prefix("UD_").unwrap_or(text);
    let text = text.strip_prefix("MLX_").unwrap_or(text);
    let mut parts = text.split('_');
    let first = parts.next().unwrap_or_default();
    let digits = |rest: &str| {
        !rest.is_empty() && rest.len() <= 2 && rest.bytes().all(|b| b.is_ascii_digit())
    };
    let starts = ["Q", "IQ", "TQ", "F", "BF", "FP", "INT", "MXFP", "NVFP", "W"]
        .iter()
        .any(|letters| first.strip_prefix(letters).is_some_and(digits));
    let bits = first.strip_suffix("BIT").is_some_and(digits);
    let activations = first
        .strip_prefix('W')
        .and_then(|rest| rest.split_once('A'))
        .is_some_and(|(w, a)| digits(w) && digits(a));
    let named = matches!(first, "AWQ" | "GPTQ" | "EXL2" | "EXL3" | "BNB");
    let known = |part: &str| {
        digits(part)
            || matches!(
                part,
                "K" | "S"
                    | "M"
                    | "L"
                    | "XL"
                    | "XS"
                    | "XXS"
                    | "NL"
                    | "SMALL"
                    | "MEDIUM"
                    | "LARGE"
                    | "DYNAMIC"
                    | "BLOCK"
            )
            || part.strip_prefix("INT").is_some_and(digits)
            || part.strip_suffix("BIT").is_some_and(digits)
    };
    (starts || bits || activations || named) && parts.all(known)
}

/// The words of a chip's name that tell it apart.
pub(super) fn chip_words(name: &str) -> Vec<String> {
    let mut words = words(name);
    words.retain(|word| !CHIP_NOISE.contains(&word.as_str()));
    words
}

/// The words of a model's name that tell it apart.
pub(super) fn model_words(name: &str) -> Vec<String> {
    let mut words = words(name.rsplit('/').next().unwrap_or(name));
    words.retain(|word| !MODEL_NOISE.contains(&word.as_str()));
    words
}

/// How alike two names are, from 0 to 1: by their letters and by the words that they share.
pub(super) fn likeness(a: &[String], b: &[String]) -> f64 {
    let letters = strsim::normalized_damerau_levenshtein(&a.concat(), &b.concat());
    let shared = a.iter().filter(|word| b.contains(word)).count();
    let all = a.len() + b.len() - shared;
    let overlap = if all == 0 {
        0.0
    } else {
        shared as f64 / all as f64
    };
    // A number that is the same says more than letters that are.
    0.6 * letters + 0.4 * overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_have_one_key_however_they_are_written() {
        let check = |names: &[&str], loose: &str, memory_gb: Option<f64>| {
            for name in names {
                let want = ChipName {
                    loose: loose.to_owned(),
                    memory_gb,
                };
                assert_eq!(chip_name(name), want, "{name}");
            }
        };
        check(
            &[
                "NVIDIA GeForce RTX 4090",
                "rtx4090",
                "AD102 [GeForce RTX 4090]",
                "RTX-4090",
                "GeForce(TM) RTX 4090",
            ],
            "rtx4090",
            None,
        );
        check(
            &["RTX 4090 24GB", "RTX 4090 (24 GB)", "rtx4090-24GiB VRAM"],
            "rtx4090",
            Some(24.0),
        );
        check(
            &["NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Mobile"],
            "rtx4090laptop",
            None,
        );
        check(
            &["Apple M4 Max (40-core GPU)", "M4 Max 40 GPU cores"],
            "m4max40core",
            None,
        );
        check(
            &["AMD Ryzen AI 9 HX 370 w/ Radeon 890M", "Ryzen AI 9 HX 370"],
            "ryzenai9hx370",
            None,
        );
        check(
            &["Intel(R) Core(TM) i7-13700K CPU @ 3.40GHz"],
            "corei713700k",
            None,
        );
        check(
            &["AMD Ryzen 9 7950X 16-Core Processor"],
            "ryzen97950x",
            None,
        );
        check(&["NVIDIA H100 80GB HBM3"], "h100hbm3", Some(80.0));
    }

    #[test]
    fn counts_are_split_off() {
        for (name, want) in [
            ("2x RTX 3090", (2, "RTX 3090")),
            ("2 × RTX 3090", (2, "RTX 3090")),
            ("RTX 3090 x2", (2, "RTX 3090")),
            ("RTX 3090 (x4", (4, "RTX 3090")),
            ("8xH100", (8, "H100")),
            ("4x", (1, "4x")),
            ("0x RTX 3090", (1, "0x RTX 3090")),
            ("3090", (1, "3090")),
            ("", (1, "")),
            ("RX 7900 XTX", (1, "RX 7900 XTX")),
            (
                "99999999999999999999x A100",
                (1, "99999999999999999999x A100"),
            ),
        ] {
            assert_eq!(split_count(name), want, "{name}");
        }
    }

    #[test]
    fn quantizations_are_split_off() {
        for (name, rest, quantization) in [
            ("Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B", Some("Q4_K_M")),
            (
                "unsloth/Qwen3-30B-A3B-GGUF:UD-Q4_K_XL",
                "unsloth/Qwen3-30B-A3B-GGUF",
                Some("UD-Q4_K_XL"),
            ),
            (
                "llama3.1:8b-instruct-q4_K_M",
                "llama3.1:8b-instruct",
                Some("q4_K_M"),
            ),
            ("llama 8B Q4_K - Medium", "llama 8B", Some("Q4_K - Medium")),
            ("gpt-oss 20B MXFP4 MoE", "gpt-oss 20B", Some("MXFP4 MoE")),
            (
                "Meta-Llama-3-8B.BF16-00001-of-00002.gguf",
                "Meta-Llama-3-8B",
                Some("BF16"),
            ),
            (
                "Llama-3.1-8B-Instruct-AWQ-INT4",
                "Llama-3.1-8B-Instruct",
                Some("AWQ-INT4"),
            ),
            (
                "mlx-community/Qwen3-8B-4bit",
                "mlx-community/Qwen3-8B",
                Some("4bit"),
            ),
            ("Q4_K_M", "Q4_K_M", None),
            ("qwen3-8b", "qwen3-8b", None),
            ("phi-4", "phi-4", None),
            ("äöü", "äöü", None),
        ] {
            assert_eq!(split_quantization(name), (rest, quantization), "{name}");
        }
    }

    #[test]
    fn models_have_one_key_however_they_are_written() {
        for name in [
            "Qwen/Qwen3-8B-GGUF",
            "qwen3:8b",
            "Qwen3-8B",
            "qwen3 8B",
            "Qwen3-8B-Instruct.gguf",
        ] {
            assert_eq!(model_key(name), "qwen38b", "{name}");
        }
    }

    #[test]
    fn what_is_alike_is_found() {
        let like = |a: &str, b: &str| likeness(&chip_words(a), &chip_words(b));
        let near = like("RTX 3900", "NVIDIA GeForce RTX 3090");
        assert!(near > like("RTX 3900", "NVIDIA GeForce GTX 1080"));
        assert!(near > like("RTX 3900", "NVIDIA GeForce RTX 3080 Laptop GPU"));
        assert!(like("", "") <= 1.0);
    }
}
