//! From blocks as they are in files to the planes that kernels read.
//!
//! Eight groups of 32 weights at a time: eight blocks, or one super-block. What goes where is said by the fragments in
//! `wgsl/weights`, which are the other half of this file.

use super::format::{EIGHT, Format, Layout};

/// Eights of groups that are worth a thread.
const EIGHTS_PER_THREAD: usize = 1024;

/// Repacks whole eights of groups, by several threads where there are many.
///
/// # Panics
/// If the lengths disagree.
pub(super) fn repack(format: Format, file: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    let (layout, n_file) = (format.layout(), file_bytes(format));
    let n_eight = file.len() / n_file;
    assert_eq!(file.len(), n_eight * n_file, "whole eights");
    assert_eq!(quants.len(), n_eight * layout.quants(), "room for quants");
    assert_eq!(scales.len(), n_eight * layout.scales, "room for scales");
    let n_thread = std::thread::available_parallelism().map_or(1, usize::from);
    let share = n_eight.div_ceil(n_thread).max(EIGHTS_PER_THREAD);
    let (mut file, mut quants, mut scales) = (file, quants, scales);
    std::thread::scope(|scope| {
        while file.len() > share * n_file {
            let (this, rest) = file.split_at(share * n_file);
            file = rest;
            let these = quants.split_off_mut(..share * layout.quants());
            let those = scales.split_off_mut(..share * layout.scales);
            let (Some(quants), Some(scales)) = (these, those) else {
                unreachable!("as long as the file, which is longer")
            };
            scope.spawn(move || eights(format, this, quants, scales));
        }
        eights(format, file, quants, scales);
    });
}

fn eights(format: Format, file: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    let layout = format.layout();
    let blocks = file.chunks_exact(file_bytes(format));
    let quants = quants.chunks_exact_mut(layout.quants());
    for (i, (file, quants)) in blocks.zip(quants).enumerate() {
        let scales = &mut scales[i * layout.scales..][..layout.scales];
        let mut planes = Planes {
            layout,
            quants,
            scales,
        };
        match format {
            Format::F32 | Format::F16 | Format::BF16 => floats(file, &mut planes),
            Format::Q4_K | Format::Q5_K => k(format, file, &mut planes),
            Format::Q6_K => q6_k(file, &mut planes),
            _ => small(format, file, &mut planes),
        }
    }
}

/// Bytes of eight groups in a file.
pub(super) fn file_bytes(format: Format) -> usize {
    let bytes = format.dtype().row_bytes(EIGHT * super::GROUP);
    bytes.expect("every format's blocks divide 256 weights")
}

/// Eight groups in both planes.
struct Planes<'p> {
    layout: Layout,
    quants: &'p mut [u8],
    scales: &'p mut [u8],
}

impl Planes<'_> {
    /// Vector `j` of group `g`.
    fn vector(&mut self, g: usize, j: usize) -> &mut [u8; 16] {
        &mut self.quants.as_chunks_mut().0[j * EIGHT + g]
    }

    /// What group `g` has beyond its vectors.
    fn tail(&mut self, g: usize) -> &mut [u8] {
        let first = self.layout.vectors * EIGHT * 16;
        &mut self.quants[first + g * self.layout.tail..][..self.layout.tail]
    }

    /// The part of group `g` in the plane of scales, where each has its own.
    fn scale(&mut self, g: usize) -> &mut [u8] {
        let each = self.layout.scales / EIGHT;
        &mut self.scales[g * each..][..each]
    }
}

fn floats(file: &[u8], planes: &mut Planes<'_>) {
    let n = planes.layout.vectors;
    for (i, vector) in file.as_chunks::<16>().0.iter().enumerate() {
        *planes.vector(i / n, i % n) = *vector;
    }
}

/// Blocks of 32: a scale, perhaps a minimum, perhaps fifth bits, then the codes.
fn small(format: Format, file: &[u8], planes: &mut Planes<'_>) {
    let n_scale = planes.layout.scales / EIGHT;
    for (g, block) in file.chunks_exact(file.len() / EIGHT).enumerate() {
        let (scale, rest) = block.split_at(n_scale);
        planes.scale(g).copy_from_slice(scale);
        let codes = match format {
            Format::Q5_0 | Format::Q5_1 => {
                let (bits, codes) = rest.split_at(4);
                // Four bits, each to a byte of its own: the products of a bit with those of the factor do not meet.
                let spread = |j: usize| u32::from(bits[j / 2] >> (j % 2 * 4) & 15) * 0x0020_4081;
                let tail = fifths(|j| spread(j) & 0x0101_0101);
                planes.tail(g).copy_from_slice(&tail.to_le_bytes());
                codes
            }
            _ => rest,
        };
        for (j, vector) in codes.as_chunks::<16>().0.iter().enumerate() {
            *planes.vector(g, j) = *vector;
        }
    }
}

