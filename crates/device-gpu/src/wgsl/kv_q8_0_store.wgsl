// Writes a cache in q8_0, laid out as kv_q8_0.wgsl reads it: two blocks of 32 at a time, whose scales share a word.
const BLOCK: u32 = 64u;
@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;

fn write(part: u32, at: u32, word: u32) {
    if part == 0u {
        keys[at] = word;
    } else {
        values[at] = word;
    }
}

// Quantizes 32 values from `first` on, and returns their scale.
fn quantize(place: Place, first: u32) -> f32 {
    var largest = 0.0;
    for (var i = 0u; i < 32u; i++) {
        largest = max(largest, abs(number(place, first + i)));
    }
    // What is divided by is what is read back.
    let scale = unpack2x16float(pack2x16float(vec2(largest / 127.0, 0.0))).x;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    for (var unit = first / 8u; unit < min(first / 8u + 4u, UNITS); unit++) {
        var at = place.cell * CELL + (unit * PAGE + place.index) * 2u;
        if place.part == 1u {
            at = place.cell * CELL + (place.index * UNITS + unit) * 2u;
        }
        for (var half = 0u; half < 2u; half++) {
            let d = unit * 8u + half * 4u;
            let x = vec4(number(place, d), number(place, d + 1u), number(place, d + 2u), number(place, d + 3u));
            let q = clamp(round(x * inverse), vec4(-127.0), vec4(127.0));
            write(place.part, at + half, pack4xI8(vec4<i32>(q)));
        }
    }
    return scale;
}

fn put(place: Place) {
    let first = place.block * BLOCK;
    let scales = vec2(quantize(place, first), quantize(place, first + 32u));
    let at = place.cell * CELL + UNITS * PAGE * 2u + place.block * PAGE + place.index;
    write(place.part, at, pack2x16float(scales));
}
