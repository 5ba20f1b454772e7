// What all products of matrices share: y (+)= x · Wᵀ, a tile of TOKENS rows of x and ROWS rows of W per workgroup. Where
// the tile is, `place` says, in a fragment of its own; so is what x and W are kept as in shared memory.
struct Params {
    // Rows of x; groups of 32 in a row of W; vectors of four in a row of x.
    n_tok: u32, n_group: u32, n_vec: u32,
    // The window: its first row in W, and its rows.
    first_row: u32, n_row: u32,
    // Values in a row of y, and whether to add to them.
    width: u32, add: u32,
    // Of experts alone: how many there are, and how many rows of y a row of x is for.
    n_expert: u32, n_used: u32,
}
var<immediate> p: Params;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// A tile. Its rows of W may begin before the window, then `row` has wrapped around.
struct Place {
    // Where its tokens begin, and how many it has; none if there is nothing to do.
    token: u32, n_tok: u32,
    // Where its rows of W begin in the window; in a row of y; and how many it has.
    row: u32, column: u32, n_row: u32,
}

// The product of the tile's i-th row of x and j-th of W is known.
fn put(place: Place, i: u32, j: u32, product: f32) {
    if i < place.n_tok && j < place.n_row && place.row + j < p.n_row {
        let at = y_row(place, i) * p.width + place.column + j;
        if p.add != 0u {
            y[at] += product;
        } else {
            y[at] = product;
        }
    }
}
