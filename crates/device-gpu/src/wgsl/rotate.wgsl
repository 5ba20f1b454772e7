// How a value of a head turns with its position: `x[d] * own + x[partner] * other`.
//
// The plan holds a cosine and a sine for each of the `half` pairs of every token, from `rotations` on.
const ADJACENT: u32 = 1u;
const HALVES: u32 = 2u;

struct Turn { partner: u32, own: f32, other: f32 }

fn turn(pairs: u32, token: u32, d: u32, half: u32, rotations: u32) -> Turn {
    // Values behind the pairs stay.
    if pairs == 0u || d >= 2u * half {
        return Turn(d, 1.0, 0.0);
    }
    var pair = d / 2u;
    var second = d % 2u == 1u;
    var partner = d ^ 1u;
    if pairs == HALVES {
        second = d >= half;
        pair = select(d, d - half, second);
        partner = select(d + half, d - half, second);
    }
    let at = rotations + 2u * (token * half + pair);
    let sine = bitcast<f32>(plan[at + 1u]);
    return Turn(partner, bitcast<f32>(plan[at]), select(-sine, sine, second));
}

// A pair, turned as its first number is.
fn turn_pair(turned: Turn, a: f32, b: f32) -> vec2<f32> {
    return vec2(a * turned.own + b * turned.other, b * turned.own - a * turned.other);
}

// The first dimension of a pair.
fn first_of(pairs: u32, pair: u32) -> u32 {
    return select(2u * pair, pair, pairs == HALVES);
}
