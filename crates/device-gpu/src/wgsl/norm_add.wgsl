// A row is added to what stands there, and the sum is normed.
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> y: array<vec4<f32>>;

fn first(i: u32) -> vec4<f32> {
    let value = x[i] + y[i];
    x[i] = value;
    return value;
}
