//! Shapes of published models: the numbers of their configuration files, under their own names.

/// Which family a shape belongs to; decides metadata keys and which extra tensors a layer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arch {
    /// Llama 3: plain layers, rope frequencies stretched by a tensor.
    Llama,
    /// Qwen2: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on each head of q and k.
    Qwen3,
    /// Qwen3 with experts instead of the feed-forward network.
    Qwen3Moe,
}

impl Arch {
    /// The value of `general.architecture`, which prefixes the other keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
        }
    }
}

/// The experts of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experts {
    pub(crate) n: usize,
    pub(crate) n_used: usize,
    pub(crate) n_ff: usize,
}

/// The dimensions of a model, in the words of the GGUF family.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) arch: Arch,
    pub(crate) n_layer: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_ff: usize,
    /// Instead of one network of `n_ff`, where there are some.
    pub(crate) experts: Option<Experts>,
    pub(crate) n_head: usize,
    pub(crate) n_head_kv: usize,
    pub(crate) head_dim: usize,
    pub(crate) n_vocab: usize,
    pub(crate) n_ctx: usize,
    pub(crate) rope_base: f32,
    /// Llama 3's stretch of the long wavelengths; `None` leaves the frequencies alone.
    pub(crate) rope_factor: Option<f32>,
    pub(crate) rms_eps: f32,
    /// Whether the output matrix is the embedding matrix.
    pub(crate) tied: bool,
    /// Whether the made-up vocabulary comes with a chat template.
    pub(crate) chat: bool,
}

/// Every shape that can be made.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        name: "llama-3.2-1b",
        arch: Arch::Llama,
        n_layer: 16,
        n_embd: 2048,
        n_ff: 8192,
        experts: None,
        n_head: 32,
        n_head_kv: 8,
        head_dim: 64,
        n_vocab: 128_256,
        n_ctx: 131_072,
        rope_base: 500_000.0,
        rope_factor: Some(32.0),
        rms_eps: 1e-5,
        tied: true,
        chat: false,
    },
    Shape {
        name: "llama-3.1-8b",
        arch: Arch::Llama,
        n_layer: 32,
        n_embd: 4096,
        n_ff: 14_336,
        experts: None,
        n_head: 32,
        n_head_kv: 8,
        head_dim: 128,
        n_vocab: 128_256,
        n_ctx: 131_072,
        rope_base: 500_000.0,
        rope_factor: Some(8.0),
        rms_eps: 1e-5,
        tied: false,
        chat: false,
    },
    Shape {
        name: "qwen2.5-0.5b",
        arch: Arch::Qwen2,
        n_layer: 24,
        n_embd: 896,
        n_ff: 4864,
        experts: None,
        n_head: 14,
        n_head_kv: 2,
        head_dim: 64,
        n_vocab: 151_936,
        n_ctx: 32_768,
        rope_base: 1_000_000.0,
        rope_factor: None,
        rms_eps: 1e-6,
        tied: true,
        chat: false,
    },
    Shape {
        name: "qwen3-0.6b",
        arch: Arch::Qwen3,
        n_layer: 28,
        n_embd: 1024,
        n_ff: 3072,
        experts: None,
        n_head: 16,
        n_head_kv: 8,
        head_dim: 128,
        n_vocab: 151_936,
        n_ctx: 40_960,
        rope_base: 1_000_000.0,
        rope_factor: None,
        rms_eps: 1e-6,
        tied: true,
        chat: false,
    },
    Shape {
        name: "qwen3-30b-a3b",
        arch: Arch::Qwen3Moe,
        n_layer: 48,
        n_embd: 2048,
        n_ff: 6144,
        experts: Some(Experts {
            n: 128,
            n_used: 8,
            n_ff: 768,
        }),
        n_head: 32,
        n_head_kv: 4,
        head_dim: 128,
        n_vocab: 151_936,
        n_ctx: 40_960,
        rope_base: 1_000_000.0,
        rope_factor: None,
        rms_eps: 1e-6,
        tied: false,
        chat: false,
    },
    // No published model: small enough to make in a test, with every part of the large ones.
    Shape {
        name: "llama-tiny",
        arch: Arch::Llama,
        n_layer: 2,
        n_embd: 256,
        n_ff: 512,
        experts: None,
        n_head: 4,
        n_head_kv: 2,
        head_dim: 64,
        n_vocab: 2048,
        n_ctx: 2048,
        rope_base: 500_000.0,
        rope_factor: Some(8.0),
        rms_eps: 1e-5,
        tied: false,
        chat: false,
    },
    // No published model either: what the tests of the server's clients talk to. What it says is noise, but for what
    // a grammar makes of it.
    Shape {
        name: "tiny-chat",
        arch: Arch::Qwen3,
        n_layer: 2,
        n_embd: 256,
        n_ff: 512,
        experts: None,
        n_head: 4,
        n_head_kv: 2,
        head_dim: 64,
        n_vocab: 2048,
        n_ctx: 4096,
        rope_base: 1_000_000.0,
        rope_factor: None,
        rms_eps: 1e-6,
        tied: false,
        chat: true,
    },
    // As tiny-chat, with experts.
    Shape {
        name: "tiny-moe",
        arch: Arch::Qwen3Moe,
        n_layer: 2,
        n_embd: 256,
        n_ff: 512,
        experts: Some(Experts {
            n: 8,
            n_used: 2,
            n_ff: 256,
        }),
        n_head: 4,
        n_head_kv: 2,
        head_dim: 64,
        n_vocab: 2048,
        n_ctx: 4096,
        rope_base: 1_000_000.0,
        rope_factor: None,
        rms_eps: 1e-6,
        tied: false,
        chat: true,
    },
];

