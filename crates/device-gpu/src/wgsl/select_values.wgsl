// Candidates are the values of a row themselves.
fn candidate(row: u32, i: u32) -> vec2<u32> {
    return vec2<u32>(order(values[row * p.n + i]), i);
}
