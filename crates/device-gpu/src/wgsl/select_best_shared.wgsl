// The first of a workgroup's candidates, by halves, where there are no subgroups.
struct Thread {
    @builtin(local_invocation_index) index: u32,
}
var<workgroup> leaders: array<vec2<u32>, SIZE>;

fn first_of_all(thread: Thread, mine: vec2<u32>) -> vec2<u32> {
    leaders[thread.index] = mine;
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.index < half {
            leaders[thread.index] = earlier(leaders[thread.index], leaders[thread.index + half]);
        }
    }
    workgroupBarrier();
    let best = leaders[0];
    workgroupBarrier();
    return best;
}
