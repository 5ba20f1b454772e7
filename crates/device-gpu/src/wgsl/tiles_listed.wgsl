// Each expert's rows of W, one expert below the other, by the rows of x that its list names.
@group(0) @binding(4) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;

// The tile's rows of y: a row of x for each `n_used` of them.
var<workgroup> listed: array<u32, TOKENS>;

fn place_of(tile: vec3<u32>) -> Place {
    // Its expert, where in the lists it begins, its rows.
    let t = tiles[tile.x];
    let column = tile.y * ROWS;
    let row = t.x * p.width + column - p.first_row;
    // Rows that begin before the window have wrapped around; those that reach it wrap back.
    let outside = row >= p.n_row && row + (ROWS - 1u) >= row;
    return Place(t.y, select(t.z, 0u, outside), row, column, p.width - column);
}

fn prepare(place: Place, thread: u32) {
    for (var i = thread; i < place.n_tok; i += SIZE) {
        listed[i] = lists[p.n_expert + 1u + place.token + i];
    }
    workgroupBarrier();
}

fn x_row(place: Place, i: u32) -> u32 {
    return listed[i] / p.n_used;
}

fn y_row(place: Place, i: u32) -> u32 {
    return listed[i];
}
