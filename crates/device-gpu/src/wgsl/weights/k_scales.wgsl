// Each 256: two half-precision numbers d and dmin, then eight scales and eight minima of six bits: a word with the low
// four bits of the scales, one with those of the minima, and one with the high two bits, minima above scales.
@group(0) @binding(1) var<storage, read> scales: array<vec4<u32>>;

const HALVES: bool = false;
const ADDS: bool = true;

fn scale(group: u32) -> vec3<f32> {
    let words = scales[group / 8u];
    let d = unpack2x16float(words.x);
    let two = 2u * (group % 8u);
    let factor = ((words.y >> (2u * two)) & 15u) | (((words.w >> two) & 3u) << 4u);
    let minimum = ((words.z >> (2u * two)) & 15u) | (((words.w >> (16u + two)) & 3u) << 4u);
    let f = d.x * f32(factor);
    return vec3<f32>(f, f, -d.y * f32(minimum));
}
