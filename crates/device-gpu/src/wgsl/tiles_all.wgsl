// Every row of x by every row of W. Tiles side by side share rows of W, which are what is worth keeping in the cache.
fn place_of(tile: vec3<u32>) -> Place {
    let token = tile.x * TOKENS;
    let row = tile.y * ROWS;
    return Place(token, p.n_tok - token, row, p.first_row + row, p.n_row - row);
}

fn prepare(place: Place, thread: u32) {}

fn x_row(place: Place, i: u32) -> u32 {
    return place.token + i;
}

fn y_row(place: Place, i: u32) -> u32 {
    return place.token + i;
}
