// Single precision.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

fn four(index: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(quants[index]);
}

fn weights(group: u32) -> array<vec4<f32>, 8> {
    let first = group / 8u * 64u + group % 8u;
    return array<vec4<f32>, 8>(
        four(first), four(first + 8u), four(first + 16u), four(first + 24u),
        four(first + 32u), four(first + 40u), four(first + 48u), four(first + 56u),
    );
}
