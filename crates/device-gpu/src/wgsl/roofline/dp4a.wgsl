// Eight chains of dot products of four signed bytes, 512 operations a round.
struct Params { rounds: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<i32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = thread * 0x01030507u + 0x11315171u;
    var a0 = i32(thread);
    var a1 = a0 + 1;
    var a2 = a0 + 2;
    var a3 = a0 + 3;
    var a4 = a0 + 4;
    var a5 = a0 + 5;
    var a6 = a0 + 6;
    var a7 = a0 + 7;
    for (var i = 0u; i < p.rounds; i++) {
        for (var j = 0u; j < 8u; j++) {
            a0 += dot4I8Packed(u32(a0), b);
            a1 += dot4I8Packed(u32(a1), b);
            a2 += dot4I8Packed(u32(a2), b);
            a3 += dot4I8Packed(u32(a3), b);
            a4 += dot4I8Packed(u32(a4), b);
            a5 += dot4I8Packed(u32(a5), b);
            a6 += dot4I8Packed(u32(a6), b);
            a7 += dot4I8Packed(u32(a7), b);
        }
    }
    let all = ((a0 ^ a1) ^ (a2 ^ a3)) ^ ((a4 ^ a5) ^ (a6 ^ a7));
    if all == 0x12345677 {
        out[0] = all;
    }
}
