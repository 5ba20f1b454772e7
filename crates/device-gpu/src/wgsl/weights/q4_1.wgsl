// Codes of four bits; a factor and a minimum each 32, both of half precision.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = true;

fn integers(group: u32) -> array<u32, 8> {
    return nibbles(quants[group]);
}

fn scale(group: u32) -> vec3<f32> {
    let s = unpack2x16float(scales[group]);
    return vec3<f32>(s.x, s.x, s.y);
}
