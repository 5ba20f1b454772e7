// out[t] = table[tokens[t]]: a thread for each group of 32. Tokens whose row is in another window are left alone.
struct Params { n_group: u32, n_tok: u32, first_row: u32, n_row: u32, width: u32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (id.y * 65535u + id.x) * SIZE + thread;
    if i >= p.n_tok * p.n_group {
        return;
    }
    let token = i / p.n_group;
    let group = i % p.n_group;
    // Rows before the window wrap around, and so are beyond its end as well.
    let row = tokens[token] - p.first_row;
    if row >= p.n_row {
        return;
    }
    var w = weights(row * p.n_group + group);
    let vectors = p.width / 4u;
    let first = group * 8u;
    for (var j = 0u; j < min(8u, vectors - first); j++) {
        out[token * vectors + first + j] = w[j];
    }
}
