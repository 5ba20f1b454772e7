// Threads add up in subgroups first. By halves of a distance that doubles, and not by `subgroupAdd`, whose order is the
// driver's: so sums are the same with subgroups of any size.
fn over_subgroup(value: f32, place: Place) -> f32 {
    var sum = value;
    for (var step = 1u; step < min(place.size, SIZE); step *= 2u) {
        sum += subgroupShuffleXor(sum, step);
    }
    return sum;
}

@compute @workgroup_size(SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    multiply(workgroup, Place(subgroup * size + lane, lane, subgroup, subgroups, size));
}
