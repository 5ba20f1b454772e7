//! What a tensor is for, by its name in GGUF.

use troika_gguf::TensorInfo;

/// What a tensor is for, as far as recipes go by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Output,
    Embedding,
    /// Values, alone or in one matrix with queries and keys: they suffer most from few bits.
    Value,
    Key,
    Query,
    AttentionOutput,
    Gate,
    Up,
    Down,
    Other,
}

impl Role {
    pub(crate) fn of(name: &str) -> Self {
        const BY_PART: [(&str, Role); 9] = [
            ("attn_qkv.weight", Role::Value),
            ("attn_kv_b.weight", Role::Value),
            ("attn_v.weight", Role::Value),
            ("attn_k.weight", Role::Key),
            ("attn_q.weight", Role::Query),
            ("attn_output.weight", Role::AttentionOutput),
            ("ffn_up", Role::Up),
            ("ffn_gate", Role::Gate),
            ("ffn_down", Role::Down),
        ];
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Embedding,
            _ => BY_PART
                .iter()
                .find(|(part, _)| name.contains(part))
                .map_or(Self::Other, |(_, role)| *role),
        }
    }
}

/// The block that a tensor belongs to.
pub(crate) fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Whether a recipe may change a tensor: a matrix of weights that is multiplied with. Norms, biases, routers and small
/// tables stay as they are; they weigh next to nothing, and much depends on them.
pub(crate) fn is_quantized(tensor: &TensorInfo) -> bool {
    const KEPT: [&str; 12] = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "attn_rel_b.weight",
        ".position_embd",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
    ];
    let name = tensor.name.as_str();
    let is_matrix = tensor.shape.iter().filter(|&&n| n > 1).count() >= 2;
    is_matrix
        && name.ends_with("weight")
        && name != "position_embd.weight"
        && name != "token_types.weight"
        && !KEPT.iter().any(|kept| name.contains(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_go_by_names() {
        for (name, role) in [
            ("output.weight", Role::Output),
            ("output_norm.weight", Role::Other),
            ("token_embd.weight", Role::Embedding),
            ("blk.7.attn_v.weight", Role::Value),
            ("blk.7.attn_qkv.weight", Role::Value),
            ("blk.7.attn_output.weight", Role::AttentionOutput),
            ("blk.11.ffn_down_exps.weight", Role::Down),
            ("blk.11.ffn_gate_exps.weight", Role::Gate),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
        assert_eq!(layer("blk.11.ffn_up.weight"), Some(11));
        assert_eq!(layer("output.weight"), None);
    }
}
