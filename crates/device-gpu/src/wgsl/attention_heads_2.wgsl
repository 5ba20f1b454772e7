// A number for each of WIDTH query heads.
const WIDTH: u32 = 2u;
alias Heads = vec2<f32>;

fn heads(x: array<f32, WIDTH>) -> Heads {
    return vec2(x[0], x[1]);
}

fn of_head(x: Heads, i: u32) -> f32 {
    return x[i];
}
