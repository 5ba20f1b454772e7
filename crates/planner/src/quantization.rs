//! How many bits a model's weights take: formats, and the recipes that mix them.
//!
//! A name such as `Q4_K_M` is a recipe: most matrices in one format, some in a better one. The recipes here are those of
//! llama.cpp's quantizer, averaged over the layers; sizes come out within two per cent of published files.

use troika_base::DType;

use crate::model::WeightBytes;

/// What a matrix is for; recipes go by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "explained at `model::Parameters`")]
pub enum Role {
    Embedding,
    Output,
    QueryKey,
    Value,
    AttentionOutput,
    GateUp,
    Down,
    ExpertGateUp,
    ExpertDown,
    Other,
    Unread,
}

/// What the weights are made of, as far as speed goes: it decides which units of a chip can multiply them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Integers in blocks with scales: multiplied as 8-bit integers, or unpacked to floats.
    Blocks,
    /// f16 or bf16.
    Half,
    /// f32.
    Single,
    /// 8-bit floats.
    Float8,
    /// 4-bit floats.
    Float4,
}

/// A named way to store a model's weights: `Q4_K_M`, `Q8_0`, `F16`, `MXFP4`, `AWQ`.
#[derive(Clone, PartialEq, Debug)]
pub struct Quantization {
    /// As people write it.
    pub name: String,
    /// What most of the weights are.
    pub numbers: Numbers,
    bits: Bits,
    /// The sizes of an actual file, which win over the recipe.
    pub exact: Option<WeightBytes>,
}

/// Average bits a weight.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bits {
    body: f64,
    value: f64,
    attention_output: f64,
    down: f64,
    experts: Option<f64>,
    embedding: f64,
    output: f64,
    /// The table where it is the output projection too.
    tied: f64,
}

/// A name that is not a quantization.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{name}` is not a quantization that is known; names look like Q4_K_M, Q8_0, F16, MXFP4, NVFP4, AWQ, FP8, 4bit"
)]
pub struct UnknownQuantization {
    /// What was asked for.
    pub name: String,
}

impl Quantization {
    /// The quantization of this name, in any case; prefixes such as `UD-` and suffixes of the makers' are accepted.
    ///
    /// # Errors
    /// If the name is none that is known.
    pub fn parse(name: &str) -> Result<Self, UnknownQuantization> {
        // llama-bench writes `Q4_K - Medium`.
        let mut plain = name.trim().to_uppercase();
        for (long, short) in [
            (" - MEDIUM", "_M"),
            (" - SMALL", "_S"),
            (" - LARGE", "_L"),
            ("ALL ", ""),
            (" MOE", ""),
        ] {
            plain = plain.replace(long, short);
        }
        let plain = plain.replace(['-', ' ', '.'], "_");
        let plain = plain
            .trim_start_matches("UD_")
            .trim_start_matches("UNSLOTH_DYNAMIC_")
            .trim_start_matches("I1_")
            .trim_start_matches("GGUF_")
            .trim_end_matches("_GGUF");
        let (bits, numbers) =
            recipe(plain).ok_or_else(|| UnknownQuantization { name: name.into() })?;
        Ok(Self {
            name: name.trim().to_owned(),
            numbers,
            bits,
            exact: None,
        })
    }

    /// The quantization of an actual file, whose sizes are known.
    pub fn of_file(name: &str, numbers: Numbers, weights: WeightBytes) -> Self {
        Self {
            name: name.to_owned(),
            numbers,
            bits: flat(0.0),
            exact: Some(weights),
        }
    }

    /// Average bits of a weight in this role; `tied` where the table of tokens is the output projection.
    pub fn bits(&self, role: Role, tied: bool) -> f64 {
        let bits = &self.bits;
        match role {
            Role::Embedding if tied => bits.tied,
            Role::Embedding => bits.embedding,
            Role::Output => bits.output,
            Role::Value => bits.value,
            Role::AttentionOutput => bits.attention_output,
            Role::Down => bits.down,
            Role::ExpertGateUp => bits.experts.unwrap_or(bits.body),
            Role::ExpertDown => bits.experts.unwrap_or(bits.down),
            Role::QueryKey | Role::GateUp | Role::Other | Role::Unread => bits.body,
        }
    }
}

