//! Products with a few rows of activations, against the same in Rust.

mod common;

use common::blocks::{Random, Scales};
use common::{error, gpu, noise};
use troika_base::{Bytes, DType};
use troika_device_gpu::matmul::{Formats, Tuning, multiply, multiply_all};
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Gpu, Matrix, Recorder, Scratch, Tensor};

/// A GPU with a recorder, and tensors that come and go.
struct Bench {
    gpu: std::sync::Arc<Gpu>,
    recorder: Recorder,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = gpu()?;
        Some(Self {
            recorder: Recorder::new(gpu.clone()),
            scratch: Scratch::new(gpu.clone()),
            gpu,
        })
    }

    fn tensor(&mut self, values: &[f32], width: usize) -> Tensor {
        let tensor = Tensor::new(&self.scratch, values.len() / width, width).expect("room");
        self.recorder
            .write(tensor.buffer(), 0, bytemuck::cast_slice(values));
        tensor
    }

    fn read(&mut self, tensor: &Tensor) -> Vec<f32> {
        let bytes = self.recorder.read(tensor.buffer(), 0..tensor.bytes());
        bytemuck::pod_collect_to_vec(&bytes.expect("no failure"))
    }

    fn load(&self, random: &Random) -> Matrix {
        Matrix::load(&self.gpu, &random.file, random.tensor()).expect("a format with kernels")
    }

    fn multiply(
        &mut self,
        tuning: &Tuning,
        x: &[f32],
        w: &Matrix,
        before: Option<&[f32]>,
    ) -> Vec<f32> {
        let x = self.tensor(x, w.n_in());
        let nothing = vec![f32::NAN; x.n_tok() * w.n_out()];
        let y = self.tensor(before.unwrap_or(&nothing), w.n_out());
        let add = before.is_some();
        multiply(&mut self.recorder, &self.scratch, tuning, &x, w, &y, add).expect("compiles");
        self.read(&y)
    }
}

/// `before + x · Wᵀ` in double precision.
fn reference(x: &[f32], w: &[f32], n_in: usize, before: Option<&[f32]>) -> Vec<f32> {
    let mut y = Vec::new();
    for x in x.chunks_exact(n_in) {
        for w in w.chunks_exact(n_in) {
            let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let start = before.map_or(0.0, |before| before[y.len()]);
            y.push((f64::from(start) + products.sum::<f64>()) as f32);
        }
    }
    y
}

/// Activations as the bytes and factors that they are multiplied as.
fn as_bytes(x: &[f32]) -> Vec<f32> {
    let mut x = x.to_vec();
    for group in x.chunks_mut(32) {
        let largest = group.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
        for x in group {
            *x = (*x * inverse).round_ties_even() * (largest / 127.0);
        }
    }
    x
}

/// Multiplying with floats, whatever the format; products of few tokens in any number.
fn floats(gpu: &Gpu) -> Tuning {
    Tuning {
        packed: Formats::NONE,
        tiles_from: usize::MAX,
        ..Tuning::of(gpu)
    }
}

fn packed(gpu: &Gpu) -> Tuning {
    Tuning {
        packed: Formats::with_integers(),
        ..floats(gpu)
    }
}

#[test]
fn every_format_multiplies_as_floats_and_as_bytes() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (seed, format) in (1..).zip(Format::ALL) {
        // Rows of more groups than a workgroup has threads; a number of rows that no workgroup divides.
        for (n_out, n_in, n_tok) in [(13, 256, 1), (37, 2304, 2), (5, 768, 3), (14, 512, 21)] {
            let case = format!("{format:?}, {n_out} x {n_in}, {n_tok}");
            let random = Random::new(format.dtype(), n_out, n_in, Scales::Usual, seed);
            let w = bench.load(&random);
            let x = noise(n_tok * n_in, seed + 7);
            let want = reference(&x, &random.values, n_in, None);
            let tuning = floats(&bench.gpu);
            let apart = error(&want, &bench.multiply(&tuning, &x, &w, None));
            assert!(apart < 1e-5, "{case}: {apart}");
            if format.has_integers() {
                let want = reference(&as_bytes(&x), &random.values, n_in, None);
                let tuning = packed(&bench.gpu);
                let apart = error(&want, &bench.multiply(&tuning, &x, &w, None));
                // A GPU's division may round a value in a thousand to the next byte.
                assert!(apart < 2e-3, "{case}, as bytes: {apart}");
            }
        }
    }
}

