//! A check of a piece's bytes against what a disk or a crash may do to them.
//!
//! It is no proof against anybody who wants to deceive, which the file's digest is; it is fast, and tells which piece of a
//! file is not what was written: zeros after a loss of power, half of a write, a bit that fell over.

const LANES: usize = 4;
const BLOCK: usize = LANES * 8;
/// Odd, and with about as many ones as zeros.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The check of bytes that come in several slices, of which all but the last have whole blocks of 32 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    lanes: [u64; LANES],
    bytes: u64,
}

impl Check {
    pub(crate) fn new() -> Self {
        Self {
            lanes: [1, 2, 3, 4],
            bytes: 0,
        }
    }

    /// More bytes. Four lanes, so that the processor multiplies one while another is on its way.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.block(block);
        }
        if !rest.is_empty() {
            let mut last = [0; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            self.block(&last);
        }
    }

    fn block(&mut self, block: &[u8; BLOCK]) {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = folded(*lane ^ u64::from_le_bytes(*word));
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        let mix = |sum: u64, lane: &u64| folded(sum.rotate_left(17) ^ lane);
        self.lanes.iter().fold(self.bytes, mix)
    }
}

/// Spreads each bit over all: a product's lower half has it in the bits above, the upper half in those below.
fn folded(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(FACTOR);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut check = Check::new();
        check.update(bytes);
        check.finish()
    }

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes: Vec<u8> = (0..200u8).collect();
        let whole = of(&bytes);
        let mut seen = vec![whole, of(&[]), of(&[0; 200]), of(&bytes[..199])];
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                seen.push(of(&other));
            }
        }
        let mut swapped = bytes.clone();
        swapped.swap(3, 40);
        seen.push(of(&swapped));
        seen.push(of(&[bytes.clone(), vec![0]].concat()));
        seen.sort_unstable();
        let count = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn slices_make_no_difference() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let mut check = Check::new();
        check.update(&bytes[..64]);
        check.update(&bytes[64..640]);
        check.update(&bytes[640..]);
        assert_eq!(check.finish(), of(&bytes));
    }
}
