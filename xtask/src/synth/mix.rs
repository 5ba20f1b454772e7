//! Which tensor gets which number format, by the rules that the field's quantizer follows.

use std::fmt;
use std::str::FromStr;

use troika_base::DType;

/// What a tensor is for, as far as its number format depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The embedding matrix; with `tied` it is the output matrix too.
    Embedding { tied: bool },
    /// The output matrix.
    Output,
    /// `attn_v` or `ffn_down` of a layer: the two that suffer most from few bits.
    Sensitive { layer: usize },
    /// Any other matrix.
    Matrix,
    /// What scores experts: always F32.
    Router,
    /// Norms, biases and rope factors: always F32.
    Vector,
}

/// A recipe for a whole file, as the suffix of a file's name says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(
    non_camel_case_types,
    reason = "recipes are spelt as GGUF spells them, so that a search finds them everywhere"
)]
pub(crate) enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q4_0,
    Q4_K_M,
}

impl Mix {
    pub(crate) const ALL: &'static [Self] = &[
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6_K,
        Self::Q4_0,
        Self::Q4_K_M,
    ];

    /// The value of `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4_K_M => 15,
            Self::Q6_K => 18,
            Self::BF16 => 32,
        }
    }

    /// The format of one tensor whose rows have `row_len` weights, in a model of `n_layer` layers.
    ///
    /// Rows that are not whole super-blocks of 256 take Q8_0 instead of Q4_K or Q6_K. (llama-quantize takes Q5_0 for
    /// the former.)
    pub(crate) fn dtype(self, role: Role, row_len: usize, n_layer: usize) -> DType {
        let wanted = match (self, role) {
            (_, Role::Vector | Role::Router) => DType::F32,
            (Self::F32, _) => DType::F32,
            (Self::F16, _) => DType::F16,
            (Self::BF16, _) => DType::BF16,
            (Self::Q8_0, _) => DType::Q8_0,
            (Self::Q6_K, _) => DType::Q6_K,
            // What makes the logits keeps six bits in every small recipe.
            (Self::Q4_0 | Self::Q4_K_M, Role::Output | Role::Embedding { tied: true }) => {
                DType::Q6_K
            }
            (Self::Q4_0, _) => DType::Q4_0,
            (Self::Q4_K_M, Role::Sensitive { layer }) if takes_more_bits(layer, n_layer) => {
                DType::Q6_K
            }
            (Self::Q4_K_M, _) => DType::Q4_K,
        };
        if row_len.is_multiple_of(wanted.block_len()) {
            wanted
        } else {
            DType::Q8_0
        }
    }
}

/// The layers whose sensitive tensors get more bits: the first and the last eighth, and every third between.
fn takes_more_bits(layer: usize, n_layer: usize) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = |mix: &&Self| mix.to_string().eq_ignore_ascii_case(text);
        Self::ALL.iter().find(found).copied().ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            format!("`{text}` is not made here; known are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_k_m_gives_half_of_the_sensitive_tensors_more_bits() {
        let six_bits = |n_layer: usize| {
            (0..n_layer)
                .filter(|&layer| {
                    let role = Role::Sensitive { layer };
                    Mix::Q4_K_M.dtype(role, 2048, n_layer) == DType::Q6_K
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(six_bits(16), [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(six_bits(32).len(), 16);
    }

    #[test]
    fn logits_keep_six_bits() {
        let dtype = |mix: Mix, role| mix.dtype(role, 2048, 16);
        let tied = Role::Embedding { tied: true };
        let apart = Role::Embedding { tied: false };
        assert_eq!(dtype(Mix::Q4_0, tied), DType::Q6_K);
        assert_eq!(dtype(Mix::Q4_0, apart), DType::Q4_0);
        assert_eq!(dtype(Mix::Q4_0, Role::Output), DType::Q6_K);
        assert_eq!(dtype(Mix::Q8_0, Role::Output), DType::Q8_0);
        assert_eq!(dtype(Mix::Q4_K_M, Role::Vector), DType::F32);
        assert_eq!(Mix::Q4_K_M.dtype(Role::Matrix, 896, 24), DType::Q8_0);
    }

    #[test]
    fn names_are_read_in_either_case() {
        for mix in Mix::ALL {
            assert_eq!(mix.to_string().to_lowercase().parse(), Ok(*mix));
        }
        assert!(
            "Q3_K"
                .parse::<Mix>()
                .is_err_and(|message| message.contains("Q4_K_M"))
        );
    }
}
