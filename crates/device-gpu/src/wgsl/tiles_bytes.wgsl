// Products of bytes in registers: x as `quantize` lays it out, W as the integers that it is made of. Four products are one
// instruction. Each thread has 4 or 8 rows of x by as many of W.
@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;
// Of each group of x, a factor and the sum of what its bytes stand for.
@group(0) @binding(X_SCALES) var<storage, read> x_scales: array<vec2<f32>>;

// Vectors from a row to the next: a group of 32 bytes, and one that is not used, so that eight rows lie in different
// banks.
const LINE: u32 = 3u;

var<workgroup> xs: array<vec4<u32>, TOKENS * LINE>;
var<workgroup> ws: array<vec4<u32>, ROWS * LINE>;
var<workgroup> x_factors: array<vec2<f32>, TOKENS>;
var<workgroup> w_factors: array<vec3<f32>, ROWS>;

struct X { low: vec4<u32>, high: vec4<u32>, scale: vec2<f32> }
struct W { low: vec4<u32>, high: vec4<u32>, scale: vec3<f32> }

fn keep_w(place: Place, i: u32, group: u32) {
    let at = min(place.row + i, p.n_row - 1u) * p.n_group + group;
    let words = integers(at);
    ws[i * LINE] = vec4<u32>(words[0], words[1], words[2], words[3]);
    ws[i * LINE + 1u] = vec4<u32>(words[4], words[5], words[6], words[7]);
    w_factors[i] = scale(at);
}

// Rows that are not there are zeros: a factor of a byte that is anything may not be a number.
fn keep_x(place: Place, i: u32, group: u32) {
    var low = vec4<u32>();
    var high = vec4<u32>();
    var factors = vec2<f32>();
    if i < place.n_tok {
        let eight = x_row(place, i) * ((p.n_group + 7u) / 8u) + group / 8u;
        low = x[eight * 16u + group % 8u];
        high = x[eight * 16u + group % 8u + 8u];
        factors = x_scales[eight * 8u + group % 8u];
    }
    xs[i * LINE] = low;
    xs[i * LINE + 1u] = high;
    x_factors[i] = factors;
}

fn x_line(i: u32) -> X {
    return X(xs[i * LINE], xs[i * LINE + 1u], x_factors[i]);
}

fn w_line(i: u32) -> W {
    return W(ws[i * LINE], ws[i * LINE + 1u], w_factors[i]);
}

fn sixteen(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

fn product(x: X, w: W) -> f32 {
    let low = sixteen(x.low, w.low);
    let high = sixteen(x.high, w.high);
    var sum = 0.0;
    if HALVES {
        sum = x.scale.x * (w.scale.x * f32(low) + w.scale.y * f32(high));
    } else {
        sum = x.scale.x * w.scale.x * f32(low + high);
    }
    if ADDS {
        sum += w.scale.z * x.scale.y;
    }
    return sum;
}

// Products of four rows of x and four of W, a column for each row of x.
fn four_by_four(i: u32, j: u32) -> mat4x4<f32> {
    let w0 = w_line(j);
    let w1 = w_line(j + ACROSS);
    let w2 = w_line(j + 2u * ACROSS);
    let w3 = w_line(j + 3u * ACROSS);
    let x0 = x_line(i);
    let x1 = x_line(i + DOWN);
    let x2 = x_line(i + 2u * DOWN);
    let x3 = x_line(i + 3u * DOWN);
    return mat4x4<f32>(
        vec4<f32>(product(x0, w0), product(x0, w1), product(x0, w2), product(x0, w3)),
        vec4<f32>(product(x1, w0), product(x1, w1), product(x1, w2), product(x1, w3)),
        vec4<f32>(product(x2, w0), product(x2, w1), product(x2, w2), product(x2, w3)),
        vec4<f32>(product(x3, w0), product(x3, w1), product(x3, w2), product(x3, w3)),
    );
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = place_of(tile);
    if place.n_tok == 0u {
        return;
    }
    prepare(place, thread);
    let i = thread / ACROSS;
    let j = thread % ACROSS;
    var near = mat4x4<f32>();
    var right = mat4x4<f32>();
    var below = mat4x4<f32>();
    var far = mat4x4<f32>();
    for (var group = 0u; group < p.n_group; group++) {
        for (var row = thread; row < ROWS; row += SIZE) {
            keep_w(place, row, group);
        }
        for (var row = thread; row < TOKENS; row += SIZE) {
            keep_x(place, row, group);
        }
        workgroupBarrier();
        near += four_by_four(i, j);
        if EACH == 8u {
            right += four_by_four(i, j + 4u * ACROSS);
            below += four_by_four(i + 4u * DOWN, j);
            far += four_by_four(i + 4u * DOWN, j + 4u * ACROSS);
        }
        workgroupBarrier();
    }
    put_four(place, i, j, near);
    if EACH == 8u {
        put_four(place, i, j + 4u * ACROSS, right);
        put_four(place, i + 4u * DOWN, j, below);
        put_four(place, i + 4u * DOWN, j + 4u * ACROSS, far);
    }
}
