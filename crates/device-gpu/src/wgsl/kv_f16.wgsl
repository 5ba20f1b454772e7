// Reads a cache in f16. A unit is eight values, one load.
//
// Keys: [cell][unit][token of the page]: neighbouring threads take neighbouring tokens, and none needs another's sum.
// Values: [cell][token of the page][unit]: neighbouring threads take neighbouring units. A cell is a head of a page.
@group(0) @binding(0) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> values: array<vec4<u32>>;

struct Eight { low: vec4<f32>, high: vec4<f32> }

fn unpacked(x: vec4<u32>) -> Eight {
    return Eight(
        vec4(unpack2x16float(x.x), unpack2x16float(x.y)),
        vec4(unpack2x16float(x.z), unpack2x16float(x.w)),
    );
}

fn key_words(cell: u32, index: u32, unit: u32) -> vec4<u32> {
    return keys[(cell * UNITS + unit) * PAGE + index];
}

fn value_words(cell: u32, index: u32, unit: u32) -> vec4<u32> {
    return values[(cell * PAGE + index) * UNITS + unit];
}

fn key_at(cell: u32, index: u32, unit: u32) -> Eight {
    return unpacked(key_words(cell, index, unit));
}

fn value_at(cell: u32, index: u32, unit: u32) -> Eight {
    return unpacked(value_words(cell, index, unit));
}
