// Activations as bytes, as matvec_q8 reads them: of each 32, bytes up to 127 and a factor, and the sum of what the bytes
// stand for. A thread for each group. Groups are interleaved in eights, as weights are; a row has whole eights.
struct Params { n_tok: u32, n_group: u32, n_vec: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> bytes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> scales: array<vec2<f32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (id.y * 65535u + id.x) * SIZE + thread;
    if i >= p.n_tok * p.n_group {
        return;
    }
    let token = i / p.n_group;
    let group = i % p.n_group;
    var values: array<vec4<f32>, 8>;
    // Magnitudes are compared as integers: in that order, what is not a number is above all others, and stays.
    var most = vec4<u32>();
    for (var j = 0u; j < 8u; j++) {
        let k = group * 8u + j;
        if k < p.n_vec {
            values[j] = x[token * p.n_vec + k];
        }
        most = max(most, bitcast<vec4<u32>>(values[j]) & vec4<u32>(0x7fffffffu));
    }
    let largest = bitcast<f32>(max(max(most.x, most.y), max(most.z, most.w)));
    // Below that, the inverse is beyond the largest number.
    let inverse = select(127.0 / largest, 0.0, largest < 1e-36);
    let factor = select(largest / 127.0, 0.0, largest < 1e-36);
    var words: array<u32, 8>;
    var sum = 0;
    for (var j = 0u; j < 8u; j++) {
        let rounded = clamp(vec4<i32>(round(values[j] * inverse)), vec4<i32>(-127), vec4<i32>(127));
        words[j] = pack4xI8(rounded);
        sum += rounded.x + rounded.y + rounded.z + rounded.w;
    }
    let eight = token * ((p.n_group + 7u) / 8u) + group / 8u;
    let first = eight * 16u + group % 8u;
    bytes[first] = vec4<u32>(words[0], words[1], words[2], words[3]);
    bytes[first + 8u] = vec4<u32>(words[4], words[5], words[6], words[7]);
    scales[eight * 8u + group % 8u] = vec2<f32>(factor, factor * f32(sum));
}
