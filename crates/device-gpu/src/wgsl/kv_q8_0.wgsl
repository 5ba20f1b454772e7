// Reads a cache in q8_0: 8-bit integers, a scale for each 32. A unit is eight values, one load.
//
// A cell, which is a head of a page, has CELL words: units as in kv_f16.wgsl, then the scales, [two blocks][token of
// the page], each word two halves.
@group(0) @binding(0) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> values: array<vec2<u32>>;

struct Eight { low: vec4<f32>, high: vec4<f32> }

fn unpacked(x: vec2<u32>, scale: f32) -> Eight {
    return Eight(vec4<f32>(unpack4xI8(x.x)) * scale, vec4<f32>(unpack4xI8(x.y)) * scale);
}

// Where among the scales, in vectors of two words, the one of a unit is.
fn scale_at(cell: u32, index: u32, unit: u32) -> u32 {
    return (cell * CELL + UNITS * PAGE * 2u + unit / 8u * PAGE + index) / 2u;
}

fn scale_in(both: vec2<u32>, index: u32, unit: u32) -> f32 {
    let halves = unpack2x16float(select(both.x, both.y, index % 2u == 1u));
    return select(halves.x, halves.y, unit / 4u % 2u == 1u);
}

fn key_at(cell: u32, index: u32, unit: u32) -> Eight {
    let scale = scale_in(keys[scale_at(cell, index, unit)], index, unit);
    return unpacked(keys[cell * CELL / 2u + unit * PAGE + index], scale);
}

fn value_at(cell: u32, index: u32, unit: u32) -> Eight {
    let scale = scale_in(values[scale_at(cell, index, unit)], index, unit);
    return unpacked(values[cell * CELL / 2u + index * UNITS + unit], scale);
}

fn packed(x: Eight) -> vec4<u32> {
    return vec4(
        pack2x16float(x.low.xy),
        pack2x16float(x.low.zw),
        pack2x16float(x.high.xy),
        pack2x16float(x.high.zw),
    );
}

fn key_words(cell: u32, index: u32, unit: u32) -> vec4<u32> {
    return packed(key_at(cell, index, unit));
}

fn value_words(cell: u32, index: u32, unit: u32) -> vec4<u32> {
    return packed(value_at(cell, index, unit));
}
