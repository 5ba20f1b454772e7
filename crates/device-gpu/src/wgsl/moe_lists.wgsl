// The rows of each expert, one expert per workgroup: where its list begins, and the numbers of its assignments in
// order. An assignment is a token's place: token * k + i. Each workgroup counts for itself what goes before its list.
struct Params { n: u32, n_expert: u32 }
var<immediate> p: Params;
// Where lists begin, one more than there are experts; then the lists.
@group(0) @binding(0) var<storage, read_write> lists: array<u32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;

const WORDS: u32 = SIZE / 32u;
var<workgroup> before: atomic<u32>;
// Which assignments of a chunk are this expert's.
var<workgroup> mask: array<atomic<u32>, WORDS>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let expert = group.x;
    if thread == 0u {
        atomicStore(&before, 0u);
    }
    workgroupBarrier();
    var mine = 0u;
    for (var i = thread; i < p.n; i += SIZE) {
        mine += u32(ids[i] < expert);
    }
    atomicAdd(&before, mine);
    workgroupBarrier();
    var at = atomicLoad(&before);
    if thread == 0u {
        lists[expert] = at;
        if expert + 1u == p.n_expert {
            lists[p.n_expert] = p.n;
        }
    }
    for (var begin = 0u; begin < p.n; begin += SIZE) {
        if thread < WORDS {
            atomicStore(&mask[thread], 0u);
        }
        workgroupBarrier();
        let i = begin + thread;
        var is_mine = false;
        if i < p.n {
            is_mine = ids[i] == expert;
        }
        if is_mine {
            atomicOr(&mask[thread / 32u], 1u << (thread % 32u));
        }
        workgroupBarrier();
        var earlier = 0u;
        var all = 0u;
        for (var word = 0u; word < WORDS; word++) {
            let bits = atomicLoad(&mask[word]);
            all += countOneBits(bits);
            let below = select(0u, bits, word < thread / 32u);
            let within = select(0u, bits & ((1u << (thread % 32u)) - 1u), word == thread / 32u);
            earlier += countOneBits(below | within);
        }
        if is_mine {
            lists[p.n_expert + 1u + at + earlier] = i;
        }
        at += all;
        workgroupBarrier();
    }
}