/// Activations that are exactly bytes and a factor: then the packed product has no error of its own.
#[test]
fn bytes_multiply_without_error_of_their_own() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (seed, format) in (1..)
        .zip(Format::ALL)
        .filter(|(_, format)| format.has_integers())
    {
        let n_in = 512;
        let random = Random::new(format.dtype(), 16, n_in, Scales::Usual, seed);
        let w = bench.load(&random);
        // Each 32 hold a 127, so that the factor is the power of two.
        let x: Vec<f32> = (0..2 * n_in)
            .map(|i| match i % 32 {
                5 => 127.0,
                _ => (i * 37 % 255) as f32 - 127.0,
            } * [1.0, 0.25, 8.0][i / 32 % 3])
            .collect();
        let want = reference(&x, &random.values, n_in, None);
        let tuning = packed(&bench.gpu);
        let have = bench.multiply(&tuning, &x, &w, None);
        let apart = error(&want, &have);
        assert!(apart < 1e-5, "{format:?}: {apart}");
    }
}

#[test]
fn products_are_added_where_that_is_asked() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for dtype in [DType::Q4_0, DType::Q6_K, DType::F16] {
        let random = Random::new(dtype, 21, 512, Scales::Usual, 3);
        let w = bench.load(&random);
        let (x, before) = (noise(3 * 512, 1), noise(3 * 21, 2));
        let want = reference(&x, &random.values, 512, Some(&before));
        for tuning in [floats(&bench.gpu), packed(&bench.gpu)] {
            let have = bench.multiply(&tuning, &x, &w, Some(&before));
            assert!(error(&want, &have) < 1e-2, "{dtype}");
        }
    }
}

/// The speed of a token must not decide what is said: alone, with others, in any place among them.
#[test]
fn a_column_is_the_same_to_the_bit_whatever_stands_beside_it() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (seed, format) in (1..).zip(Format::ALL) {
        let (n_out, n_in) = (19, 1536);
        let random = Random::new(format.dtype(), n_out, n_in, Scales::Usual, seed);
        let w = bench.load(&random);
        let x = noise(13 * n_in, seed);
        for tuning in [floats(&bench.gpu), packed(&bench.gpu)] {
            let all = bench.multiply(&tuning, &x, &w, None);
            for (first, n_tok) in [(0, 1), (12, 1), (3, 2), (4, 3), (2, 5), (5, 8), (1, 9)] {
                let some = &x[first * n_in..(first + n_tok) * n_in];
                let have = bench.multiply(&tuning, some, &w, None);
                let want = &all[first * n_out..(first + n_tok) * n_out];
                assert_eq!(bits(want), bits(&have), "{format:?}, {n_tok} from {first}");
            }
        }
    }
}

#[test]
fn neither_rows_nor_subgroups_change_a_bit() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let random = Random::new(DType::Q5_K, 45, 768, Scales::Usual, 9);
    let w = bench.load(&random);
    let x = noise(4 * 768, 4);
    for of in [floats, packed] {
        let tuning = of(&bench.gpu);
        let want = bench.multiply(&tuning, &x, &w, None);
        for (rows, subgroups) in [(1, true), (2, false), (4, true), (8, true), (8, false)] {
            let tuning = Tuning {
                rows: [rows; 4],
                workgroups: 0,
                subgroups,
                ..tuning
            };
            assert_eq!(
                bits(&want),
                bits(&bench.multiply(&tuning, &x, &w, None)),
                "{rows}"
            );
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn workgroups_may_have_any_size() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let random = Random::new(DType::Q4_K, 30, 2048, Scales::Usual, 9);
    let w = bench.load(&random);
    let x = noise(8 * 2048, 4);
    let want = reference(&x, &random.values, 2048, None);
    for size in [32, 64, 128, 256] {
        for of in [floats, packed] {
            let tuning = Tuning {
                size,
                rows: [8; 4],
                workgroups: 0,
                ..of(&bench.gpu)
            };
            let have = bench.multiply(&tuning, &x, &w, None);
            let apart = error(&want, &have);
            assert!(apart < 1e-2, "{size}: {apart}");
        }
    }
}

#[test]
fn a_matrix_in_windows_multiplies_as_one() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for dtype in [DType::Q4_1, DType::Q6_K, DType::BF16] {
        let (n_out, n_in) = (67, 256);
        let random = Random::new(dtype, n_out, n_in, Scales::Usual, 5);
        let most = Bytes(16 * dtype.row_bytes(n_in).expect("whole") as u64 + 700);
        let parts = Matrix::load_in_windows(&bench.gpu, &random.file, random.tensor(), most);
        let (whole, parts) = (bench.load(&random), parts.expect("a format with kernels"));
        assert!(whole.windows().len() == 1 && parts.windows().len() > 2);
        let x = noise(3 * n_in, 6);
        for tuning in [floats(&bench.gpu), packed(&bench.gpu)] {
            let want = bench.multiply(&tuning, &x, &whole, None);
            let have = bench.multiply(&tuning, &x, &parts, None);
            assert_eq!(bits(&want), bits(&have), "{dtype}");
        }
    }
}

