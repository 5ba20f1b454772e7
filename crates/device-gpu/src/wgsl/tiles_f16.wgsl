// Shared memory holds half precision: half the room, half the reads. Sums stay single.
alias cell = vec4<f16>;

// Activations beyond what f16 can hold are rare, and infinite ones would spoil their row.
fn narrow(values: vec4<f32>) -> cell {
    return cell(clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
