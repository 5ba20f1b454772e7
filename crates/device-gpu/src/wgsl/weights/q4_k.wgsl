// Codes of four bits.
fn integers(group: u32) -> array<u32, 8> {
    return nibbles(quants[group]);
}
