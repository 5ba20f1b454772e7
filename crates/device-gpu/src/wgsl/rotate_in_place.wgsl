// Turns the heads of x[n_tok, n_head, HEAD] by their tokens' positions: a thread takes a pair.
struct Params { n: u32, n_head: u32, half: u32, rotations: u32, pairs: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> plan: array<u32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * 65535u + group.x) * SIZE + thread;
    if i >= p.n {
        return;
    }
    let head = i / p.half;
    let first = first_of(p.pairs, i % p.half);
    let turned = turn(p.pairs, head / p.n_head, first, p.half, p.rotations);
    let at = head * HEAD + vec2(first, turned.partner);
    let pair = turn_pair(turned, x[at.x], x[at.y]);
    x[at.x] = pair.x;
    x[at.y] = pair.y;
}
