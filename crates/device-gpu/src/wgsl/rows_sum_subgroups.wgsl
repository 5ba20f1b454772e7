// The sum over a workgroup: within its subgroups, then over them in their order.
struct Thread {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}
var<workgroup> partial: array<f32, SIZE>;

fn sum(thread: Thread, value: f32) -> f32 {
    let part = subgroupAdd(value);
    if thread.lane == 0u {
        partial[thread.subgroup] = part;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < thread.n_subgroup; i++) {
        total += partial[i];
    }
    return total;
}
