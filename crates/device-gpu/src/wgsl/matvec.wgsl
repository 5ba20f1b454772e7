// A few columns of y (+)= x · Wᵀ: a workgroup computes ROWS rows of W with COLUMNS rows of x, each thread every SIZE-th
// group of 32. A fragment each says how groups are multiplied (matvec_f32, matvec_q8) and how threads add up
// (matvec_subgroups, matvec_alone).
//
// The sum of a row and a column is made in one order, whatever ROWS and COLUMNS are and however large subgroups are: a
// thread adds its groups in turn, and threads are added in pairs, neighbours first. Products that are added are `fma`,
// or drivers would fuse them here and not there.
struct Params {
    // Rows of x, groups of 32 in a row, and the first row of x to take.
    n_tok: u32, n_group: u32, first_token: u32,
    // The window: its first row in W, and its rows.
    first_row: u32, n_row: u32,
    // Values in a row of y, and whether to add to them.
    width: u32, add: u32,
}
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const VALUES: u32 = ROWS * COLUMNS;
// One more than there are, so that values side by side are in different banks.
const PITCH: u32 = PARTS + 1u;
var<workgroup> parts: array<f32, VALUES * PITCH>;

// A thread's place: its number, counted through subgroups; in its subgroup; and which of how many that is.
struct Place { thread: u32, lane: u32, subgroup: u32, subgroups: u32, size: u32 }

// Group `k` of the i-th of the workgroup's rows. Of rows that are not there, anything.
fn group_of(first_row: u32, i: u32, k: u32) -> u32 {
    return min(first_row + i, p.n_row - 1u) * p.n_group + k;
}

// The eight groups among which group `k` of the i-th of the columns is, and of columns that are not there, anything.
fn eight_of(i: u32, k: u32) -> u32 {
    return min(p.first_token + i, p.n_tok - 1u) * ((p.n_group + 7u) / 8u) + k / 8u;
}

fn multiply(workgroup: vec3<u32>, place: Place) {
    let first_row = (workgroup.y * 65535u + workgroup.x) * ROWS;
    var sums = products(first_row, place.thread);
    for (var i = 0u; i < VALUES; i++) {
        let sum = over_subgroup(sums[i], place);
        if place.lane == 0u {
            parts[i * PITCH + place.subgroup] = sum;
        }
    }
    workgroupBarrier();
    for (var i = place.thread; i < VALUES; i += SIZE) {
        for (var step = 1u; step < place.subgroups; step *= 2u) {
            for (var j = i * PITCH; j + step < i * PITCH + place.subgroups; j += 2u * step) {
                parts[j] += parts[j + step];
            }
        }
        put(first_row + i / COLUMNS, p.first_token + i % COLUMNS, parts[i * PITCH]);
    }
}

fn put(row: u32, token: u32, value: f32) {
    if row < p.n_row && token < p.n_tok {
        let at = token * p.width + p.first_row + row;
        if p.add != 0u {
            y[at] += value;
        } else {
            y[at] = value;
        }
    }
}
