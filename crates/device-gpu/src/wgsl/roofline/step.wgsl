// Next to nothing, which has to wait for what was before.
struct Params { amount: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
    out[thread] += p.amount;
}
