// Row i of `out` is row `rows[i]` of `x`. The list comes along with the dispatch.
struct Params { width: u32, first: u32, rows: array<vec4<u32>, 6> }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = group.x * 256u + thread;
    if i < p.width {
        let row = p.rows[group.y / 4u][group.y % 4u];
        out[(p.first + group.y) * p.width + i] = x[row * p.width + i];
    }
}
