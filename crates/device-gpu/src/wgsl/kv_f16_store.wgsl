// Writes a cache in f16, laid out as kv_f16.wgsl reads it.
const BLOCK: u32 = 8u;
@group(0) @binding(0) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<u32>>;

fn put(place: Place) {
    let d = place.block * BLOCK;
    let eight = vec4(pair(place, d), pair(place, d + 2u), pair(place, d + 4u), pair(place, d + 6u));
    if place.part == 0u {
        keys[(place.cell * UNITS + place.block) * PAGE + place.index] = eight;
    } else {
        values[(place.cell * PAGE + place.index) * UNITS + place.block] = eight;
    }
}
