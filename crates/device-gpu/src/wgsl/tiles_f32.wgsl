// Shared memory holds single precision.
alias cell = vec4<f32>;

fn narrow(values: vec4<f32>) -> cell {
    return values;
}
