//! Which tensor gets which format in a recipe: the rules of llama.cpp's quantizer, for the families that we run.
//!
//! Source: the behaviour of `llama-quantize`; `golden/mixes.txt` records what it chose for several shapes.

use troika_base::DType;

use crate::mix::Mix;
use crate::role::Role;

/// What rules ask of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) n_layer: usize,
    /// Query heads that share keys and values.
    pub(crate) n_gqa: usize,
    pub(crate) n_expert: usize,
    /// Tensors of [`Role::Value`].
    pub(crate) n_value: usize,
    /// The embedding table is the output matrix too.
    pub(crate) is_tied: bool,
    pub(crate) has_importance: bool,
}

/// A tensor that is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) role: Role,
    /// Of the tensors of its role, by layer: which one it is.
    pub(crate) index: usize,
    /// Weights of a row.
    pub(crate) row_len: u64,
    /// It is a stack of matrices, one for each expert.
    pub(crate) is_experts: bool,
}

/// Layers whose sensitive tensors get more bits: the first and the last eighth, and every third between.
fn takes_more_bits(index: usize, of: usize) -> bool {
    let eighth = of / 8;
    index < eighth || index >= 7 * of / 8 || (index - eighth) % 3 == 2
}

/// Recipes of fewer than three bits, which have rules of their own.
fn is_tiny(mix: Mix) -> bool {
    use Mix::*;
    matches!(mix, IQ2_XXS | IQ2_XS | IQ2_S | IQ2_M | IQ1_S | IQ1_M)
}

/// The format of a tensor in a recipe, were its rows whole blocks of it.
pub(crate) fn dtype(mix: Mix, shape: &Shape, matrix: &Matrix) -> DType {
    let is_float = matches!(mix, Mix::F32 | Mix::F16 | Mix::BF16);
    let is_output = matrix.role == Role::Output || shape.is_tied && matrix.role == Role::Embedding;
    match matrix.role {
        _ if is_float => mix.base(),
        _ if is_output => output(mix, matrix),
        _ if mix == Mix::MXFP4_MOE => match matrix.is_experts {
            true => DType::MXFP4,
            false => DType::Q8_0,
        },
        Role::Embedding => embedding(mix),
        _ if is_tiny(mix) => tiny(mix, shape, matrix),
        Role::Value => value(mix, shape, matrix.index),
        Role::Key | Role::Query => key_or_query(mix, shape, matrix.role),
        Role::AttentionOutput => attention_output(mix, shape),
        Role::Down => down(mix, shape, matrix.index),
        Role::Gate | Role::Up => match mix {
            Mix::IQ3_XS if is_middle(matrix.index, shape.n_layer) => DType::IQ3_XXS,
            _ => mix.base(),
        },
        Role::Output | Role::Other => mix.base(),
    }
}

fn is_middle(index: usize, n_layer: usize) -> bool {
    (n_layer / 8..7 * n_layer / 8).contains(&index)
}

/// What makes the logits keeps six bits in every small recipe.
fn output(mix: Mix, matrix: &Matrix) -> DType {
    let base = mix.base();
    match mix {
        Mix::MXFP4_MOE | Mix::Q8_0 => DType::Q8_0,
        _ if !matrix.row_len.is_multiple_of(base.block_len() as u64) => DType::Q8_0,
        Mix::IQ3_XXS => DType::Q5_K,
        _ if is_tiny(mix) => DType::Q5_K,
        _ => DType::Q6_K,
    }
}

fn embedding(mix: Mix) -> DType {
    match mix {
        Mix::IQ2_XXS | Mix::IQ2_XS | Mix::IQ1_S | Mix::IQ1_M => DType::Q2_K,
        Mix::IQ2_S | Mix::IQ2_M | Mix::IQ3_XXS => DType::IQ3_S,
        Mix::TQ1_0 | Mix::TQ2_0 => DType::Q4_K,
        _ => mix.base(),
    }
}

fn tiny(mix: Mix, shape: &Shape, matrix: &Matrix) -> DType {
    let is_larger = matches!(mix, Mix::IQ2_S | Mix::IQ2_M);
    let better = match is_larger {
        true => DType::IQ3_S,
        false => DType::Q2_K,
    };
    match matrix.role {
        Role::Value if shape.n_gqa >= 4 || shape.n_expert >= 4 => DType::Q4_K,
        Role::Value => better,
        Role::Key if shape.n_expert == 8 => DType::Q4_K,
        Role::Down if matrix.index < shape.n_layer / 8 => better,
        Role::AttentionOutput if shape.n_expert == 8 => DType::Q5_K,
        Role::AttentionOutput if is_larger => DType::IQ3_S,
        Role::AttentionOutput if matches!(mix, Mix::IQ1_S | Mix::IQ1_M) => DType::IQ2_XXS,
        _ => mix.base(),
    }
}

