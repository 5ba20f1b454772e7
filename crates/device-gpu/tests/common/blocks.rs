//! Weights as files have them: random blocks with every kind of scale, and what they stand for.
//!
//! They are read by the CPU's scalar code, which is tested against another implementation.

use half::f16;
use troika_base::DType;
use troika_gguf::{Metadata, ModelFile, TensorInfo, Writer};
use troika_kernels::quant;

/// A model of one matrix, `[n_out, n_in]`, with random weights.
pub(crate) struct Random {
    pub(crate) file: ModelFile,
    /// What the blocks stand for, row by row.
    pub(crate) values: Vec<f32>,
}

impl Random {
    pub(crate) fn new(dtype: DType, n_out: usize, n_in: usize, scales: Scales, seed: u64) -> Self {
        let bytes = random_blocks(dtype, n_out * n_in, scales, seed);
        let values = values(dtype, &bytes, n_out * n_in);
        let mut writer = Writer::new(Metadata::default());
        writer.tensor_bytes("matrix", dtype, &[n_in as u64, n_out as u64], &bytes);
        let mut file = Vec::new();
        writer.write_to(&mut file).expect("memory takes it");
        let file = ModelFile::from_bytes("random", file).expect("just written");
        Self { file, values }
    }

    pub(crate) fn tensor(&self) -> &TensorInfo {
        &self.file.tensors()[0]
    }
}

/// What scales of blocks are drawn from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scales {
    /// Such as models have.
    Usual,
    /// Zero, the largest, the smallest normal ones, of both signs.
    Extreme,
}

/// A stream of random numbers, the same on every machine.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()]
    }

    fn half(&mut self, scales: Scales) -> f16 {
        match scales {
            Scales::Usual => f16::from_f32(0.002 + self.next() as f32 / (1u64 << 53) as f32 * 0.05),
            Scales::Extreme => self.pick(&[
                f16::ZERO,
                f16::NEG_ZERO,
                f16::MAX,
                f16::MIN,
                f16::MIN_POSITIVE,
                -f16::MIN_POSITIVE,
                f16::ONE,
            ]),
        }
    }
}

/// Where the half-precision numbers of a block are.
fn halves(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q6_K => &[208],
        _ => &[],
    }
}

fn random_blocks(dtype: DType, n: usize, scales: Scales, seed: u64) -> Vec<u8> {
    let mut stream = Stream(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = vec![0; dtype.row_bytes(n).expect("whole blocks")];
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        match dtype {
            DType::F32 => {
                let value = stream.half(scales).to_f32() * 1.001;
                block.copy_from_slice(&value.to_le_bytes());
            }
            DType::F16 => block.copy_from_slice(&stream.half(scales).to_le_bytes()),
            DType::BF16 => {
                let value = half::bf16::from_f32(stream.half(scales).to_f32());
                block.copy_from_slice(&value.to_le_bytes());
            }
            _ => {
                block.fill_with(|| stream.next() as u8);
                for &at in halves(dtype) {
                    block[at..at + 2].copy_from_slice(&stream.half(scales).to_le_bytes());
                }
            }
        }
        if dtype == DType::MXFP4 {
            block[0] = match scales {
                Scales::Usual => 118 + stream.next() as u8 % 8,
                Scales::Extreme => stream.pick(&[2, 127, 250]),
            };
        }
    }
    bytes
}

/// What blocks stand for.
pub(crate) fn values(dtype: DType, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    quant::dequantize_row(dtype, bytes, &mut out).expect("computed");
    out
}
