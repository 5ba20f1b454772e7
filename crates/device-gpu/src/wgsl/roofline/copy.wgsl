// Copies pieces of 16 KiB, as often as is asked for.
struct Params { visits: u32, n_group: u32, mask: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var visit = group.x; visit < p.visits; visit += p.n_group) {
        let at = (visit & p.mask) * 1024u + thread;
        let first = a[at];
        let second = a[at + 256u];
        let third = a[at + 512u];
        let fourth = a[at + 768u];
        out[at] = first;
        out[at + 256u] = second;
        out[at + 512u] = third;
        out[at + 768u] = fourth;
    }
}
