//! Models whose experts are too many for the memory: their weights stay in the file, and some of them are kept.

use std::collections::BTreeMap;

use troika_base::{Bytes, ModelSpec};
use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::packed_bytes;

/// How many of a model's experts are in memory. The others are read from its file when they are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpertMemory {
    /// All: a model that has no room is refused.
    #[default]
    All,
    /// As many as there is room for.
    WhatIsFree,
    /// Those that take no more than this, and all if that is enough.
    AtMost(Bytes),
}

/// Memory that a model's experts take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertBytes {
    /// All of them.
    pub all: Bytes,
    /// Those that a token goes to in one layer, where these are largest: with less memory they would be read twice for it.
    pub least: Bytes,
}

impl ExpertBytes {
    /// Those of a file; none if it has no experts.
    pub fn of(file: &ModelFile, spec: &ModelSpec) -> Self {
        let Some(experts) = spec.experts else {
            return Self::default();
        };
        let mut layers = BTreeMap::<&str, u64>::new();
        for tensor in file.tensors().iter().filter(|tensor| is_of_experts(tensor)) {
            let layer = tensor.name.split(".ffn_").next().unwrap_or_default();
            *layers.entry(layer).or_default() += bytes_of_all(tensor).unwrap_or(tensor.bytes);
        }
        let largest = layers.values().max().copied().unwrap_or_default();
        Self {
            all: Bytes(layers.values().sum()),
            least: Bytes(largest.div_ceil(experts.n.max(1) as u64) * experts.n_used as u64),
        }
    }

    /// How much memory experts get, where there is `room` for so much; `None` if all of them are to be in memory.
    pub(crate) fn kept(self, wish: ExpertMemory, room: Option<Bytes>) -> Option<Bytes> {
        let limit = match wish {
            ExpertMemory::All => return None,
            ExpertMemory::WhatIsFree => room?,
            ExpertMemory::AtMost(limit) => limit,
        };
        (limit < self.all).then(|| limit.max(self.least))
    }
}

/// Memory that a tensor `[n_expert, n_out, n_in]` takes; `None` if its format is not computed.
fn bytes_of_all(tensor: &TensorInfo) -> Option<u64> {
    let size = |n: u64| usize::try_from(n).ok();
    let (n_in, n_out) = (size(tensor.shape[0])?, size(tensor.shape[1])?);
    let one = packed_bytes(tensor.dtype, n_out, n_in)?;
    (one as u64).checked_mul(tensor.shape[2])
}

/// Matrices of all experts are one tensor of three dimensions.
fn is_of_experts(tensor: &TensorInfo) -> bool {
    tensor.shape.len() == 3 && tensor.name.ends_with("_exps.weight")
}

/// What of the free memory experts may take, when weights of `weights` bytes in all and a cache of keys and values are to
/// be there too: an eighth stays free, for what steps need and for the file's pages.
pub(crate) fn room(experts: ExpertBytes, weights: Bytes, cache: Bytes, free: Bytes) -> Bytes {
    // A context may be asked for that no memory has.
    let need = weights.0.saturating_add(cache.0);
    if need <= free.0 {
        return experts.all;
    }
    let dense = need.saturating_sub(experts.all.0);
    Bytes((free.0 - free.0 / 8).saturating_sub(dense))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERTS: ExpertBytes = ExpertBytes {
        all: Bytes(800),
        least: Bytes(50),
    };

    #[test]
    fn experts_stay_in_the_file_only_where_memory_is_short() {
        let kept = |free| {
            let room = room(EXPERTS, Bytes(1000), Bytes(200), Bytes(free));
            EXPERTS.kept(ExpertMemory::WhatIsFree, Some(room))
        };
        assert_eq!(kept(1200), None);
        assert_eq!(kept(1199), Some(Bytes(1199 - 149 - 400)));
        assert_eq!(kept(800), Some(Bytes(300)));
        // Less than a token needs is refused later, by what that is.
        assert_eq!(kept(450), Some(Bytes(50)));
        assert_eq!(kept(100), Some(Bytes(50)));
    }

    #[test]
    fn a_limit_that_was_asked_for_goes_before_what_is_free() {
        let at_most = |bytes| ExpertMemory::AtMost(Bytes(bytes));
        let (much, little) = (Some(Bytes(800)), Some(Bytes(300)));
        assert_eq!(EXPERTS.kept(at_most(100), much), Some(Bytes(100)));
        assert_eq!(EXPERTS.kept(at_most(800), little), None);
        assert_eq!(EXPERTS.kept(at_most(0), None), Some(Bytes(50)));
        assert_eq!(EXPERTS.kept(ExpertMemory::WhatIsFree, None), None);
        assert_eq!(EXPERTS.kept(ExpertMemory::All, little), None);
        assert_eq!(ExpertBytes::default().kept(at_most(10), None), None);
    }
}
