// Words that do not compress.
struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * 65535u + group.x) * 256u + thread;
    if i < p.n {
        let x = (vec4<u32>(i) * 4u + vec4<u32>(0u, 1u, 2u, 3u)) * 747796405u + 2891336453u;
        out[i] = ((x >> (vec4<u32>(4u) + (x >> vec4<u32>(28u)))) ^ x) * 277803737u;
    }
}
