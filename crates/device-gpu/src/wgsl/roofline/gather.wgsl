// Reads 64 bytes here and there: four threads a line, 256 lines a visit, in an order that no cache foresees.
struct Params { visits: u32, n_group: u32, mask: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;

fn scatter(i: u32) -> u32 {
    let x = i * 747796405u + 2891336453u;
    let y = ((x >> ((x >> 28u) + 4u)) ^ x) * 277803737u;
    return (y >> 22u) ^ y;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // The mask counts pieces of 16 KiB, which are 256 lines each.
    let lines = p.mask * 256u + 255u;
    let part = thread % 4u;
    var seen = vec4<u32>(0u);
    for (var visit = group.x; visit < p.visits; visit += p.n_group) {
        let line = visit * 256u + thread / 4u;
        seen += a[(scatter(line) & lines) * 4u + part] ^ a[(scatter(line + 64u) & lines) * 4u + part]
            ^ a[(scatter(line + 128u) & lines) * 4u + part] ^ a[(scatter(line + 192u) & lines) * 4u + part];
    }
    if seen.x + seen.y + seen.z + seen.w == 0x12345677u {
        out[0] = seen.x;
    }
}
