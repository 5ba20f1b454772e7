// Codes of four bits into a table; a half-precision factor each 32.
@group(0) @binding(1) var<storage, read> scales: array<u32>;

const HALVES: bool = false;
const ADDS: bool = false;

// The table, -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, as bytes: even entries, in all four bytes of a
// word, and what turns each into the odd one after it.
const LOWER: vec4<u32> = vec4<u32>(0x81u, 0xadu, 0xcfu, 0xeau) * 0x01010101u;
const LOWER_ODD: vec4<u32> = vec4<u32>(0x19u, 0x12u, 0x12u, 0x1cu) * 0x01010101u;
const UPPER: vec4<u32> = vec4<u32>(0x01u, 0x19u, 0x35u, 0x59u) * 0x01010101u;
const UPPER_ODD: vec4<u32> = vec4<u32>(0x0cu, 0x3fu, 0x70u, 0x28u) * 0x01010101u;

// All bits of the bytes in which this bit is set.
fn mask(codes: u32, bit: u32) -> u32 {
    return ((codes >> bit) & ONES) * 255u;
}

// Looks four codes up at once, by choosing between halves of the table. A table in memory would cost a load per code.
fn entries(codes: u32) -> u32 {
    let odd = vec4<u32>(mask(codes, 0u));
    let lower = LOWER ^ (LOWER_ODD & odd);
    let upper = UPPER ^ (UPPER_ODD & odd);
    let eight = lower ^ ((lower ^ upper) & vec4<u32>(mask(codes, 3u)));
    let four = eight.xy ^ ((eight.xy ^ eight.zw) & vec2<u32>(mask(codes, 2u)));
    return four.x ^ ((four.x ^ four.y) & mask(codes, 1u));
}

fn integers(group: u32) -> array<u32, 8> {
    let q = nibbles(quants[group]);
    return array<u32, 8>(
        entries(q[0]), entries(q[1]), entries(q[2]), entries(q[3]),
        entries(q[4]), entries(q[5]), entries(q[6]), entries(q[7]),
    );
}

fn scale(group: u32) -> vec3<f32> {
    let d = half_of(scales[group / 2u], group);
    return vec3<f32>(d, d, 0.0);
}
