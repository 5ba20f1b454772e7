//! The grids of the IQ1, IQ2 and IQ3 formats: which magnitudes neighbouring weights may have together.
//!
//! A point is the magnitudes of eight weights, or of four in IQ3, chosen by ggml's authors so that few points cover what
//! weights look like. The `.txt` files have a digit for each weight, which is the number of its level; `generate.py`
//! writes them. Here a point is bytes in order of its weights, four to a number.

/// The levels of IQ2.
const IQ2_LEVELS: [u8; 3] = [8, 25, 43];

/// 256 points of 8.
pub(crate) static IQ2_XXS: [u32; 512] = read(include_bytes!("iq2_xxs.txt"), IQ2_LEVELS);
/// 512 points of 8.
pub(crate) static IQ2_XS: [u32; 1024] = read(include_bytes!("iq2_xs.txt"), IQ2_LEVELS);
/// 1024 points of 8.
pub(crate) static IQ2_S: [u32; 2048] = read(include_bytes!("iq2_s.txt"), IQ2_LEVELS);
/// 256 points of 4.
pub(crate) static IQ3_XXS: [u32; 256] = read(
    include_bytes!("iq3_xxs.txt"),
    [4, 12, 20, 28, 36, 44, 52, 62],
);
/// 512 points of 4.
pub(crate) static IQ3_S: [u32; 512] =
    read(include_bytes!("iq3_s.txt"), [1, 3, 5, 7, 9, 11, 13, 15]);
/// 2048 points of 8 signed weights, -1, 0 or 1: eight times one more.
pub(crate) static IQ1: [u32; 4096] = read(include_bytes!("iq1.txt"), [0, 8, 16]);

/// The weights of point `index` in a grid of points of 8.
pub(crate) fn point(grid: &[u32], index: usize) -> [u8; 8] {
    let (low, high) = (
        grid[2 * index].to_le_bytes(),
        grid[2 * index + 1].to_le_bytes(),
    );
    std::array::from_fn(|i| if i < 4 { low[i] } else { high[i - 4] })
}

/// The digits of a text as levels.
const fn read<const N: usize, const LEVELS: usize>(text: &[u8], levels: [u8; LEVELS]) -> [u32; N] {
    let mut grid = [0; N];
    let (mut at, mut seen) = (0, 0);
    while at < text.len() {
        if text[at] >= b'0' {
            let level = levels[(text[at] - b'0') as usize] as u32;
            grid[seen / 4] |= level << (seen % 4 * 8);
            seen += 1;
        }
        at += 1;
    }
    assert!(seen == 4 * N, "a digit for each weight");
    grid
}
