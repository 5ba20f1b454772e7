//! What a model takes of memory: from its shape if that is known, otherwise from the few figures that a data sheet tells.

use troika_base::{DeviceKind, DeviceProfile};

use crate::cost::{MemoryNeed, Setup, Slot, Work, memory_need};
use crate::model::{ModelShape, llama_8b};
use crate::quantization::Quantization;

/// What the memory is for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ask {
    /// Tokens of context of each sequence.
    pub context: u32,
    /// Sequences side by side.
    pub sequences: u32,
    /// Bits of a value in the cache.
    pub kv_bits: f64,
    /// Where it runs: buffers and runtime depend on it.
    pub on: On,
}

/// What a model runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    /// The processor, with Troika's own engine.
    Cpu,
    /// A GPU, with an engine such as llama.cpp.
    Gpu,
}

/// The memory of a model whose shape is known: what the cost model says, and every command with it.
pub fn known(model: &ModelShape, quantization: &Quantization, ask: &Ask) -> MemoryNeed {
    let (kind, engine) = match ask.on {
        On::Cpu => (DeviceKind::Cpu, "troika"),
        On::Gpu => (DeviceKind::Gpu, "llama.cpp"),
    };
    let device = DeviceProfile::unknown("any", kind);
    let setup = Setup {
        engine: engine.to_owned(),
        ..Setup::by_layers([Slot::all_of(&device)], None)
    };
    let work = Work {
        gen_tokens: 0,
        batch: ask.sequences,
        kv_bits: ask.kv_bits,
        context: ask.context,
        ..Work::alone(ask.context, 0)
    };
    memory_need(&setup, model, quantization, &work).expect("there is a device. This is a bug.")
}

/// What decides the size of a cache in which every layer keeps every token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheShape {
    /// Layers.
    pub n_layer: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Values per head.
    pub head_dim: u32,
}

/// Bytes of a model of which only a data sheet is known. What the sheet does not decide is absent, not guessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Described {
    /// Weights.
    pub weights: u64,
    /// Keys and values.
    pub cache: Option<u64>,
}

/// Weights and cache of so many parameters. Recipes that mix formats are averaged over the proportions of an 8B model.
pub fn described(
    params: f64,
    quantization: &Quantization,
    cache: Option<CacheShape>,
    ask: &Ask,
) -> Described {
    let usual = llama_8b();
    let bytes = usual.weights(quantization).total() / usual.params as f64;
    let cache = cache.map(|cache| {
        let shape = ModelShape {
            n_layer: cache.n_layer,
            n_head_kv: cache.n_head_kv,
            head_dim: cache.head_dim,
            ..llama_8b()
        };
        (shape.cache_bytes(ask.context.into(), ask.kv_bits) * f64::from(ask.sequences)) as u64
    });
    Described {
        weights: (params * bytes).ceil() as u64,
        cache,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantization(name: &str) -> Quantization {
        Quantization::parse(name).unwrap_or_else(|error| panic!("{error}"))
    }

    fn ask(context: u32, sequences: u32) -> Ask {
        Ask {
            context,
            sequences,
            kv_bits: 16.0,
            on: On::Cpu,
        }
    }

    /// C007, C139, C141, C144 of the checked claims: Q4_K_M is 0.61 GB per 10⁹ parameters, at 8B 4.9 GB, at 70B 43 GB; FP16 of
    /// 405B is 812 GB; 70B has 320 KiB of keys and values for each token, 2.5 GiB for 8k.
    #[test]
    fn known_sizes() {
        for (params, name, gb, within) in [
            (8.03e9, "Q4_K_M", 4.92, 0.02),
            (70.55e9, "Q4_K_M", 42.9, 0.02),
            (405.85e9, "F16", 812.0, 0.001),
            (70.55e9, "Q8_0", 75.0, 0.01),
        ] {
            let got = described(params, &quantization(name), None, &ask(1, 1)).weights as f64 / 1e9;
            assert!((got / gb - 1.0).abs() < within, "{params} {name}: {got} GB");
        }
        let cache = CacheShape {
            n_layer: 80,
            n_head_kv: 8,
            head_dim: 128,
        };
        for (context, sequences, bytes) in [
            (1, 1, 320 << 10),
            (8192, 1, 2560 << 20),
            (8192, 4, 10 << 30),
        ] {
            let got = described(
                70.55e9,
                &quantization("F16"),
                Some(cache),
                &ask(context, sequences),
            );
            assert_eq!(got.cache, Some(bytes));
        }
    }

    #[test]
    fn a_known_shape_has_buffers_too() {
        let need = known(&llama_8b(), &quantization("Q8_0"), &ask(8192, 2));
        assert_eq!(need.cache, 2 << 30);
        assert!(need.scratch > 0 && need.runtime > 0);
        let need_gpu = known(
            &llama_8b(),
            &quantization("Q8_0"),
            &Ask {
                on: On::Gpu,
                ..ask(8192, 2)
            },
        );
        assert_eq!(need_gpu.weights, need.weights);
        assert!(need_gpu.scratch > need.scratch);
    }
}