#[test]
fn rows_may_end_within_a_group_or_an_eight() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let shapes = [(DType::F32, 36), (DType::F16, 300), (DType::BF16, 4)];
    for (dtype, n_in) in shapes
        .into_iter()
        .chain([(DType::Q8_0, 96), (DType::Q5_0, 160)])
    {
        let random = Random::new(dtype, 11, n_in, Scales::Usual, 8);
        let w = bench.load(&random);
        let x = noise(3 * n_in, 2);
        let want = reference(&x, &random.values, n_in, None);
        for (tuning, most) in [(floats(&bench.gpu), 1e-5), (packed(&bench.gpu), 1e-2)] {
            let apart = error(&want, &bench.multiply(&tuning, &x, &w, None));
            assert!(apart < most, "{dtype}, {n_in}: {apart}");
        }
    }
}

#[test]
fn zeros_stay_zeros_and_damage_shows() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let random = Random::new(DType::Q4_0, 8, 128, Scales::Usual, 8);
    let w = bench.load(&random);
    let mut x = vec![0.0; 3 * 128];
    x[128 + 40] = f32::NAN;
    x[256 + 100] = f32::INFINITY;
    for tuning in [floats(&bench.gpu), packed(&bench.gpu)] {
        let have = bench.multiply(&tuning, &x, &w, None);
        assert!(have[..8].iter().all(|y| *y == 0.0), "{have:?}");
        // A code of zero times infinity is not a number, any other is infinite.
        assert!(have[8..].iter().all(|y| !y.is_finite()), "{have:?}");
    }
}

#[test]
fn several_matrices_share_what_is_done_to_activations() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let dtypes = [DType::Q4_0, DType::F16, DType::Q6_K];
    let random = dtypes.map(|dtype| Random::new(dtype, 24, 256, Scales::Usual, 4));
    let w = [0, 1, 2].map(|i| bench.load(&random[i]));
    let (x, tuning) = (noise(2 * 256, 3), packed(&bench.gpu));
    let want: Vec<_> = w
        .iter()
        .map(|w| bench.multiply(&tuning, &x, w, None))
        .collect();
    let x = bench.tensor(&x, 256);
    let y = [0; 3].map(|_| bench.tensor(&[f32::NAN; 48], 24));
    let products = [(&w[0], &y[0]), (&w[1], &y[1]), (&w[2], &y[2])];
    let before = bench.recorder.dispatches();
    let Bench {
        recorder, scratch, ..
    } = &mut bench;
    multiply_all(recorder, scratch, &tuning, &x, &products, false).expect("compiles");
    assert_eq!(
        bench.recorder.dispatches() - before,
        5,
        "two layouts, three products"
    );
    for (want, y) in want.iter().zip(&y) {
        assert_eq!(bits(want), bits(&bench.read(y)));
    }
}

#[test]
fn what_kernels_cannot_be_made_by_does_not_fit() {
    let Some(gpu) = gpu() else { return };
    let (sound, caps) = (Tuning::of(&gpu), gpu.caps());
    assert!(sound.fits(caps));
    let text = serde_json::to_string(&sound).expect("plain numbers");
    let read: Tuning = serde_json::from_str(&text).expect("as written");
    assert_eq!(read, sound);
    assert!(!Tuning { size: 48, ..sound }.fits(caps));
    let rows = [4, 4, 0, 4];
    assert!(!Tuning { rows, ..sound }.fits(caps));
    let rows = [4, 4, 4, 16];
    assert!(!Tuning { rows, ..sound }.fits(caps));
}
