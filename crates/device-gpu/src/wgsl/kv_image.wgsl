// Keys and values as they travel: [token][layer][key, value][kv head][HEAD], f16, see docs/formats/kv.md.
@group(0) @binding(3) var<storage, read> image: array<u32>;

// The bits as they are: HEAD is even.
fn pair(place: Place, d: u32) -> u32 {
    if d >= HEAD {
        return 0u;
    }
    let row = (place.token * p.n_layer + p.layer) * 2u + place.part;
    return image[((row * p.n_head_kv + place.head) * HEAD + d) / 2u];
}

fn number(place: Place, d: u32) -> f32 {
    let both = unpack2x16float(pair(place, d & ~1u));
    return select(both.x, both.y, d % 2u == 1u);
}

fn beyond(i: u32) {}
