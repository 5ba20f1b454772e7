//! Operations on rows, against the same in Rust.

mod common;

use common::{error, gpu, noise};
use troika_device_gpu::kernels::Rows;
use troika_device_gpu::{Bind, Buffer, Gpu, Key, Recorder, Scratch, Tensor, rows};

/// Widths of one and of several vectors, below, at and above every size of workgroup.
const WIDTHS: [usize; 8] = [4, 36, 64, 516, 2048, 2560, 4096, 8196];

struct Bench {
    recorder: Recorder,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = gpu()?;
        Some(Self {
            recorder: Recorder::new(gpu.clone()),
            scratch: Scratch::new(gpu),
        })
    }

    fn gpu(&self) -> &Gpu {
        self.recorder.gpu()
    }

    fn tensor(&mut self, values: &[f32], width: usize) -> Tensor {
        let tensor = Tensor::new(&self.scratch, values.len() / width, width).expect("room");
        let bytes = bytemuck::cast_slice(values);
        self.recorder.write(tensor.buffer(), 0, bytes);
        tensor
    }

    fn row(&self, values: &[f32]) -> Buffer {
        let bytes = bytemuck::cast_slice(values);
        self.gpu().buffer_with(bytes, "weights").expect("room")
    }

    fn read(&mut self, tensor: &Tensor) -> Vec<f32> {
        let bytes = 0..tensor.n_tok() * tensor.width() * 4;
        let read = self.recorder.read(tensor.buffer(), bytes);
        bytemuck::pod_collect_to_vec(&read.expect("no failure"))
    }
}

fn normed(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let norm = |row: &[f32]| {
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
        let scaled = row
            .iter()
            .zip(weight)
            .map(move |(&x, &w)| (f64::from(x) * scale) as f32 * w);
        scaled.collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(norm).collect()
}

#[test]
fn rows_are_normed() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for width in WIDTHS {
        let (x, weight) = (noise(5 * width, 1), noise(width, 2));
        let (tensor, row) = (bench.tensor(&x, width), bench.row(&weight));
        let out = Tensor::new(&bench.scratch, 5, width).expect("room");
        rows::rms_norm(&mut bench.recorder, &tensor, &row, 1e-5, &out).expect("compiles");
        let have = bench.read(&out);
        assert!(
            error(&normed(&x, &weight, 1e-5), &have) < 1e-6,
            "width {width}"
        );
    }
}

#[test]
fn every_team_comes_to_the_same() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let width = 2564;
    let (x, weight) = (noise(2 * width, 1), noise(width, 2));
    let want = normed(&x, &weight, 1e-5);
    let (tensor, row) = (bench.tensor(&x, width), bench.row(&weight));
    let caps = bench.gpu().caps().clone();
    for key in Rows::all() {
        let Rows::Norm { add: false, team } = key else {
            continue;
        };
        if team.size > caps.workgroup_size || (team.subgroups && caps.subgroup.is_none()) {
            continue;
        }
        let out = Tensor::new(&bench.scratch, 2, width).expect("room");
        let binds = [out.bind(), Bind::whole(&row), tensor.bind()];
        let params = [2, width as u32 / 4, 1e-5f32.to_bits()];
        let grid = key.grid(2, width / 4);
        let dispatched = bench
            .recorder
            .dispatch(Key::Rows(key), &binds, &params, grid);
        dispatched.expect("compiles");
        assert!(error(&want, &bench.read(&out)) < 1e-6, "{team:?}");
    }
}

#[test]
fn a_row_of_zeros_stays_one() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let (tensor, row) = (bench.tensor(&[0.0; 64], 64), bench.row(&[1.0; 64]));
    let out = Tensor::new(&bench.scratch, 1, 64).expect("room");
    rows::rms_norm(&mut bench.recorder, &tensor, &row, 1e-6, &out).expect("compiles");
    assert_eq!(bench.read(&out), [0.0; 64]);
}

#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let width = 2560;
    let (x, weight) = (noise(7 * width, 3), noise(width, 4));
    let row = bench.row(&weight);
    let mut norm = |x: &[f32]| {
        let tensor = bench.tensor(x, width);
        let out = Tensor::new(&bench.scratch, x.len() / width, width).expect("room");
        rows::rms_norm(&mut bench.recorder, &tensor, &row, 1e-5, &out).expect("compiles");
        bench.read(&out)
    };
    let together = norm(&x);
    for (i, alone) in x.chunks(width).enumerate() {
        assert_eq!(norm(alone), together[i * width..][..width], "row {i}");
    }
}

