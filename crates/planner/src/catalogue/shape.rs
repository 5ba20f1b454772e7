//! From the catalogue's models to what the cost model takes: a row becomes a shape.

use super::model::Model;
use crate::model::{Experts, Memory, ModelShape};

/// A model's row as the shape that the cost model takes.
pub fn shape(model: &Model) -> ModelShape {
    let params = (model.params_b * 1e9).round() as u64;
    let active = model
        .active_b
        .or_else(|| model.experts.and_then(|_| model.computed_active_b()));
    ModelShape {
        name: model.name.clone(),
        architecture: model.architecture.clone(),
        params,
        params_active: active.map_or(params, |billions| (billions * 1e9).round() as u64),
        n_layer: model.n_layer,
        n_embd: model.n_embd,
        n_head: model.n_head,
        n_head_kv: model.n_head_kv,
        head_dim: model.head_dim,
        n_ff: model.n_ff,
        n_vocab: model.n_vocab,
        n_ctx: model.n_ctx,
        tied: model.tied,
        experts: model.experts.map(|experts| Experts {
            count: experts.count,
            active: experts.active,
            n_ff: experts.n_ff,
            shared_n_ff: experts.shared_n_ff,
            dense_layers: experts.dense_layers,
        }),
        memory: memory(model),
    }
}

fn memory(model: &Model) -> Memory {
    if let Some(mla) = model.mla {
        return Memory::Latent {
            kv_rank: mla.kv_rank,
            rope_dim: mla.rope_dim,
        };
    }
    if let Some(linear) = model.linear {
        // Where layers of attention follow no rule, their number gives the same memory.
        let by_count = linear
            .full_layers
            .filter(|&layers| layers > 0)
            .map(|layers| model.n_layer / layers);
        return Memory::Linear {
            full_every: linear.full_every.or(by_count).unwrap_or(0),
            state_bytes: linear.state_bytes,
        };
    }
    match model.attention {
        Some(window) => Memory::Window {
            window: window.window,
            full_every: window.full_every,
        },
        None => Memory::Full,
    }
}
