//! Cooperative kernels are not trusted: before its first use, each is compared with products in registers on this GPU.
//! Those of a model are when it is [loaded](try_all), so that nobody waits for it later.
//!
//! Drivers were seen that compute something else, and a driver's choice of subgroups can make a right kernel wrong. A
//! kernel that differs, or that the driver's compiler refuses, is struck from use for the life of the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use half::f16;
use troika_device::Error;
use troika_gguf::ModelFile;

use super::Tuning;
use super::coop::Coop;
use super::tiles::{Columns, Cut, Kept, Listed, Product, Registers, Shape};
use crate::weights::{Format, GROUP, Window};
use crate::{Buffer, Gpu, Recorder};

/// What is known about cooperative kernels on a GPU.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<HashMap<Coop, bool, foldhash::fast::RandomState>>);

/// Root of the mean square of the differences, as a share of that of the product. Factors are rounded to f16, which
/// makes 3e-4 of it; one factor that is at a wrong place makes a hundred times more.
const MOST: f64 = 2e-3;

/// Whether a kernel passes its test, which runs the first time only.
pub(super) fn passes(gpu: &Arc<Gpu>, coop: Coop) -> bool {
    let lock = || {
        let verdicts = &gpu.verdicts.0;
        verdicts.lock().unwrap_or_else(|poison| poison.into_inner())
    };
    if let Some(&passed) = lock().get(&coop) {
        return passed;
    }
    // Not under the lock: another thread may use other kernels meanwhile, or make the same test.
    let verdict = try_out(gpu, coop);
    let passed = verdict.passed();
    if !passed {
        tracing::warn!(
            device = gpu.name(),
            gpu = gpu.found().name,
            driver = gpu.found().driver,
            ?coop,
            ?verdict,
            "a cooperative kernel failed its test and is not used; plain ones are"
        );
    }
    lock().insert(coop, passed);
    passed
}

/// Tests all kernels that a model's products may be computed by, but for those that were tested before: so many are known
/// then. A kernel takes a few milliseconds, most of them its compiler's.
pub fn try_all(gpu: &Arc<Gpu>, tuning: &Tuning, file: &ModelFile) -> usize {
    for tensor in file.tensors() {
        // Vectors are not multiplied by, and of three dimensions are matrices of experts.
        let experts = match tensor.shape.len() {
            2 => false,
            3 => true,
            _ => continue,
        };
        if let (Some(tile), Some(format)) = (tuning.coop, Format::of(tensor.dtype)) {
            for coop in Coop::offered(gpu, tile, format, experts) {
                passes(gpu, coop);
            }
        }
    }
    let verdicts = &gpu.verdicts.0;
    let known = verdicts.lock().unwrap_or_else(|poison| poison.into_inner());
    known.len()
}

/// What became of a kernel's test.
#[derive(Debug)]
pub enum Verdict {
    /// It differs so much in the worst case, relative to the whole: not finite if it wrote no number.
    Differs(f64),
    /// It does not compile, or does not run.
    Fails(Error),
}

impl Verdict {
    /// Whether the kernel may be used.
    pub fn passed(&self) -> bool {
        matches!(self, Self::Differs(error) if *error <= MOST)
    }
}

/// Tests one cooperative kernel on a few small products, with edges that cut through tiles.
pub fn try_out(gpu: &Arc<Gpu>, coop: Coop) -> Verdict {
    let cut = coop.cut();
    let (tokens, rows) = (cut.tokens as usize, cut.rows as usize);
    // Whole tiles; ragged ones, several of them; and one with hardly anything in it, added to what is there.
    let cases = [
        Case::new(tokens, rows, 4 * GROUP, false),
        Case::new(tokens + 3, rows + 5, 3 * GROUP - 12, false),
        Case::new(2, 9, GROUP, true),
    ];
    let mut worst = 0.0_f64;
    for case in &cases {
        match case.difference(gpu, coop) {
            Ok(difference) if difference.is_finite() => worst = worst.max(difference),
            Ok(_) => return Verdict::Differs(f64::INFINITY),
            Err(error) => return Verdict::Fails(error),
        }
    }
    Verdict::Differs(worst)
}

/// A product.
struct Case {
    n_tok: usize,
    n_out: usize,
    n_in: usize,
    add: bool,
}

/// Experts of the products that have any: one that gets nothing, and two that share the rows.
const N_EXPERT: usize = 3;

impl Case {
    const fn new(n_tok: usize, n_out: usize, n_in: usize, add: bool) -> Self {
        Self {
            n_tok,
            n_out,
            n_in,
            add,
        }
    }

