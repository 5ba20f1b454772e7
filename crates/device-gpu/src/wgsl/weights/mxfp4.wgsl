// Floats of four bits: a sign, two bits of exponent, one of mantissa; a power of two each 32.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = false;

// Four codes as twice their value: 0 1 2 3 4 6 8 12, and the same below zero.
fn doubled(codes: u32) -> u32 {
    let magnitude = codes & 0x07070707u;
    let large = ((codes >> 2u) & ONES) * 255u;
    let four_or_six = 0x04040404u | ((codes & ONES) << 1u);
    let twice = ((codes >> 1u) & ONES) * 255u;
    let value = (magnitude & ~large) | ((four_or_six + (four_or_six & twice)) & large);
    // Minus zero has no negative: adding one to its complement would carry into the next byte.
    let negative = (codes >> 3u) & ((magnitude + 0x07070707u) >> 3u) & ONES;
    return (value ^ (negative * 255u)) + negative;
}

fn integers(group: u32) -> array<u32, 8> {
    let q = nibbles(quants[group]);
    return array<u32, 8>(
        doubled(q[0]), doubled(q[1]), doubled(q[2]), doubled(q[3]),
        doubled(q[4]), doubled(q[5]), doubled(q[6]), doubled(q[7]),
    );
}

// 2^(e - 127), halved since the integers are doubled. What falls below the normal numbers is zero.
fn scale(group: u32) -> vec3<f32> {
    let e = (scales[group / 4u] >> (8u * (group & 3u))) & 255u;
    let d = bitcast<f32>((max(e, 1u) - 1u) << 23u);
    return vec3<f32>(d, d, 0.0);
}
