// A number for each of WIDTH query heads.
const WIDTH: u32 = 1u;
alias Heads = f32;

fn heads(x: array<f32, WIDTH>) -> Heads {
    return x[0];
}

fn of_head(x: Heads, i: u32) -> f32 {
    return x;
}