    /// How far the kernel is from products in registers.
    fn difference(&self, gpu: &Arc<Gpu>, coop: Coop) -> Result<f64, Error> {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let x: Vec<f32> = noise.values(self.n_tok * self.n_in);
        let y: Vec<f32> = noise.values(self.n_tok * self.n_out);
        let put = |values: &[f32]| gpu.buffer_with(bytemuck::cast_slice(values), "self-test");
        let x = put(&x)?;
        let window = self.window(gpu, coop, &mut noise)?;
        let plain = Cut::from(Registers {
            format: coop.format,
            shape: Shape::Small,
            kept: Kept::F32,
            experts: coop.experts,
        });
        let mut recorder = Recorder::new(Arc::clone(gpu));
        let mut run = |cut: Cut| -> Result<Vec<f32>, Error> {
            let y = put(&y)?;
            let lists = self.lists(gpu, cut)?;
            let product = Product {
                x: Columns::Rows(&x),
                x_rows: 0..self.n_tok,
                n_in: self.n_in,
                window: &window,
                y: &y,
                y_rows: 0..self.n_tok,
                width: self.n_out,
                add: self.add,
                listed: coop.experts.then_some(Listed {
                    tiles: &lists.0,
                    n_tile: lists.1,
                    lists: &lists.2,
                    n_expert: N_EXPERT,
                    n_used: 1,
                }),
            };
            product.record(&mut recorder, &cut)?;
            let bytes = recorder.read(&y, 0..self.n_tok * self.n_out * size_of::<f32>())?;
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        };
        let (want, have) = (run(plain)?, run(coop.cut())?);
        Ok(difference(&want, &have))
    }

    /// Weights: any bits that stand for numbers of about one.
    fn window(&self, gpu: &Gpu, coop: Coop, noise: &mut Noise) -> Result<Window, Error> {
        let n_row = self.n_out * if coop.experts { N_EXPERT } else { 1 };
        let n_eight = (n_row * self.n_in.div_ceil(GROUP)).div_ceil(8);
        // The most that any format takes: f32, and four halves for each group.
        let (quants, scales) = (n_eight * 8 * GROUP, n_eight * 8 * 2);
        let mut words = |n: usize, kind: fn(&mut Noise) -> u32| -> Result<Buffer, Error> {
            let words: Vec<u32> = std::iter::repeat_with(|| kind(noise)).take(n).collect();
            gpu.buffer_with(bytemuck::cast_slice(&words), "self-test")
        };
        let quant: fn(&mut Noise) -> u32 = match coop.format {
            Format::F32 => |noise| noise.value().to_bits(),
            Format::F16 => |noise| pair(noise, |value| f16::from_f32(value).to_bits()),
            Format::BF16 => |noise| pair(noise, |value| half::bf16::from_f32(value).to_bits()),
            _ => Noise::bits,
        };
        let scale: fn(&mut Noise) -> u32 = match coop.format {
            // Powers of two between a sixteenth and eight.
            Format::MXFP4 => |noise| noise.bits() & 0x0707_0707 | 0x7878_7878,
            // Halves of either sign and between 2^-7 and 1; single bytes may be anything.
            _ => |noise| noise.bits() & 0x9bff_9bff | 0x2000_2000,
        };
        Ok(Window {
            rows: 0..n_row,
            quants: words(quants, quant)?,
            scales: words(scales, scale)?,
        })
    }

    /// Tiles, their number, and lists, as `moe` makes them: every third row is the first expert's, the rest the last's.
    fn lists(&self, gpu: &Gpu, cut: Cut) -> Result<(Buffer, usize, Buffer), Error> {
        let of_first = |first: bool| (0..self.n_tok as u32).filter(move |i| (i % 3 == 0) == first);
        let n_first = of_first(true).count() as u32;
        let ends = [0, n_first, n_first, self.n_tok as u32];
        let lists: Vec<u32> = ends
            .into_iter()
            .chain(of_first(true))
            .chain(of_first(false))
            .collect();
        let mut tiles: Vec<[u32; 4]> = Vec::new();
        for (expert, ends) in (0..).zip(ends.windows(2)) {
            for begin in (ends[0]..ends[1]).step_by(cut.tokens as usize) {
                tiles.push([expert, begin, cut.tokens.min(ends[1] - begin), 0]);
            }
        }
        tiles.push([0; 4]);
        let n_tile = tiles.len();
        let tiles = gpu.buffer_with(bytemuck::cast_slice(&tiles), "self-test")?;
        let lists = gpu.buffer_with(bytemuck::cast_slice(&lists), "self-test")?;
        Ok((tiles, n_tile, lists))
    }
}

fn difference(want: &[f32], have: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let apart: f64 = want.iter().zip(have).map(|(w, h)| square(w - h)).sum();
    let whole: f64 = want.iter().map(|&w| square(w)).sum();
    (apart / whole.max(f64::MIN_POSITIVE)).sqrt()
}

fn pair(noise: &mut Noise, bits: fn(f32) -> u16) -> u32 {
    u32::from(bits(noise.value())) | u32::from(bits(noise.value())) << 16
}

/// The same on every machine.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Between -1 and 1.
    fn value(&mut self) -> f32 {
        self.bits() as i32 as f32 / (1u32 << 31) as f32
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        std::iter::repeat_with(|| self.value()).take(n).collect()
    }
}
