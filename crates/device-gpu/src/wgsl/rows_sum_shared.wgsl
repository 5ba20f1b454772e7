// The sum over a workgroup, by halves, where there are no subgroups.
struct Thread {
    @builtin(local_invocation_index) index: u32,
}
var<workgroup> partial: array<f32, SIZE>;

fn sum(thread: Thread, value: f32) -> f32 {
    partial[thread.index] = value;
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.index < half {
            partial[thread.index] += partial[thread.index + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}
