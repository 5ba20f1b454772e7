// Cells of one value: Metal knows no others.
alias cell = f16;
const CELL: u32 = 1u;

fn keep_x(at: u32, v: vec4<f16>) {
    xs[at] = v.x;
    xs[at + 1u] = v.y;
    xs[at + 2u] = v.z;
    xs[at + 3u] = v.w;
}

fn keep_w(at: u32, v: vec4<f16>) {
    ws[at] = v.x;
    ws[at + 1u] = v.y;
    ws[at + 2u] = v.z;
    ws[at + 3u] = v.w;
}
