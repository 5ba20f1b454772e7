// Four chains of cooperative multiply-adds a subgroup, four products a round. How many subgroups a workgroup came to
// is the driver's choice, and told.
struct Params { rounds: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
var<workgroup> factors: array<f16, TILE * TILE>;
var<workgroup> sums: array<number, TILE * TILE>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(num_subgroups) n_subgroup: u32,
) {
    if thread < TILE * TILE {
        factors[thread] = f16(f32(thread) * 0.0001);
    }
    workgroupBarrier();
    let a = coopLoadT<left>(&factors[0], TILE);
    let b = coopLoadT<right>(&factors[0], TILE);
    var c0 = sum();
    var c1 = sum();
    var c2 = sum();
    var c3 = sum();
    for (var i = 0u; i < p.rounds; i++) {
        c0 = coopMultiplyAdd(a, b, c0);
        c1 = coopMultiplyAdd(a, b, c1);
        c2 = coopMultiplyAdd(a, b, c2);
        c3 = coopMultiplyAdd(a, b, c3);
    }
    c0 = (c0 + c1) + (c2 + c3);
    coopStoreT(c0, &sums[0], TILE);
    workgroupBarrier();
    if thread < TILE * TILE && sums[thread] == number(-1.0) {
        out[1] = thread;
    }
    if group.x == 0u && thread == 0u {
        out[0] = n_subgroup;
    }
}
