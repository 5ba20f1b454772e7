// How the products of a tile are shared among threads that keep them in registers.

// Threads side by side; they take every ACROSS-th row of W, and every DOWN-th of x.
const ACROSS: u32 = ROWS / EACH;
const DOWN: u32 = TOKENS / EACH;

// Column i has the products of the i-th row of x.
fn put_four(place: Place, i: u32, j: u32, products: mat4x4<f32>) {
    for (var column = 0u; column < 4u; column++) {
        for (var row = 0u; row < 4u; row++) {
            put(place, i + column * DOWN, j + row * ACROSS, products[column][row]);
        }
    }
}
