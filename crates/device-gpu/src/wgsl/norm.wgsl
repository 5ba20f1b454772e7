// out = x / sqrt(mean(x²) + eps) * weight, one row per workgroup. `first` gives a row's values when they are looked at
// first; a thread comes back to its own ones.
struct Params { n_row: u32, width: u32, eps: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, thread: Thread) {
    let row = group.y * 65535u + group.x;
    if row >= p.n_row {
        return;
    }
    let begin = row * p.width;
    var squares = vec4<f32>(0.0);
    for (var i = thread.index; i < p.width; i += SIZE) {
        let value = first(begin + i);
        squares = fma(value, value, squares);
    }
    let mean = sum(thread, dot(squares, vec4<f32>(1.0))) / f32(p.width * 4u);
    let scale = 1.0 / sqrt(mean + p.eps);
    for (var i = thread.index; i < p.width; i += SIZE) {
        out[begin + i] = x[begin + i] * scale * weight[i];
    }
}
