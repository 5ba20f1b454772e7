// Products by cooperative matrices: each subgroup has four of them down and two across, of T rows and columns, which are
// variables and not arrays, so that they stay in registers. What the next round needs is on its way from memory while
// this one is computed.

// Values from a row to the next in shared memory: five times 16 bytes, so that eight rows lie in different banks.
const LINE: u32 = 40u;
const PARTS: u32 = TOKENS / (4u * T) * (ROWS / (2u * T));
const DOWN: u32 = TOKENS / (4u * T);
// Vectors of x, and rows of W, that a thread brings.
const X_EACH: u32 = TOKENS * 8u / SIZE;
const W_EACH: u32 = (ROWS + SIZE - 1u) / SIZE;

var<workgroup> xs: array<cell, TOKENS * LINE / CELL>;
var<workgroup> ws: array<cell, ROWS * LINE / CELL>;
// A matrix of each subgroup, on its way to y: where y ends, no whole matrix can be stored.
var<workgroup> staged: array<f32, PARTS * T * T>;
var<workgroup> n_tok: u32;

struct Held {
    x: array<vec4<f32>, X_EACH>,
    w: array<array<vec4<f32>, 8>, W_EACH>,
}

fn fetch(place: Place, thread: u32, group: u32) -> Held {
    var held: Held;
    for (var i = 0u; i < W_EACH; i++) {
        if thread + i * SIZE < ROWS {
            held.w[i] = w_at(place, thread + i * SIZE, group);
        }
    }
    // Eight threads read a row's 128 bytes.
    for (var i = 0u; i < X_EACH; i++) {
        let at = thread + i * SIZE;
        held.x[i] = x_at(place, at / 8u, group * 8u + at % 8u);
    }
    return held;
}

fn narrow(values: vec4<f32>) -> vec4<f16> {
    // Activations beyond what f16 can hold are rare, and infinite ones would spoil their row.
    return vec4<f16>(clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

fn keep(thread: u32, held: Held) {
    var values = held;
    for (var i = 0u; i < W_EACH; i++) {
        if thread + i * SIZE < ROWS {
            for (var k = 0u; k < 8u; k++) {
                keep_w((thread + i * SIZE) * LINE + 4u * k, narrow(values.w[i][k]));
            }
        }
    }
    for (var i = 0u; i < X_EACH; i++) {
        let at = thread + i * SIZE;
        keep_x(at / 8u * LINE + 4u * (at % 8u), narrow(values.x[i]));
    }
}

// Brings the staged matrices of all subgroups to y: the one `i` down and `j` across of each.
fn put_staged(place: Place, thread: u32, i: u32, j: u32) {
    workgroupBarrier();
    for (var at = thread; at < PARTS * T * T; at += SIZE) {
        let part = at / (T * T);
        let token = (part % DOWN * 4u + i) * T + at / T % T;
        let row = (part / DOWN * 2u + j) * T + at % T;
        put(place, token, row, staged[at]);
    }
    workgroupBarrier();
}

@compute @workgroup_size(SIZE)
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let place = place_of(tile);
    // All threads have the same, which the compiler wants to be sure of where subgroups work together.
    if thread == 0u {
        n_tok = place.n_tok;
    }
    if workgroupUniformLoad(&n_tok) == 0u {
        return;
    }
    prepare(place, thread);
    // Were subgroups smaller than this kernel is made for, there would be too many of them; the self-test tells.
    let part = min(subgroup, PARTS - 1u);
    let x_first = part % DOWN * 4u * T * LINE;
    let w_first = part / DOWN * 2u * T * LINE;
    let line = LINE / CELL;
    var c00 = sums();
    var c01 = sums();
    var c10 = sums();
    var c11 = sums();
    var c20 = sums();
    var c21 = sums();
    var c30 = sums();
    var c31 = sums();
    var held = fetch(place, thread, 0u);
    for (var group = 0u; group < p.n_group; group++) {
        keep(thread, held);
        workgroupBarrier();
        if group + 1u < p.n_group {
            held = fetch(place, thread, group + 1u);
        }
        for (var k = 0u; k < 32u; k += T) {
            let xk = x_first + k;
            let wk = w_first + k;
            let b0 = coopLoad<right>(&ws[wk / CELL], line);
            let b1 = coopLoad<right>(&ws[(wk + T * LINE) / CELL], line);
            let a0 = coopLoadT<left>(&xs[xk / CELL], line);
            let a1 = coopLoadT<left>(&xs[(xk + T * LINE) / CELL], line);
            let a2 = coopLoadT<left>(&xs[(xk + 2u * T * LINE) / CELL], line);
            let a3 = coopLoadT<left>(&xs[(xk + 3u * T * LINE) / CELL], line);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c21 = coopMultiplyAdd(a2, b1, c21);
            c30 = coopMultiplyAdd(a3, b0, c30);
            c31 = coopMultiplyAdd(a3, b1, c31);
        }
        workgroupBarrier();
    }
    // The compiler wants index and stride in names of their own.
    let own = part * T * T;
    let step = T;
    coopStoreT(c00, &staged[own], step);
    put_staged(place, thread, 0u, 0u);
    coopStoreT(c01, &staged[own], step);
    put_staged(place, thread, 0u, 1u);
    coopStoreT(c10, &staged[own], step);
    put_staged(place, thread, 1u, 0u);
    coopStoreT(c11, &staged[own], step);
    put_staged(place, thread, 1u, 1u);
    coopStoreT(c20, &staged[own], step);
    put_staged(place, thread, 2u, 0u);
    coopStoreT(c21, &staged[own], step);
    put_staged(place, thread, 2u, 1u);
    coopStoreT(c30, &staged[own], step);
    put_staged(place, thread, 3u, 0u);
    coopStoreT(c31, &staged[own], step);
    put_staged(place, thread, 3u, 1u);
}
