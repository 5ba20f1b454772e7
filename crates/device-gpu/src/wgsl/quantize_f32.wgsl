// Activations as matvec_f32 reads them: groups of 32 are interleaved in eights, as weights are, and a row has whole
// groups, with zeros at its end. A thread for each vector.
struct Params { n_tok: u32, n_group: u32, n_vec: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (id.y * 65535u + id.x) * SIZE + thread;
    let token = i / (p.n_group * 8u);
    let k = i % (p.n_group * 8u);
    if token >= p.n_tok {
        return;
    }
    var value = vec4<f32>();
    if k < p.n_vec {
        value = x[token * p.n_vec + k];
    }
    let group = k / 8u;
    let eight = token * ((p.n_group + 7u) / 8u) + group / 8u;
    out[eight * 64u + k % 8u * 8u + group % 8u] = value;
}
