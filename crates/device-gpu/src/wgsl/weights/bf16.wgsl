// The upper halves of single precision.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

fn four(a: u32, b: u32) -> vec4<f32> {
    let even = vec2<f32>(bitcast<f32>(a << 16u), bitcast<f32>(b << 16u));
    let odd = vec2<f32>(bitcast<f32>(a & 0xffff0000u), bitcast<f32>(b & 0xffff0000u));
    return vec4<f32>(even.x, odd.x, even.y, odd.y);
}

fn weights(group: u32) -> array<vec4<f32>, 8> {
    let first = group / 8u * 32u + group % 8u;
    let a = quants[first];
    let b = quants[first + 8u];
    let c = quants[first + 16u];
    let d = quants[first + 24u];
    return array<vec4<f32>, 8>(
        four(a.x, a.y), four(a.z, a.w), four(b.x, b.y), four(b.z, b.w),
        four(c.x, c.y), four(c.z, c.w), four(d.x, d.y), four(d.z, d.w),
    );
}
