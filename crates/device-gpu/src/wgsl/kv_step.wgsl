// Keys and values of a step's tokens, [n_tok, n_head_kv, HEAD] each. Keys turn on their way, if they have not yet, and
// queries [n_tok, n_head, HEAD] where they are.
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> q: array<f32>;

fn number(place: Place, d: u32) -> f32 {
    if d >= HEAD {
        return 0.0;
    }
    let at = (place.token * p.n_head_kv + place.head) * HEAD;
    if place.part == 1u {
        return v[at + d];
    }
    let turned = turn(select(0u, p.pairs, p.turn_keys == 1u), place.token, d, p.half, p.rotations);
    return k[at + d] * turned.own + k[at + turned.partner] * turned.other;
}

fn pair(place: Place, d: u32) -> u32 {
    return pack2x16float(vec2(number(place, d), number(place, d + 1u)));
}

fn beyond(i: u32) {
    if p.n_query == 0u || i >= p.n_query * p.half {
        return;
    }
    let head = i / p.half;
    let first = first_of(p.pairs, i % p.half);
    let turned = turn(p.pairs, head / (p.n_query / p.n_tok), first, p.half, p.rotations);
    let at = head * HEAD + vec2(first, turned.partner);
    let pair = turn_pair(turned, q[at.x], q[at.y]);
    q[at.x] = pair.x;
    q[at.y] = pair.y;
}
