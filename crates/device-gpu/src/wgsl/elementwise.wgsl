// x[i] = f(i, x[i]) for the first n vectors of four. `f` is in a fragment of its own.
struct Params { n: u32, width: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> y: array<vec4<f32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * 65535u + group.x) * SIZE + thread;
    if i < p.n {
        x[i] = f(i, x[i]);
    }
}
