// Reads pieces of 16 KiB, four vectors a thread at once, as often as is asked for: piece after piece, round after round.
struct Params { visits: u32, n_group: u32, mask: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var seen = vec4<u32>(0u);
    for (var visit = group.x; visit < p.visits; visit += p.n_group) {
        let at = (visit & p.mask) * 1024u + thread;
        seen += a[at] ^ a[at + 256u] ^ a[at + 512u] ^ a[at + 768u];
    }
    // Nobody can know that this does not happen, so all is read.
    if seen.x + seen.y + seen.z + seen.w == 0x12345677u {
        out[0] = seen.x;
    }
}
