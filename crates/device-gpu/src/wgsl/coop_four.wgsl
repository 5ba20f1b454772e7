// Cells of four values, so that they are written at once.
alias cell = vec4<f16>;
const CELL: u32 = 4u;

fn keep_x(at: u32, v: vec4<f16>) {
    xs[at / 4u] = v;
}

fn keep_w(at: u32, v: vec4<f16>) {
    ws[at / 4u] = v;
}
