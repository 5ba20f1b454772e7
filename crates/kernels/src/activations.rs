//! Activations in the form that the weight kernels multiply with.
//!
//! Integer kernels take 8-bit activations: a block of 32 values shares `scale = max|x| / 127` (for the formats with
//! blocks of 32) or a block of 256 does (for the K formats), as llama.cpp does, so that results agree. Tokens are
//! grouped in tiles; inside a tile the blocks of all its tokens lie together, so a kernel reads one stream.

/// Tokens in a full tile: as many f32 accumulators as leave registers for a block of weights.
pub const TILE_TOKENS: usize = 16;

/// Weights per block of every integer kernel.
pub(crate) const BLOCK: usize = 32;

/// A run of tokens that one kernel call multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// First token.
    pub start: usize,
    /// Number of tokens: 16, 8, 4, 2 or 1.
    pub len: usize,
}

/// Splits `n_tok` tokens into full tiles and a remainder of 8, 4, 2, 1.
pub fn tiles(n_tok: usize) -> impl Iterator<Item = Tile> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = n_tok - start;
        if left == 0 {
            return None;
        }
        let len = if left >= TILE_TOKENS {
            TILE_TOKENS
        } else {
            1 << left.ilog2()
        };
        let tile = Tile { start, len };
        start += len;
        Some(tile)
    })
}

/// How many values share an activation scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleGroup {
    /// 32 values: for the formats with smaller blocks.
    Block32,
    /// 256 values: for the formats with blocks of 256.
    Block256,
}

impl ScaleGroup {
    /// Values per scale.
    pub fn values(self) -> usize {
        match self {
            Self::Block32 => 32,
            Self::Block256 => 256,
        }
    }
}

/// 8-bit activations of a batch of tokens, tiled. Buffers are kept between uses.
#[derive(Debug, Default)]
pub(crate) struct QuantizedActivations {
    pub(crate) n_tok: usize,
    pub(crate) n_in: usize,
    /// `[tile][block][token][32]`
    pub(crate) q: Vec<i8>,
    /// `[tile][block][token]`: the block's scale.
    pub(crate) scale: Vec<f32>,
    /// `[tile][block][token][2]`: minus the sum of each half of the block.
    pub(crate) neg_sum: Vec<[i32; 2]>,
    /// `[tile][block][token]`: scale times the sum of the block, what a format's minimum is multiplied with.
    pub(crate) scaled_sum: Vec<f32>,
}

/// The part of [`QuantizedActivations`] that belongs to one tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedTile<'a> {
    pub(crate) len: usize,
    pub(crate) q: &'a [i8],
    pub(crate) scale: &'a [f32],
    pub(crate) neg_sum: &'a [[i32; 2]],
    pub(crate) scaled_sum: &'a [f32],
}

impl QuantizedActivations {
    /// Prepares room for `[n_tok, n_in]`; contents are unspecified until every row is written.
    pub(crate) fn resize(&mut self, n_tok: usize, n_in: usize) {
        debug_assert!(n_in.is_multiple_of(BLOCK));
        let blocks = n_tok * n_in / BLOCK;
        self.n_tok = n_tok;
        self.n_in = n_in;
        self.q.resize(blocks * BLOCK, 0);
        self.scale.resize(blocks, 0.0);
        self.neg_sum.resize(blocks, [0; 2]);
        self.scaled_sum.resize(blocks, 0.0);
    }

    pub(crate) fn tile(&self, tile: Tile) -> QuantizedTile<'_> {
        let blocks = tile.start * self.n_in / BLOCK..(tile.start + tile.len) * self.n_in / BLOCK;
        QuantizedTile {
            len: tile.len,
            q: &self.q[blocks.start * BLOCK..blocks.end * BLOCK],
            scale: &self.scale[blocks.clone()],
            neg_sum: &self.neg_sum[blocks.clone()],
            scaled_sum: &self.scaled_sum[blocks],
        }
    }

    /// Where block 0 of token `token` (of `tile`) lies and how far apart its blocks are, in blocks.
    pub(crate) fn token_blocks(n_in: usize, tile: Tile, token: usize) -> (usize, usize) {
        (tile.start * n_in / BLOCK + token, tile.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_tokens_in_order() {
        for n_tok in 0..100 {
            let mut next = 0;
            for tile in tiles(n_tok) {
                assert_eq!(tile.start, next);
                assert!(tile.len.is_power_of_two() && tile.len <= TILE_TOKENS);
                next += tile.len;
            }
            assert_eq!(next, n_tok);
        }
        assert_eq!(
            tiles(29).map(|tile| tile.len).collect::<Vec<_>>(),
            [16, 8, 4, 1]
        );
    }
}
