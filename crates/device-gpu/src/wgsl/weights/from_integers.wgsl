fn scaled(integers: u32, factor: f32, added: f32) -> vec4<f32> {
    return fma(vec4<f32>(unpack4xI8(integers)), vec4<f32>(factor), vec4<f32>(added));
}

fn weights(group: u32) -> array<vec4<f32>, 8> {
    let q = integers(group);
    let s = scale(group);
    return array<vec4<f32>, 8>(
        scaled(q[0], s.x, s.z), scaled(q[1], s.x, s.z), scaled(q[2], s.x, s.z), scaled(q[3], s.x, s.z),
        scaled(q[4], s.y, s.z), scaled(q[5], s.y, s.z), scaled(q[6], s.y, s.z), scaled(q[7], s.y, s.z),
    );
}
