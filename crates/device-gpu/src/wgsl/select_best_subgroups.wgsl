// The first of a workgroup's candidates: within its subgroups, then of those.
struct Thread {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}
var<workgroup> leaders: array<vec2<u32>, SIZE>;

fn first_of_all(thread: Thread, mine: vec2<u32>) -> vec2<u32> {
    let key = subgroupMax(mine.x);
    let id = subgroupMin(select(NONE, mine.y, mine.x == key));
    if thread.lane == 0u {
        leaders[thread.subgroup] = vec2<u32>(key, id);
    }
    workgroupBarrier();
    var best = leaders[0];
    for (var i = 1u; i < thread.n_subgroup; i++) {
        best = earlier(best, leaders[i]);
    }
    workgroupBarrier();
    return best;
}