/// The same bits everywhere.
fn flat(bits: f64) -> Bits {
    Bits {
        body: bits,
        value: bits,
        attention_output: bits,
        down: bits,
        experts: None,
        embedding: bits,
        output: bits,
        tied: bits,
    }
}

/// Two formats by halves.
fn mean(a: DType, b: DType) -> f64 {
    f64::midpoint(a.bits_per_weight(), b.bits_per_weight())
}

/// One GGUF format for the layers, with an output projection at least as good as Q6_K.
fn gguf(body: DType) -> Bits {
    let own = body.bits_per_weight();
    let output = own.max(DType::Q6_K.bits_per_weight());
    Bits {
        output,
        tied: output,
        ..flat(own)
    }
}

/// What servers of data centres store: matrices of the layers in `bits`, the rest in bf16.
fn layers_only(bits: f64) -> Bits {
    Bits {
        embedding: 16.0,
        output: 16.0,
        tied: 16.0,
        ..flat(bits)
    }
}

fn recipe(name: &str) -> Option<(Bits, Numbers)> {
    k_mix(name)
        .map(|bits| (bits, Numbers::Blocks))
        .or_else(|| plain(name))
        .or_else(|| foreign(name))
}

/// llama.cpp's mixtures of K formats.
fn k_mix(name: &str) -> Option<Bits> {
    use DType::{IQ3_S, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};
    let small = |body: DType, better: DType| {
        // An eighth of the layers has the better format.
        let part =
            |share: f64| body.bits_per_weight() * (1.0 - share) + better.bits_per_weight() * share;
        Bits {
            value: part(0.125),
            down: part(0.125),
            ..gguf(body)
        }
    };
    let medium = |body: DType, better: DType| Bits {
        value: mean(body, better),
        down: mean(body, better),
        ..gguf(body)
    };
    let large = |bits: Bits| Bits {
        embedding: Q8_0.bits_per_weight(),
        output: Q8_0.bits_per_weight(),
        tied: Q8_0.bits_per_weight(),
        ..bits
    };
    let three = |value: DType, down: f64, attention_output: DType| Bits {
        value: value.bits_per_weight(),
        down,
        attention_output: attention_output.bits_per_weight(),
        ..gguf(Q3_K)
    };
    Some(match name {
        "Q4_K_M" | "Q4_K" => medium(Q4_K, Q6_K),
        "Q4_K_S" => small(Q4_K, Q5_K),
        "Q4_K_L" => large(medium(Q4_K, Q6_K)),
        "Q4_K_XL" | "Q4_K_P" => medium(Q4_K, Q8_0),
        "Q5_K_M" | "Q5_K" => medium(Q5_K, Q6_K),
        "Q5_K_S" => gguf(Q5_K),
        "Q5_K_L" => large(medium(Q5_K, Q6_K)),
        "Q5_K_XL" | "Q5_K_P" => medium(Q5_K, Q8_0),
        "Q6_K" => gguf(Q6_K),
        "Q6_K_L" => large(gguf(Q6_K)),
        "Q6_K_XL" | "Q6_K_P" => medium(Q6_K, Q8_0),
        "Q8_K_XL" | "Q8_K_P" => flat(9.2),
        "Q3_K_S" => gguf(Q3_K),
        "Q3_K_M" | "Q3_K" | "Q3_K_P" => three(Q4_K, 4.55, Q4_K),
        "Q3_K_L" => three(Q5_K, Q5_K.bits_per_weight(), Q5_K),
        "Q3_K_XL" => large(three(Q5_K, Q5_K.bits_per_weight(), Q5_K)),
        "Q2_K" | "Q2_K_L" | "Q2_K_XL" | "Q2_K_P" => Bits {
            value: Q4_K.bits_per_weight(),
            down: Q3_K.bits_per_weight(),
            attention_output: Q3_K.bits_per_weight(),
            ..gguf(Q2_K)
        },
        "Q2_K_S" => Bits {
            output: Q6_K.bits_per_weight(),
            ..gguf(Q2_K)
        },
        "IQ3_M" => medium(IQ3_S, Q4_K),
        "IQ3_XS" => gguf(DType::IQ3_XXS).with_body(3.3),
        "IQ2_M" => gguf(DType::IQ2_S).with_body(2.7),
        _ => return None,
    })
}

