// What all number formats share. Weights go in groups of 32 along a row, and eight groups are interleaved so that
// threads side by side read side by side: first vector 0 of each of the eight, then vector 1 of each, ..., then what is
// left of each. A fragment per format says how 32 weights are made of that:
//   weights(group)   the 32 weights, in order;
//   integers(group)  32 signed bytes, packed four by four, in order (not for floats);
//   scale(group)     factor of the first 16, factor of the last 16, what is added to each: weight = factor * integer + added;
//   HALVES, ADDS     whether the two factors differ, and whether something is added.
@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;

const NIBBLES: u32 = 0x0f0f0f0fu;
const ONES: u32 = 0x01010101u;

// 32 codes of four bits: the low halves of the bytes hold the first 16.
fn nibbles(q: vec4<u32>) -> array<u32, 8> {
    let low = q & vec4<u32>(NIBBLES);
    let high = (q >> vec4<u32>(4u)) & vec4<u32>(NIBBLES);
    return array<u32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}

// One half-precision number of the two in a word: the even one is the lower.
fn half_of(word: u32, index: u32) -> f32 {
    return unpack2x16float(word >> (16u * (index & 1u))).x;
}
