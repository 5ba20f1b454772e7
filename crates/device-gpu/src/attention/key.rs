//! The kernels of the cache and of attention.

use crate::kernels::{Access, Kernel};

use super::KvFormat;

/// Which one. `head_dim` is the values of a head, a multiple of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionKey {
    /// Turns heads by their positions, in place. Buffers: x, plan.
    Rotate {
        /// Values of a head.
        head_dim: u16,
    },
    /// Stores a step's keys and values, and turns keys on their way. Turns queries in place. Buffers: keys, values, plan, k, v, q.
    Store {
        /// Values of a head.
        head_dim: u16,
        /// The cache's numbers.
        format: KvFormat,
    },
    /// Stores keys and values that come from elsewhere. Buffers: keys, values, slots, image.
    Import {
        /// Values of a head.
        head_dim: u16,
        /// The cache's numbers.
        format: KvFormat,
    },
    /// Brings keys and values into the layout in which they travel. Buffers: keys, values, slots, image.
    Export {
        /// Values of a head.
        head_dim: u16,
        /// The cache's numbers.
        format: KvFormat,
    },
    /// Attention of single tokens. Buffers: keys, values, plan, q, sinks, parts, out.
    Decode {
        /// Values of a head.
        head_dim: u16,
        /// The cache's numbers.
        format: KvFormat,
        /// Query heads that a workgroup takes: 1, 2, 4 or 8.
        heads: u8,
    },
    /// Attention of many tokens of a sequence. Buffers: keys, values, plan, q, sinks, parts, out.
    Prefill {
        /// Values of a head.
        head_dim: u16,
        /// The cache's numbers.
        format: KvFormat,
    },
    /// Joins what several workgroups found of a token's past. Buffers: plan, parts, sinks, out.
    Join {
        /// Values of a head.
        head_dim: u16,
    },
}

/// Invocations of every workgroup here, and tokens of a tile of the past.
pub(super) const SIZE: u32 = 128;

/// The widest head.
pub(super) const MAX_HEAD_DIM: usize = 256;

/// Values of a head that are read at once.
pub(super) const UNIT: usize = 8;

impl AttentionKey {
    /// All of them, for heads as models have them and for the narrowest and widest: others differ in numbers alone.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for head_dim in [4, 8, 12, 32, 48, 64, 80, 96, 112, 128, 160, 192, 252, 256] {
            all.extend([Self::Rotate { head_dim }, Self::Join { head_dim }]);
            for format in KvFormat::ALL {
                all.push(Self::Store { head_dim, format });
                all.push(Self::Import { head_dim, format });
                all.push(Self::Export { head_dim, format });
                all.push(Self::Prefill { head_dim, format });
                all.extend([1, 2, 4, 8].map(|heads| Self::Decode {
                    head_dim,
                    format,
                    heads,
                }));
            }
        }
        all
    }

    /// Query heads that a workgroup takes where `sharing` of them share keys.
    pub(super) fn heads(sharing: usize) -> u8 {
        sharing.next_power_of_two().min(8) as u8
    }

    /// Queries that a workgroup of [`Self::Prefill`] takes: four for each thread that has a unit of the values, and
    /// whole shares for the threads that score keys.
    pub(super) fn rows(head_dim: usize) -> usize {
        let fours = SIZE as usize / head_dim.div_ceil(UNIT);
        (4 * fours).min(64) / 16 * 16
    }

    pub(crate) fn kernel(self) -> Kernel {
        use Access::{Read, Write};
        let rotate = include_str!("../wgsl/rotate.wgsl");
        match self {
            Self::Rotate { head_dim } => {
                let text = include_str!("../wgsl/rotate_in_place.wgsl");
                kernel("rotate", head_dim, vec![rotate, text], &[Write, Read], 5)
            }
            Self::Store { head_dim, format } => {
                let from = include_str!("../wgsl/kv_step.wgsl");
                let text = include_str!("../wgsl/kv_store.wgsl");
                let fragments = vec![rotate, from, format.written(), text];
                let bindings = [Write, Write, Read, Read, Read, Write];
                kernel("kv_store", head_dim, fragments, &bindings, 10)
            }
            Self::Import { head_dim, format } => {
                let from = include_str!("../wgsl/kv_image.wgsl");
                let text = include_str!("../wgsl/kv_store.wgsl");
                let fragments = vec![from, format.written(), text];
                let bindings = [Write, Write, Read, Read];
                kernel("kv_import", head_dim, fragments, &bindings, 10)
            }
            Self::Export { head_dim, format } => {
                let fragments = vec![format.read(), include_str!("../wgsl/kv_load.wgsl")];
                let bindings = [Read, Read, Read, Write];
                kernel("kv_export", head_dim, fragments, &bindings, 4)
            }
            Self::Decode {
                head_dim,
                format,
                heads,
            } => decode(head_dim, format, heads),
            Self::Prefill { head_dim, format } => prefill(head_dim, format),
            Self::Join { head_dim } => {
                let fragments = vec![include_str!("../wgsl/attention_join.wgsl")];
                let bindings = [Read, Read, Read, Write];
                kernel("attention_join", head_dim, fragments, &bindings, 5)
            }
        }
    }
}

fn decode(head_dim: u16, format: KvFormat, heads: u8) -> Kernel {
    use Access::{Read, Write};
    let width = match heads {
        1 => include_str!("../wgsl/attention_heads_1.wgsl"),
        2 => include_str!("../wgsl/attention_heads_2.wgsl"),
        _ => include_str!("../wgsl/attention_heads_4.wgsl"),
    };
    let text = include_str!("../wgsl/attention_decode.wgsl");
    let fragments = vec![width, format.read(), text];
    let bindings = [Read, Read, Read, Read, Read, Write, Write];
    let mut kernel = kernel("attention_decode", head_dim, fragments, &bindings, 8);
    kernel
        .constants
        .push(("BLOCKS", u32::from(heads).div_ceil(4)));
    kernel
}

fn prefill(head_dim: u16, format: KvFormat) -> Kernel {
    use Access::{Read, Write};
    let text = include_str!("../wgsl/attention_prefill.wgsl");
    let bindings = [Read, Read, Read, Read, Read, Write, Write];
    let fragments = vec![format.read(), text];
    let mut kernel = kernel("attention_prefill", head_dim, fragments, &bindings, 8);
    let rows = AttentionKey::rows(usize::from(head_dim)) as u32;
    // Queries and scores fit into 32 KiB, the least that GPUs have but for the smallest.
    let keys = if rows == 64 { 32 } else { 64 };
    kernel.constants.extend([("ROWS", rows), ("KEYS", keys)]);
    kernel
}

fn kernel(
    name: &'static str,
    head_dim: u16,
    fragments: Vec<&'static str>,
    bindings: &[Access],
    params: u32,
) -> Kernel {
    let head_dim = usize::from(head_dim);
    Kernel {
        name,
        enables: Vec::new(),
        constants: vec![
            ("SIZE", SIZE),
            ("PAGE", troika_device::PAGE_TOKENS as u32),
            ("HEAD", head_dim as u32),
            ("UNITS", head_dim.div_ceil(UNIT) as u32),
            ("CELL", (KvFormat::Q8_0.cell_bytes(head_dim) / 4) as u32),
        ],
        aliases: Vec::new(),
        fragments,
        bindings: bindings.to_vec(),
        params,
    }
}
