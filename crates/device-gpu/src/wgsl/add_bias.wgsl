fn f(i: u32, value: vec4<f32>) -> vec4<f32> {
    return value + y[i % p.width];
}
