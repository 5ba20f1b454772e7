// Codes of five bits: the low four as nibbles, and a word in which bit j of byte b is the fifth of code 4 j + b.
fn fifth(high: u32, j: u32) -> u32 {
    return ((high >> j) & ONES) << 4u;
}

fn integers(group: u32) -> array<u32, 8> {
    let eight = group / 8u * 10u;
    let low = nibbles(quants[eight + group % 8u]);
    let high = quants[eight + 8u + group % 8u / 4u][group % 4u];
    return array<u32, 8>(
        low[0] | fifth(high, 0u), low[1] | fifth(high, 1u), low[2] | fifth(high, 2u), low[3] | fifth(high, 3u),
        low[4] | fifth(high, 4u), low[5] | fifth(high, 5u), low[6] | fifth(high, 6u), low[7] | fifth(high, 7u),
    );
}
