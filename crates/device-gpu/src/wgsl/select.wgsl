// The k largest of each chunk of a row, largest first, the lower id first among equals. A candidate is its value's
// order and its id. `candidate` and `first_of_all` are in fragments of their own.
const NONE: u32 = 0xffffffffu;

struct Params { n: u32, n_row: u32, k: u32 }
var<immediate> p: Params;
// Ids of all rows, then their values.
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@group(0) @binding(1) var<storage, read> values: array<u32>;

fn earlier(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, a.x > b.x || (a.x == b.x && a.y < b.y));
}

// The first of this thread's part of the chunk; once `n_done` are chosen, of what comes after the `last` of them.
fn next(row: u32, thread: u32, begin: u32, n_done: u32, last: vec2<u32>) -> vec2<u32> {
    var best = vec2<u32>(0u, NONE);
    let end = min(begin + CHUNK, p.n);
    for (var i = begin + thread; i < end; i += SIZE) {
        let c = candidate(row, i);
        let after = n_done == 0u || c.x < last.x || (c.x == last.x && c.y > last.y);
        best = select(best, earlier(best, c), after);
    }
    return best;
}

// The value of an order.
fn value_of(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, key >= 0x80000000u);
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, thread: Thread) {
    let n_chunk = (p.n + CHUNK - 1u) / CHUNK;
    let begin = group.x * CHUNK;
    let at = (group.y * n_chunk + group.x) * p.k;
    let n_out = p.n_row * n_chunk * p.k;
    var mine = next(group.y, thread.index, begin, 0u, vec2<u32>());
    for (var i = 0u; i < p.k; i++) {
        let best = first_of_all(thread, mine);
        if thread.index == 0u {
            out[at + i] = best.y;
            out[n_out + at + i] = select(value_of(best.x), 0xff800000u, best.y == NONE);
        }
        // Only its thread goes on to another.
        if mine.y == best.y {
            mine = next(group.y, thread.index, begin, i + 1u, best);
        }
    }
}