#[test]
fn a_sum_is_kept_and_normed() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for width in WIDTHS {
        let (x, y, weight) = (noise(3 * width, 1), noise(3 * width, 2), noise(width, 3));
        let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        let (residual, added) = (bench.tensor(&x, width), bench.tensor(&y, width));
        let row = bench.row(&weight);
        let out = Tensor::new(&bench.scratch, 3, width).expect("room");
        rows::add_rms_norm(&mut bench.recorder, &residual, &added, &row, 1e-5, &out)
            .expect("compiles");
        assert_eq!(bench.read(&residual), sum, "width {width}");
        let have = bench.read(&out);
        assert!(
            error(&normed(&sum, &weight, 1e-5), &have) < 1e-6,
            "width {width}"
        );
    }
}

#[test]
fn heads_are_normed_each_on_its_own() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (head_dim, n_head, n_tok) in [(4, 1, 1), (64, 3, 5), (80, 7, 2), (128, 8, 3), (256, 2, 1)] {
        let width = head_dim * n_head;
        let (x, weight) = (noise(n_tok * width, 1), noise(head_dim, 2));
        let (tensor, row) = (bench.tensor(&x, width), bench.row(&weight));
        rows::head_norm(&mut bench.recorder, &tensor, &row, 1e-6).expect("compiles");
        let have = bench.read(&tensor);
        assert!(
            error(&normed(&x, &weight, 1e-6), &have) < 1e-6,
            "{n_head} of {head_dim}"
        );
    }
}

#[test]
fn rows_are_picked_in_any_order_and_number() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let width = 1028;
    let x = noise(40 * width, 1);
    let tensor = bench.tensor(&x, width);
    let picks: [Vec<usize>; 4] = [
        vec![39],
        vec![3, 0, 3, 17],
        (0..40).rev().collect(),
        (0..70).map(|i| i * 7 % 40).collect(),
    ];
    for pick in picks {
        let Bench { recorder, scratch } = &mut bench;
        let out = rows::gather_rows(recorder, &tensor, &pick, scratch).expect("compiles");
        let want: Vec<f32> = pick
            .iter()
            .flat_map(|&row| x[row * width..][..width].to_vec())
            .collect();
        assert_eq!(bench.read(&out), want, "{pick:?}");
    }
}

type Pairwise = fn(&mut Recorder, &Tensor, &Tensor) -> Result<(), troika_device::Error>;

fn check_pairwise(op: Pairwise, of: impl Fn(f64, f64) -> f64) {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (n_tok, width) in [(1, 4), (3, 260), (5, 4096)] {
        let mut x = noise(n_tok * width, 1);
        x.iter_mut().for_each(|x| *x *= 6.0);
        x[..4].copy_from_slice(&[0.0, -200.0, 200.0, -20.0]);
        let y = noise(n_tok * width, 2);
        let want: Vec<f32> = x
            .iter()
            .zip(&y)
            .map(|(&x, &y)| of(x.into(), y.into()) as f32)
            .collect();
        let (left, right) = (bench.tensor(&x, width), bench.tensor(&y, width));
        op(&mut bench.recorder, &left, &right).expect("compiles");
        assert!(
            error(&want, &bench.read(&left)) < 1e-6,
            "[{n_tok}, {width}]"
        );
    }
}

#[test]
fn swiglu_is_silu_times_up() {
    check_pairwise(rows::swiglu, |gate, up| gate / (1.0 + (-gate).exp()) * up);
}

#[test]
fn geglu_is_gelu_times_up() {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    check_pairwise(rows::geglu, |gate, up| {
        0.5 * gate * (1.0 + (root * (gate + 0.044715 * gate.powi(3))).tanh()) * up
    });
}

#[test]
fn tensors_are_added() {
    check_pairwise(rows::add, |x, y| x + y);
}

#[test]
fn a_bias_is_added_to_every_row() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let (x, bias) = (noise(7 * 36, 1), noise(36, 2));
    let want: Vec<f32> = (0..x.len()).map(|i| x[i] + bias[i % 36]).collect();
    let (tensor, row) = (bench.tensor(&x, 36), bench.row(&bias));
    rows::add_bias(&mut bench.recorder, &tensor, &row).expect("compiles");
    assert_eq!(bench.read(&tensor), want);
}
