//! Products for prefill against plain sums: every format, every tile, edges in all three dimensions.

mod common;

use std::sync::Arc;

use common::blocks::{Random, Scales};
use common::{error, gpu, noise};
use troika_base::{Bytes, DType};
use troika_device_gpu::matmul::tiles::{Cut, Kept, Registers, Shape, multiply_cut};
use troika_device_gpu::matmul::{Tuning, multiply};
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Gpu, Matrix, Recorder, Scratch, Tensor};

/// A product with its operands.
struct Product {
    random: Random,
    x: Vec<f32>,
    y: Vec<f32>,
    n_tok: usize,
    n_out: usize,
    n_in: usize,
}

impl Product {
    fn new(dtype: DType, n_tok: usize, n_out: usize, n_in: usize) -> Self {
        Self {
            random: Random::new(dtype, n_out, n_in, Scales::Usual, 7),
            x: noise(n_tok * n_in, 1),
            y: noise(n_tok * n_out, 2),
            n_tok,
            n_out,
            n_in,
        }
    }

    /// What `y` is afterwards, and how large its sums' parts are.
    fn want(&self, add: bool) -> Vec<f32> {
        let dot = |(token, row): (usize, usize)| {
            let x = &self.x[token * self.n_in..][..self.n_in];
            let w = &self.random.values[row * self.n_in..][..self.n_in];
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(x * w)).sum();
            let before = if add {
                self.y[token * self.n_out + row]
            } else {
                0.0
            };
            (sum + f64::from(before)) as f32
        };
        let tokens = 0..self.n_tok;
        let places = tokens.flat_map(|token| (0..self.n_out).map(move |row| (token, row)));
        places.map(dot).collect()
    }

    /// What it is after a kernel ran.
    fn have(
        &self,
        gpu: &Arc<Gpu>,
        most: Option<Bytes>,
        run: impl FnOnce(&mut Recorder, &Scratch, &Tensor, &Matrix, &Tensor),
    ) -> Vec<f32> {
        let matrix = match most {
            None => Matrix::load(gpu, &self.random.file, self.random.tensor()),
            Some(most) => {
                Matrix::load_in_windows(gpu, &self.random.file, self.random.tensor(), most)
            }
        };
        let matrix = matrix.expect("a format with kernels");
        assert_eq!(most.is_some(), matrix.windows().len() > 1);
        let scratch = Scratch::new(gpu.clone());
        let put = |values: &[f32], width| {
            let tensor = Tensor::new(&scratch, self.n_tok, width).expect("room");
            gpu.write(tensor.buffer(), 0, bytemuck::cast_slice(values));
            tensor
        };
        let (x, y) = (put(&self.x, self.n_in), put(&self.y, self.n_out));
        let mut recorder = Recorder::new(gpu.clone());
        run(&mut recorder, &scratch, &x, &matrix, &y);
        let bytes = recorder.read(y.buffer(), 0..y.bytes()).expect("runs");
        bytemuck::pod_collect_to_vec(&bytes)
    }

    fn check(&self, registers: Registers, add: bool) {
        let Some(gpu) = gpu() else { return };
        if registers.kept == Kept::F16 && !gpu.caps().f16 {
            return;
        }
        let have = self.have(&gpu, None, |recorder, scratch, x, w, y| {
            let cut = Cut::from(registers);
            multiply_cut(recorder, scratch, &cut, x, w, y, add).expect("compiles");
        });
        let error = error(&self.want(add), &have);
        let most = match registers.kept {
            Kept::F32 => 1e-5,
            Kept::F16 => 1e-3,
            Kept::Bytes => 1e-2,
        };
        let size = (self.n_tok, self.n_out, self.n_in);
        assert!(error < most, "{registers:?}, {size:?}: {error}");
    }
}

fn registers(format: Format, shape: Shape, kept: Kept) -> Registers {
    Registers {
        format,
        shape,
        kept,
        experts: false,
    }
}

