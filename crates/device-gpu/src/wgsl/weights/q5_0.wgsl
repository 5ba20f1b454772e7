// Codes of five bits, less 16; a half-precision factor each 32.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = true;

fn scale(group: u32) -> vec3<f32> {
    let d = half_of(scales[group / 2u], group);
    return vec3<f32>(d, d, -16.0 * d);
}
