// y[a] = x[a / n_used] · W[ids[a]]ᵀ, four rows of an expert per workgroup, for so few assignments that an expert seldom has
// two: each reads its expert's weights once, so the speed is that of memory.
struct Params {
    // Groups of 32 in a row of W, vectors of four in a row of x.
    n_group: u32, n_vec: u32,
    // The window: its first row in W, and its rows.
    first_row: u32, n_row: u32,
    // Values in a row of y, and how many rows of y a row of x is for.
    width: u32, n_used: u32,
}
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> ids: array<u32>;

var<workgroup> parts: array<vec4<f32>, SIZE>;

// What a thread has of the products of a row of x with row `row` of the window; of rows that are not there, anything.
fn of_row(row: u32, k: u32, xs: array<vec4<f32>, 8>) -> f32 {
    var w = weights(min(row, p.n_row - 1u) * p.n_group + k);
    var values = xs;
    var sum = vec4<f32>();
    for (var j = 0u; j < 8u; j++) {
        sum = fma(w[j], values[j], sum);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let assignment = id.y;
    let column = id.x * 4u;
    // Rows before the window have wrapped around, and so are beyond its end as well.
    let row = ids[assignment] * p.width + column - p.first_row;
    let x_first = assignment / p.n_used * p.n_vec;
    var sums = vec4<f32>();
    for (var k = thread; k < p.n_group; k += SIZE) {
        var xs: array<vec4<f32>, 8>;
        for (var j = 0u; j < 8u; j++) {
            if k * 8u + j < p.n_vec {
                xs[j] = x[x_first + k * 8u + j];
            }
        }
        sums += vec4<f32>(of_row(row, k, xs), of_row(row + 1u, k, xs), of_row(row + 2u, k, xs), of_row(row + 3u, k, xs));
    }
    parts[thread] = sums;
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            parts[thread] += parts[thread + half];
        }
    }
    workgroupBarrier();
    if thread < 4u && column + thread < p.width && row + thread < p.n_row {
        y[assignment * p.width + column + thread] = parts[0][thread];
    }
}