/// The word in which bit `j` of byte `b` is the fifth of code `4 j + b`, of words with the fifths of four codes each.
fn fifths(four: impl Fn(usize) -> u32) -> u32 {
    (0..8).fold(0, |word, j| word | four(j) << j)
}

/// Four bytes as a word.
fn word(bytes: &[u8], j: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[j])
}

/// Sixteen bytes of which the low halves are the first codes and the high halves are the others: those in 32 bytes,
/// `shift` bits up.
fn nibbles(codes: &[u8], shift: usize) -> [u8; 16] {
    const LOW: u128 = u128::from_le_bytes([15; 16]);
    let half = |i: usize| u128::from_le_bytes(codes.as_chunks().0[i]) >> shift & LOW;
    (half(0) | half(1) << 4).to_le_bytes()
}

/// `d`, `dmin`, twelve bytes of scales and minima, for Q5_K 32 bytes of fifth bits, then 128 bytes of codes, of which
/// each 32 hold two groups: one in the low halves, one in the high ones.
fn k(format: Format, file: &[u8], planes: &mut Planes<'_>) {
    let (head, rest) = file.split_at(16);
    planes.scales[..4].copy_from_slice(&head[..4]);
    for (to, word) in planes.scales[4..]
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(k_scales(&head[4..]))
    {
        *to = word.to_le_bytes();
    }
    let (bits, codes) = rest.split_at(rest.len() - 128);
    for g in 0..EIGHT {
        let (pair, shift) = (&codes[g / 2 * 32..][..32], g % 2 * 4);
        *planes.vector(g, 0) = nibbles(pair, shift);
        if format == Format::Q5_K {
            let tail = fifths(|j| word(bits, j) >> g & 0x0101_0101);
            planes.tail(g).copy_from_slice(&tail.to_le_bytes());
        }
    }
}

/// The eight scales and minima of six bits: the low four of the former, of the latter, and the high two of both.
///
/// In the file, those of groups 0 to 3 are the low six bits of bytes `g` and `g + 4`. Of the others, byte `g + 4` holds
/// the low four, scale below minimum, and the top two bits of bytes `g - 4` and `g` are the rest.
fn k_scales(packed: &[u8]) -> [u32; 3] {
    let mut words = [0; 3];
    for g in 0..EIGHT {
        let (scale, minimum) = match g < 4 {
            true => (packed[g] & 63, packed[g + 4] & 63),
            false => (
                packed[g + 4] & 15 | packed[g - 4] >> 6 << 4,
                packed[g + 4] >> 4 | packed[g] >> 6 << 4,
            ),
        };
        words[0] |= u32::from(scale & 15) << (4 * g);
        words[1] |= u32::from(minimum & 15) << (4 * g);
        words[2] |= u32::from(scale >> 4) << (2 * g) | u32::from(minimum >> 4) << (2 * g + 16);
    }
    words
}

/// 128 bytes of low bits, 64 of high ones, 16 scales, and `d`. The two halves of 128 weights are alike: group `g` of
/// four has its low bits in half-bytes of 32 bytes that it shares, and its high two in bits `2 g` of the same 32 bytes.
fn q6_k(file: &[u8], planes: &mut Planes<'_>) {
    let (low, rest) = file.split_at(128);
    let (high, scales) = rest.split_at(64);
    planes.scales[..18].copy_from_slice(scales);
    planes.scales[18..].fill(0);
    for g in 0..EIGHT {
        let (half, quarter) = (g / 4, g % 4);
        let (low, high) = (
            &low[64 * half + 32 * (quarter % 2)..][..32],
            &high[32 * half..][..32],
        );
        *planes.vector(g, 0) = nibbles(low, quarter / 2 * 4);
        for (i, tail) in planes.tail(g).as_chunks_mut().0.iter_mut().enumerate() {
            let two = |j| word(high, 4 * i + j) >> (2 * quarter) & 0x0303_0303;
            let bits = (0..4).fold(0, |bits, j| bits | two(j) << (2 * j));
            *tail = bits.to_le_bytes();
        }
    }
}
