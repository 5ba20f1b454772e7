// x as it is, and W as floats.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// Vector `k` of the tile's i-th row of x; zeros beyond either end.
fn x_at(place: Place, i: u32, k: u32) -> vec4<f32> {
    if i < place.n_tok && k < p.n_vec {
        return x[x_row(place, i) * p.n_vec + k];
    }
    return vec4<f32>();
}

// Group `group` of the tile's i-th row of W; of rows that are not there, anything.
fn w_at(place: Place, i: u32, group: u32) -> array<vec4<f32>, 8> {
    return weights(min(place.row + i, p.n_row - 1u) * p.n_group + group);
}
