// Codes of six bits, less 32: the low four as nibbles, and two words in which bits 2 j of byte b are the high two of
// code 4 j + b. Each 256: sixteen signed bytes as scales, and a half-precision factor of all.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = true;
const ADDS: bool = false;

// Four codes of six bits as signed bytes: no byte borrows from the next, since each has its top bit set meanwhile.
fn six(low: u32, high: u32, j: u32) -> u32 {
    let code = low | (((high >> (2u * j)) & 0x03030303u) << 4u);
    return ((code | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

fn integers(group: u32) -> array<u32, 8> {
    let eight = group / 8u * 12u;
    let low = nibbles(quants[eight + group % 8u]);
    let pair = quants[eight + 8u + group % 8u / 2u];
    let high = select(pair.xy, pair.zw, (group & 1u) == 1u);
    return array<u32, 8>(
        six(low[0], high.x, 0u), six(low[1], high.x, 1u), six(low[2], high.x, 2u), six(low[3], high.x, 3u),
        six(low[4], high.y, 0u), six(low[5], high.y, 1u), six(low[6], high.y, 2u), six(low[7], high.y, 3u),
    );
}

fn scale(group: u32) -> vec3<f32> {
    let first = group / 8u * 5u;
    let d = unpack2x16float(scales[first + 4u]).x;
    let two = vec2<f32>(unpack4xI8(scales[first + group % 8u / 2u] >> (16u * (group & 1u))).xy);
    return vec3<f32>(d * two, 0.0);
}
