// Weights as floats with activations as floats.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;

fn products(first_row: u32, thread: u32) -> array<f32, VALUES> {
    var sums: array<f32, VALUES>;
    for (var k = thread; k < p.n_group; k += SIZE) {
        if COLUMNS == 1u {
            let at = eight_of(0u, k) * 64u + k % 8u;
            var xs: array<vec4<f32>, 8>;
            for (var j = 0u; j < 8u; j++) {
                xs[j] = x[at + 8u * j];
            }
            for (var r = 0u; r < ROWS; r++) {
                var w = weights(group_of(first_row, r, k));
                var sum = vec4<f32>();
                for (var j = 0u; j < 8u; j++) {
                    sum = fma(w[j], xs[j], sum);
                }
                sums[r] += (sum.x + sum.y) + (sum.z + sum.w);
            }
        } else {
            // The weights of all rows stay in registers, and a column is read once.
            var w: array<array<vec4<f32>, 8>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                w[r] = weights(group_of(first_row, r, k));
            }
            for (var c = 0u; c < COLUMNS; c++) {
                let at = eight_of(c, k) * 64u + k % 8u;
                var sum: array<vec4<f32>, ROWS>;
                for (var j = 0u; j < 8u; j++) {
                    let value = x[at + 8u * j];
                    for (var r = 0u; r < ROWS; r++) {
                        sum[r] = fma(w[r][j], value, sum[r]);
                    }
                }
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * COLUMNS + c] += (sum[r].x + sum[r].y) + (sum[r].z + sum[r].w);
                }
            }
        }
    }
    return sums;
}
