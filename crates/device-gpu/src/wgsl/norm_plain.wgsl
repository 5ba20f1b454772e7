// A row is normed as it is.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn first(i: u32) -> vec4<f32> {
    return x[i];
}
