// out[t] = Σ weights[t, i] * y[t * k + i], or that much more, in the order of the experts' places.
struct Params { n: u32, width: u32, k: u32, more: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (group.y * 65535u + group.x) * SIZE + thread;
    if at >= p.n {
        return;
    }
    let token = at / p.width;
    let column = at % p.width;
    var sum = vec4<f32>(0.0);
    if p.more != 0u {
        sum = out[at];
    }
    for (var i = token * p.k; i < (token + 1u) * p.k; i++) {
        sum = fma(vec4<f32>(weights[i]), y[i * p.width + column], sum);
    }
    out[at] = sum;
}
