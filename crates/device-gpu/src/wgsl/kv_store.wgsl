// Stores keys and values of tokens in one layer of the cache: a thread takes a BLOCK of one head of one token.
//
// Where numbers come from is in a fragment of its own, `number` and `pair`, as is what threads behind the last block
// do, `beyond`; how numbers are kept is in another, `put`.
struct Params {
    n_tok: u32, n_head_kv: u32,
    // Offsets into the plan, and the rotation.
    slots: u32, rotations: u32, half: u32, pairs: u32,
    // For steps: whether keys turn, and query heads of all tokens that do.
    turn_keys: u32, n_query: u32,
    // For images.
    layer: u32, n_layer: u32,
}
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> plan: array<u32>;

// Keys are part 0 of a token, values part 1. A cell is a head of a page.
struct Place { part: u32, token: u32, head: u32, block: u32, cell: u32, index: u32 }

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * 65535u + group.x) * SIZE + thread;
    let n_block = (HEAD + BLOCK - 1u) / BLOCK;
    let head = i / n_block;
    let row = head / p.n_head_kv;
    if row >= 2u * p.n_tok {
        beyond(i - 2u * p.n_tok * p.n_head_kv * n_block);
        return;
    }
    var place: Place;
    place.part = row / p.n_tok;
    place.token = row % p.n_tok;
    place.head = head % p.n_head_kv;
    place.block = i % n_block;
    let slot = plan[p.slots + place.token];
    place.cell = slot / PAGE * p.n_head_kv + place.head;
    place.index = slot % PAGE;
    put(place);
}