impl Bits {
    fn with_body(self, bits: f64) -> Self {
        Self {
            output: self.output,
            tied: self.tied,
            ..flat(bits)
        }
    }
}

/// A single GGUF format.
fn plain(name: &str) -> Option<(Bits, Numbers)> {
    let single = match name {
        "FP16" | "HALF" => DType::F16,
        "FP32" => DType::F32,
        "MXFP4_MOE" => DType::MXFP4,
        other => DType::from_name(other)?,
    };
    Some(match single {
        DType::F32 => (flat(32.0), Numbers::Single),
        DType::F16 | DType::BF16 => (flat(16.0), Numbers::Half),
        // Only the experts are in 4 bits.
        DType::MXFP4 => (
            Bits {
                experts: Some(DType::MXFP4.bits_per_weight()),
                ..flat(DType::Q8_0.bits_per_weight())
            },
            Numbers::Float4,
        ),
        DType::NVFP4 => (layers_only(DType::NVFP4.bits_per_weight()), Numbers::Float4),
        DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::F64
        | DType::Q8_K
        | DType::Q8_1 => {
            return None;
        }
        format => (gguf(format), Numbers::Blocks),
    })
}

/// Formats of other engines.
fn foreign(name: &str) -> Option<(Bits, Numbers)> {
    let numbers = Numbers::Blocks;
    Some(match name {
        "AWQ" | "GPTQ" | "INT4" | "W4A16" | "GPTQ4" | "AWQ_4BIT" | "GPTQ_INT4" | "AUTOROUND" => {
            (layers_only(4.25), numbers)
        }
        "INT8" | "W8A16" | "W8A8" | "INT8_W8A16" => (layers_only(8.1), numbers),
        "FP8" | "FP8_DYNAMIC" | "MXFP8" => (layers_only(8.0), Numbers::Float8),
        "FP4" => (layers_only(4.5), Numbers::Float4),
        "Q4NX" => (flat(5.0), numbers),
        _ => {
            let bits = name
                .strip_prefix("MLX_")
                .unwrap_or(name)
                .strip_suffix("BIT")?
                .trim_end_matches('_');
            let bits: u32 = bits.parse().ok().filter(|bits| (2..=8).contains(bits))?;
            // Groups of 64 with a scale and a bias of 16 bits each.
            (flat(f64::from(bits) + 0.5), numbers)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for name in [
            "q4_k_m",
            "Q4_K_M",
            "UD-Q4_K_XL",
            "iq4-xs",
            "F16",
            "fp16",
            "MXFP4",
            "4bit",
            "MLX-8bit",
            "AWQ",
            "i1-IQ3_M",
        ] {
            assert!(Quantization::parse(name).is_ok(), "{name}");
        }
        for name in ["", "Q", "Q9_0", "bit", "99bit", "Q8_K", "I32", "💥"] {
            assert!(Quantization::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn only_experts_are_small_in_mxfp4() {
        let mxfp4 = Quantization::parse("MXFP4").expect("known");
        assert_eq!(mxfp4.bits(Role::ExpertDown, false), 4.25);
        assert_eq!(mxfp4.bits(Role::QueryKey, false), 8.5);
    }

    #[test]
    fn a_tied_table_is_as_good_as_an_output() {
        let q4 = Quantization::parse("Q4_K_M").expect("known");
        assert_eq!(q4.bits(Role::Embedding, false), 4.5);
        assert_eq!(q4.bits(Role::Embedding, true), 6.5625);
    }
}
