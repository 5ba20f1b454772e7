// Joins the sums of a token's ranges, see attention_decode.wgsl: a workgroup takes one head of one token.
struct Params { joins: u32, n_join: u32, n_head: u32, has_sinks: u32, stats: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> plan: array<u32>;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read> sinks: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = group.y * 65535u + group.x;
    if i >= p.n_join {
        return;
    }
    let head = group.z;
    // As in plan.rs.
    let token = plan[p.joins + i * 3u];
    let first = plan[p.joins + i * 3u + 1u];
    let n_part = plan[p.joins + i * 3u + 2u];
    var largest = -3e38;
    for (var part = first; part < first + n_part; part++) {
        largest = max(largest, parts[p.stats + 2u * (part * p.n_head + head)]);
    }
    for (var d = thread; d < HEAD; d += SIZE) {
        var value = 0.0;
        var sum = 0.0;
        for (var part = first; part < first + n_part; part++) {
            let at = part * p.n_head + head;
            let shrink = exp(parts[p.stats + 2u * at] - largest);
            value += parts[at * HEAD + d] * shrink;
            sum += parts[p.stats + 2u * at + 1u] * shrink;
        }
        if p.has_sinks == 1u {
            sum += exp(sinks[head] - largest);
        }
        out[(token * p.n_head + head) * HEAD + d] = value / sum;
    }
}