fn value(mix: Mix, shape: &Shape, index: usize) -> DType {
    let is_shared = shape.n_gqa >= 4;
    let dtype = match mix {
        Mix::Q2_K | Mix::Q2_K_S if is_shared => DType::Q4_K,
        Mix::Q2_K => DType::Q3_K,
        Mix::IQ3_XXS if is_shared => DType::Q4_K,
        Mix::IQ3_XXS if !shape.has_importance => DType::IQ3_S,
        Mix::IQ3_XS | Mix::IQ3_S if is_shared => DType::Q4_K,
        Mix::IQ3_M => DType::Q4_K,
        Mix::Q3_K_M if index < 2 => DType::Q5_K,
        Mix::Q3_K_M => DType::Q4_K,
        Mix::Q3_K_L => DType::Q5_K,
        Mix::IQ4_NL | Mix::IQ4_XS if is_shared => DType::Q5_K,
        Mix::Q4_K_M | Mix::Q5_K_M if takes_more_bits(index, shape.n_value) => DType::Q6_K,
        Mix::Q4_K_S if index < 4 => DType::Q5_K,
        _ => mix.base(),
    };
    // The shape of models of 70 billion weights, whose value matrices are an eighth of their query matrices.
    let is_70b = shape.n_layer == 80 && shape.n_gqa > 1;
    match dtype {
        _ if shape.n_expert == 8 => DType::Q8_0,
        DType::Q3_K | DType::Q4_K if is_70b => DType::Q5_K,
        _ => dtype,
    }
}

fn key_or_query(mix: Mix, shape: &Shape, role: Role) -> DType {
    match mix {
        _ if role == Role::Key && shape.n_expert == 8 => DType::Q8_0,
        Mix::IQ3_XS => DType::IQ3_XXS,
        Mix::IQ3_XXS => DType::IQ2_S,
        _ => mix.base(),
    }
}

fn attention_output(mix: Mix, shape: &Shape) -> DType {
    use Mix::*;
    if shape.n_expert == 8 {
        let is_small = matches!(
            mix,
            Q2_K | IQ3_XS
                | IQ3_XXS
                | Q3_K_S
                | Q3_K_M
                | IQ4_NL
                | Q4_K_S
                | Q4_K_M
                | IQ3_S
                | IQ3_M
                | IQ4_XS
        );
        return if is_small { DType::Q5_K } else { mix.base() };
    }
    match mix {
        Q2_K => DType::Q3_K,
        IQ3_XXS => DType::IQ3_S,
        Q3_K_M | IQ3_M => DType::Q4_K,
        Q3_K_L => DType::Q5_K,
        _ => mix.base(),
    }
}

fn down(mix: Mix, shape: &Shape, index: usize) -> DType {
    let more = takes_more_bits(index, shape.n_layer);
    let is_first = index < shape.n_layer / 8;
    match mix {
        Mix::Q2_K => DType::Q3_K,
        Mix::Q2_K_S if is_first => DType::Q4_K,
        Mix::IQ3_XXS if !shape.has_importance && is_first => DType::Q4_K,
        Mix::IQ3_XXS if !shape.has_importance => DType::Q3_K,
        Mix::Q3_K_M if index < shape.n_layer / 16 => DType::Q5_K,
        Mix::Q3_K_M => DType::Q4_K,
        Mix::IQ3_M if is_first || shape.n_expert == 8 && more => DType::Q4_K,
        Mix::Q3_K_L => DType::Q5_K,
        Mix::Q4_K_M | Mix::Q5_K_M if more => DType::Q6_K,
        Mix::IQ4_NL | Mix::IQ4_XS if is_first && !shape.has_importance => DType::Q5_K,
        Mix::Q4_K_S if is_first => DType::Q5_K,
        Mix::Q4_0 if is_first && shape.has_importance => DType::Q4_1,
        Mix::Q5_0 if is_first && shape.has_importance => DType::Q5_1,
        _ => mix.base(),
    }
}

/// What stands in for a format where rows are not whole blocks of it: one of blocks of 32 that is no worse, or F16.
pub(crate) fn fallback(dtype: DType, row_len: u64) -> DType {
    let divides = |dtype: DType| row_len.is_multiple_of(dtype.block_len() as u64);
    if divides(dtype) {
        return dtype;
    }
    let instead = match dtype {
        DType::Q2_K | DType::Q3_K | DType::TQ1_0 | DType::TQ2_0 => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ if dtype.block_len() == 256 => DType::IQ4_NL,
        _ => DType::F16,
    };
    if divides(instead) {
        instead
    } else {
        DType::F16
    }
}

/// Formats so coarse that without importance what comes out is of no use.
pub(crate) fn needs_importance(mix: Mix, role: Role, dtype: DType) -> bool {
    let is_coarse = matches!(
        dtype,
        DType::IQ3_XXS
            | DType::IQ2_XXS
            | DType::IQ2_XS
            | DType::IQ2_S
            | DType::IQ1_M
            | DType::IQ1_S
    );
    let is_coarse = is_coarse || dtype == DType::Q2_K && mix == Mix::Q2_K_S;
    is_coarse && !matches!(role, Role::Output | Role::Embedding)
}
