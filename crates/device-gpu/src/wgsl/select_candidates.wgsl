// Candidates are what was chosen before: ids of all rows, then their values.
fn candidate(row: u32, i: u32) -> vec2<u32> {
    let at = row * p.n + i;
    let id = values[at];
    return vec2<u32>(select(order(values[p.n_row * p.n + at]), 0u, id == NONE), id);
}
