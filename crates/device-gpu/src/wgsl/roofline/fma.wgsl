// Eight chains of multiply-adds on vectors of four, 512 operations a round: enough that none waits for another.
struct Params { rounds: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = quad(number(0.75));
    let c = quad(number(f32(thread) * 0.001));
    var a0 = c;
    var a1 = c + quad(number(1.0));
    var a2 = c + quad(number(2.0));
    var a3 = c + quad(number(3.0));
    var a4 = c + quad(number(4.0));
    var a5 = c + quad(number(5.0));
    var a6 = c + quad(number(6.0));
    var a7 = c + quad(number(7.0));
    for (var i = 0u; i < p.rounds; i++) {
        // Written out eight times by the compiler, so that counting does not count.
        for (var j = 0u; j < 8u; j++) {
            a0 = fma(a0, b, c);
            a1 = fma(a1, b, c);
            a2 = fma(a2, b, c);
            a3 = fma(a3, b, c);
            a4 = fma(a4, b, c);
            a5 = fma(a5, b, c);
            a6 = fma(a6, b, c);
            a7 = fma(a7, b, c);
        }
    }
    let sum = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
    let all = f32(sum.x) + f32(sum.y) + f32(sum.z) + f32(sum.w);
    if all == -1.5 {
        out[0] = all;
    }
}
