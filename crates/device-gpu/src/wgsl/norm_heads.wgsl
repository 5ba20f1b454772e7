// x = x / sqrt(mean(x²) + eps) * weight for every head on its own: sixteen threads a head, four heads a workgroup.
struct Params { n_head: u32, width: u32, eps: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
var<workgroup> partial: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = (group.y * 65535u + group.x) * 4u + thread / 16u;
    let lane = thread % 16u;
    let begin = head * p.width;
    // Heads beyond the last have no values, but their threads meet the others at the barrier.
    let width = select(0u, p.width, head < p.n_head);
    var squares = vec4<f32>(0.0);
    for (var i = lane; i < width; i += 16u) {
        let value = x[begin + i];
        squares = fma(value, value, squares);
    }
    partial[thread] = squares;
    workgroupBarrier();
    squares = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        squares += partial[thread - lane + i];
    }
    let mean = dot(squares, vec4<f32>(1.0)) / f32(p.width * 4u);
    let scale = 1.0 / sqrt(mean + p.eps);
    for (var i = lane; i < width; i += 16u) {
        x[begin + i] = x[begin + i] * scale * weight[i];
    }
}
