// Signed bytes; a half-precision factor each 32.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = false;

fn integers(group: u32) -> array<u32, 8> {
    let first = group / 8u * 16u + group % 8u;
    let a = quants[first];
    let b = quants[first + 8u];
    return array<u32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}

fn scale(group: u32) -> vec3<f32> {
    let d = half_of(scales[group / 2u], group);
    return vec3<f32>(d, d, 0.0);
}
