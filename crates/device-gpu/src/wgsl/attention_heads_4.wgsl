// A number for each of WIDTH query heads.
const WIDTH: u32 = 4u;
alias Heads = vec4<f32>;

fn heads(x: array<f32, WIDTH>) -> Heads {
    return vec4(x[0], x[1], x[2], x[3]);
}

fn of_head(x: Heads, i: u32) -> f32 {
    return x[i];
}