#[test]
fn every_format_is_multiplied() {
    for &format in Format::ALL {
        let product = Product::new(format.dtype(), 37, 44, 256);
        for kept in Kept::ALL {
            if kept != Kept::Bytes || format.has_integers() {
                product.check(registers(format, Shape::Small, kept), false);
            }
        }
    }
}

#[test]
fn every_tile_has_edges_in_all_dimensions() {
    for shape in Shape::ALL {
        for (n_tok, n_out, n_in) in [(1, 4, 4), (150, 132, 100), (64, 128, 32)] {
            let product = Product::new(DType::F32, n_tok, n_out, n_in);
            product.check(registers(Format::F32, shape, Kept::F32), false);
            let product = Product::new(DType::F16, n_tok, n_out, n_in);
            product.check(registers(Format::F16, shape, Kept::F16), true);
            let product = Product::new(DType::Q4_1, n_tok, n_out, n_in.next_multiple_of(32));
            product.check(registers(Format::Q4_1, shape, Kept::Bytes), true);
        }
    }
}

#[test]
fn windows_of_weights_fill_columns_side_by_side() {
    let Some(gpu) = gpu() else { return };
    let product = Product::new(DType::Q8_0, 35, 100, 64);
    for add in [false, true] {
        let have = product.have(&gpu, Some(Bytes(3000)), |recorder, scratch, x, w, y| {
            let cut = Cut::from(registers(Format::Q8_0, Shape::Medium, Kept::F32));
            multiply_cut(recorder, scratch, &cut, x, w, y, add).expect("compiles");
        });
        assert!(error(&product.want(add), &have) < 1e-5);
    }
}

#[test]
fn a_row_is_the_same_among_any_others() {
    let Some(gpu) = gpu() else { return };
    let all = Product::new(DType::Q4_K, 70, 68, 512);
    let mut some = Product::new(DType::Q4_K, 3, 68, 512);
    some.x.copy_from_slice(&all.x[41 * 512..44 * 512]);
    let mut seen: Option<Vec<f32>> = None;
    for shape in Shape::ALL {
        let run = |product: &Product| {
            product.have(&gpu, None, |recorder, scratch, x, w, y| {
                let cut = Cut::from(registers(Format::Q4_K, shape, Kept::F32));
                multiply_cut(recorder, scratch, &cut, x, w, y, false).expect("compiles");
            })
        };
        let (all, some) = (run(&all), run(&some));
        assert_eq!(&all[41 * 68..44 * 68], &some[..], "{shape:?}");
        let before = seen.get_or_insert_with(|| some.clone());
        assert_eq!(before, &some, "{shape:?}");
    }
}

#[test]
fn activations_beyond_f16_stay_finite() {
    let Some(gpu) = gpu() else { return };
    if !gpu.caps().f16 {
        return;
    }
    let mut product = Product::new(DType::F32, 2, 4, 32);
    product.x[5] = 1e6;
    let have = product.have(&gpu, None, |recorder, scratch, x, w, y| {
        let cut = Cut::from(registers(Format::F32, Shape::Small, Kept::F16));
        multiply_cut(recorder, scratch, &cut, x, w, y, false).expect("compiles");
    });
    product.x[5] = 65504.0;
    assert!(error(&product.want(false), &have) < 1e-3);
}

#[test]
fn what_is_chosen_for_a_size_computes_it() {
    let Some(gpu) = gpu() else { return };
    let tuning = Tuning::default_for(gpu.caps());
    for (n_tok, n_out) in [(tuning.tiles_from, 64), (300, 1100)] {
        let product = Product::new(DType::Q6_K, n_tok, n_out, 256);
        let have = product.have(&gpu, None, |recorder, scratch, x, w, y| {
            multiply(recorder, scratch, &tuning, x, w, y, true).expect("compiles");
        });
        assert!(error(&product.want(true), &have) < 1e-2);
    }
}
