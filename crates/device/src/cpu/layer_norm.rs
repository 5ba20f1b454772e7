//! Layer norm of a row. A thousandth of an encoder's work, so it is written for no instruction set.

/// Sums that run side by side: addition of floats is not reordered by the compiler, which could not use vectors otherwise.
const LANES: usize = 16;

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, in place. All three are of one length.
///
/// Ba et al. 2016, arXiv:1607.06450.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * scale * weight + bias;
    }
}

fn sum(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        sums.iter_mut()
            .zip(chunk)
            .for_each(|(sum, &x)| *sum += of(x));
    }
    let rest: f32 = rest.iter().map(|&x| of(x)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_mean_0_and_deviation_1_before_the_weights() {
        // An odd length, and values far from 0: a variance by squares alone would be lost in rounding.
        let mut row: Vec<f32> = (0..37).map(|i| 1000.0 + (i % 5) as f32).collect();
        let exact: Vec<f64> = row.iter().copied().map(f64::from).collect();
        let mean = exact.iter().sum::<f64>() / 37.0;
        let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 37.0;
        let (weight, bias) = (vec![2.0; 37], vec![0.5; 37]);
        layer_norm(&mut row, &weight, &bias, 1e-5);
        for (have, x) in row.iter().zip(exact) {
            let want = (x - mean) / (variance + 1e-5).sqrt() * 2.0 + 0.5;
            assert!((f64::from(*have) - want).abs() < 1e-4, "{have} {want}");
        }
    }
}
