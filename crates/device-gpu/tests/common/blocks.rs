//! Weights as files have them: random blocks with every kind of scale, and what they stand for.
//!
//! Formats that the CPU computes are read by its scalar code, the others by code of this file that follows the layout
//! as ggml defines it, one weight at a time.

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
    if quant::is_computed(dtype) {
        quant::dequantize_row(dtype, bytes, &mut out).expect("computed");
        return out;
    }
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(dtype.block_len())) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = weight(dtype, block, i);
        }
    }
    out
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Weight `i` of a block.
fn weight(dtype: DType, block: &[u8], i: usize) -> f32 {
    // Of 32 codes, byte `i` has the first 16 in its low half and the others in its high half.
    let nibble = |codes: usize| block[codes + i % 16] >> (4 * (i / 16)) & 15;
    let fifth = |bits: usize| block[bits + i / 8] >> (i % 8) & 1;
    match dtype {
        DType::Q4_1 => half_at(block, 0) * f32::from(nibble(4)) + half_at(block, 2),
        DType::Q5_0 => {
            let code = nibble(6) | fifth(2) << 4;
            half_at(block, 0) * (f32::from(code) - 16.0)
        }
        DType::Q5_1 => {
            let code = nibble(8) | fifth(4) << 4;
            half_at(block, 0) * f32::from(code) + half_at(block, 2)
        }
        DType::Q5_K => {
            let (group, within) = (i / 32, i % 32);
            let low = block[48 + group / 2 * 32 + within] >> (4 * (group % 2)) & 15;
            let code = low | (block[16 + within] >> group & 1) << 4;
            let (scale, minimum) = six_bits(&block[4..16], group);
            half_at(block, 0) * f32::from(scale) * f32::from(code)
                - half_at(block, 2) * f32::from(minimum)
        }
        DType::IQ4_NL => {
            const TABLE: [i8; 16] = [
                -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
            ];
            half_at(block, 0) * f32::from(TABLE[usize::from(nibble(2))])
        }
        DType::MXFP4 => {
            const TABLE: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
            let code = nibble(1);
            let sign = if code & 8 == 0 { 1.0 } else { -1.0 };
            let power = f64::from(block[0]) - 127.0;
            sign * TABLE[usize::from(code & 7)] * power.exp2() as f32
        }
        _ => unreachable!("{dtype} is not among the formats of GPU kernels"),
    }
}

/// Scale and minimum of sub-block `j` of a block with 256 weights.
fn six_bits(packed: &[u8], j: usize) -> (u8, u8) {
    match j < 4 {
        true => (packed[j] & 63, packed[j + 4] & 63),
        false => (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        ),
    }
}
