// Codes of four bits, less eight; a half-precision factor each 32.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = true;

fn integers(group: u32) -> array<u32, 8> {
    return nibbles(quants[group]);
}

fn scale(group: u32) -> vec3<f32> {
    let d = half_of(scales[group / 2u], group);
    return vec3<f32>(d, d, -8.0 * d);
}
