// Without subgroups, each thread is one.
fn over_subgroup(value: f32, place: Place) -> f32 {
    return value;
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    multiply(workgroup, Place(thread, 0u, thread, SIZE, 1u));
}
