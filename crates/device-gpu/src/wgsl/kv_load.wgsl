// Brings keys and values of one layer into the layout in which they travel, see kv_image.wgsl: a thread takes a unit.
struct Params { n_tok: u32, n_head_kv: u32, layer: u32, n_layer: u32 }
var<immediate> p: Params;
// Where each token is: page * PAGE + place in the page.
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> image: array<u32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * 65535u + group.x) * SIZE + thread;
    let unit = i % UNITS;
    let head = i / UNITS % p.n_head_kv;
    let row = i / (UNITS * p.n_head_kv);
    if row >= 2u * p.n_tok {
        return;
    }
    let part = row % 2u;
    let token = row / 2u;
    let slot = slots[token];
    let cell = slot / PAGE * p.n_head_kv + head;
    var words: vec4<u32>;
    if part == 0u {
        words = key_words(cell, slot % PAGE, unit);
    } else {
        words = value_words(cell, slot % PAGE, unit);
    }
    let line = (token * p.n_layer + p.layer) * 2u + part;
    let at = ((line * p.n_head_kv + head) * HEAD + unit * 8u) / 2u;
    for (var w = 0u; w < min(4u, (HEAD - unit * 8u) / 2u); w++) {
        image[at + w] = words[w];
    }
}
