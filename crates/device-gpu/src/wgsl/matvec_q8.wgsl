// Weights as integers with activations as bytes, four products at a time.
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
// Of each group: the factor of its bytes, and the sum of what they stand for.
@group(0) @binding(4) var<storage, read> x_scales: array<vec2<f32>>;

fn dot16(w: vec4<u32>, x: vec4<u32>) -> i32 {
    return dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y) + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w);
}

fn products(first_row: u32, thread: u32) -> array<f32, VALUES> {
    var sums: array<f32, VALUES>;
    for (var k = thread; k < p.n_group; k += SIZE) {
        var first: array<vec4<u32>, ROWS>;
        var last: array<vec4<u32>, ROWS>;
        var s: array<vec3<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let group = group_of(first_row, r, k);
            let q = integers(group);
            first[r] = vec4<u32>(q[0], q[1], q[2], q[3]);
            last[r] = vec4<u32>(q[4], q[5], q[6], q[7]);
            s[r] = scale(group);
        }
        for (var c = 0u; c < COLUMNS; c++) {
            let eight = eight_of(c, k);
            let a = x[eight * 16u + k % 8u];
            let b = x[eight * 16u + 8u + k % 8u];
            let d = x_scales[eight * 8u + k % 8u];
            for (var r = 0u; r < ROWS; r++) {
                let i = r * COLUMNS + c;
                let one = dot16(first[r], a);
                let other = dot16(last[r], b);
                if HALVES {
                    sums[i] = fma(d.x, fma(s[r].x, f32(one), s[r].y * f32(other)), sums[i]);
                } else {
                    sums[i] = fma(d.x * s[r].x, f32(one + other), sums[i]);
                }
                if ADDS {
                    sums[i] = fma(s[r].z, d.y, sums[i]);
                }
            }
        }
    }
    return sums;
}