impl Shape {
    /// The shape of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        SHAPES.iter().find(|shape| shape.name == name).cloned()
    }

    /// What `rope_freqs.weight` holds: by how much each rotation is slowed down, `[head_dim / 2]`.
    ///
    /// Llama 3 leaves wavelengths shorter than a quarter of the original context alone, stretches those longer than
    /// it by the whole factor, and goes over smoothly between.
    pub(crate) fn rope_freqs(&self) -> Option<Vec<f32>> {
        const N_CTX_ORIGINAL: f32 = 8192.0;
        const FREQ_LOW: f32 = 1.0;
        const FREQ_HIGH: f32 = 4.0;
        let factor = self.rope_factor?;
        let stretch = |pair: usize| {
            let exponent = 2.0 * pair as f32 / self.head_dim as f32;
            let wavelength = std::f32::consts::TAU * self.rope_base.powf(exponent);
            let turns = N_CTX_ORIGINAL / wavelength;
            let keep = ((turns - FREQ_LOW) / (FREQ_HIGH - FREQ_LOW)).clamp(0.0, 1.0);
            1.0 / ((1.0 - keep) / factor + keep)
        };
        Some((0..self.head_dim / 2).map(stretch).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_fill_whole_groups() {
        for shape in SHAPES {
            assert!(
                shape.n_head.is_multiple_of(shape.n_head_kv),
                "{}",
                shape.name
            );
            assert_eq!(
                Shape::named(shape.name).map(|s| s.n_embd),
                Some(shape.n_embd)
            );
        }
    }

    #[test]
    fn rope_is_stretched_only_where_it_is_slow() {
        let freqs = Shape::named("llama-3.1-8b")
            .and_then(|shape| shape.rope_freqs())
            .expect("the shape stretches");
        assert_eq!(freqs.len(), 64);
        assert_eq!((freqs[0], freqs[63]), (1.0, 8.0));
        assert!(freqs.is_sorted());
        let between = freqs.iter().filter(|f| (1.001..7.999).contains(*f)).count();
        assert!((1..16).contains(&between), "{between} go over");
        assert!(
            Shape::named("qwen3-0.6b")
                .and_then(|shape| shape.rope_freqs())
                .is_none()
        );
    }
}
