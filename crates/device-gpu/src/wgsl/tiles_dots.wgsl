// Products in registers: each thread has 4 or 8 rows of x by as many of W, and sees each value that it reads from
// shared memory so many times.

// Cells from a row to the next. An odd number, so that eight rows' cells lie in different banks.
const LINE: u32 = 9u;

var<workgroup> xs: array<cell, TOKENS * LINE>;
var<workgroup> ws: array<cell, ROWS * LINE>;

// Cell `k` of four rows of x.
fn x_four(first: u32, k: u32) -> mat4x4<f32> {
    let at = first * LINE + k;
    return mat4x4<f32>(
        vec4<f32>(xs[at]),
        vec4<f32>(xs[at + DOWN * LINE]),
        vec4<f32>(xs[at + 2u * DOWN * LINE]),
        vec4<f32>(xs[at + 3u * DOWN * LINE]),
    );
}

// Cell `k` of four rows of W.
fn w_four(first: u32, k: u32) -> mat4x4<f32> {
    let at = first * LINE + k;
    return transpose(mat4x4<f32>(
        vec4<f32>(ws[at]),
        vec4<f32>(ws[at + ACROSS * LINE]),
        vec4<f32>(ws[at + 2u * ACROSS * LINE]),
        vec4<f32>(ws[at + 3u * ACROSS * LINE]),
    ));
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
            var w = w_at(place, row, group);
            for (var k = 0u; k < 8u; k++) {
                ws[row * LINE + k] = narrow(w[k]);
            }
        }
        // Eight threads read a row's 128 bytes.
        for (var at = thread; at < TOKENS * 8u; at += SIZE) {
            xs[at / 8u * LINE + at % 8u] = narrow(x_at(place, at / 8u, group * 8u + at % 8u));
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let x0 = x_four(i, k);
            let w0 = w_four(j, k);
            near += w0 * x0;
            if EACH == 8u {
                let w1 = w_four(j + 4u * ACROSS, k);
                right += w1 * x0;
                let x1 = x_four(i + 4u * DOWN, k);
                below += w0 * x1;
                far += w1 * x1;
            }
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
