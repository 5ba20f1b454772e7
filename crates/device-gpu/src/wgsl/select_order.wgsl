// Numbers as whole ones in the same order: the comparison is exact on every GPU. Both zeros are one; what is no number
// stands above all, so that it shows.
fn order(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    let key = select(bits | 0x80000000u, ~bits, bits != size);
    return select(select(key, 0x80000000u, size == 0u), 0xffffffffu, size > 0x7f800000u);
}
