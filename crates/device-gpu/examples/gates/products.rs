//! Products against the roofline: a token by matrices of 16384 by 16384, and a prompt of 512.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use troika_device::Error;
use troika_device_gpu::matmul::coop::{Coop, Kind};
use troika_device_gpu::matmul::selftest::try_out;
use troika_device_gpu::roofline::{Arithmetic, Roofline};
use troika_device_gpu::tune::{Products, Shape, Stopwatch as _, search};
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Gpu, Tile, Tuning};

/// Formats that the gates are about.
const FORMATS: [Format; 3] = [Format::Q4_0, Format::Q8_0, Format::Q4_K];

/// All gates of products.
pub(super) fn gates(gpu: &Arc<Gpu>, roofline: &Roofline, small: bool) -> Result<Value, Error> {
    let (side, n_tok, seconds) = if small {
        (512, 64, 3)
    } else {
        (16384, 512, 60)
    };
    let shapes = FORMATS.map(|format| Shape {
        format,
        n_out: side,
        n_in: side,
        count: 1,
    });
    let start = Tuning::of(gpu);
    let mut products = Products::new(gpu, &shapes, Duration::from_secs(seconds))?;
    let tuned = search(&mut products, gpu.caps(), &shapes, start, &mut |_| ())?;
    let gates = Gates {
        products: &mut products,
        roofline,
    };
    Ok(json!({
        "side": side,
        "tuning": {
            "seconds": gates.products.spent().as_secs_f64(),
            "tried": tuned.tried,
            "complete": tuned.complete,
            "start": start,
            "found": tuned.tuning,
        },
        "token": gates.token(&shapes, &tuned.tuning)?,
        "prompt": Gates { products: &mut products, roofline }.prompt(gpu, &shapes[0], n_tok, &tuned.tuning)?,
    }))
}

struct Gates<'a> {
    products: &'a mut Products,
    roofline: &'a Roofline,
}

impl Gates<'_> {
    /// One token: bytes of weights per second, as a share of what was read at best from the largest working set.
    fn token(self, shapes: &[Shape], tuning: &Tuning) -> Result<Vec<Value>, Error> {
        let read = self.roofline.read_gbs.last();
        let read = read.map(|(_, series)| series.median());
        let mut all = Vec::new();
        for shape in shapes {
            for packed in [false, true] {
                let how = Tuning {
                    packed: match packed {
                        true => tuning.packed.with(shape.format),
                        false => tuning.packed.without(shape.format),
                    },
                    ..*tuning
                };
                let time = self.products.time(&how, shape, 1)?;
                let bytes = self.products.bytes(shape).0 as f64;
                let gbs = time.map(|time| bytes / time.as_secs_f64() / 1e9);
                all.push(json!({
                    "format": format!("{:?}", shape.format),
                    "activations": if packed { "bytes" } else { "f32" },
                    "us": time.map(|time| time.as_secs_f64() * 1e6),
                    "gbs": gbs,
                    "share_of_read": gbs.zip(read).map(|(gbs, read)| gbs / read),
                }));
            }
        }
        Ok(all)
    }

    /// A prompt: operations per second, as a share of what was computed at best in the same way.
    fn prompt(
        self,
        gpu: &Arc<Gpu>,
        shape: &Shape,
        n_tok: usize,
        tuning: &Tuning,
    ) -> Result<Vec<Value>, Error> {
        let peak = |kind: Arithmetic| {
            let tops = self.roofline.tops.iter();
            let mut found = tops.filter(|(known, _)| *known == kind);
            found.next().map(|(_, series)| series.median())
        };
        let in_registers = Tuning {
            tiles_from: 1,
            coop: None,
            ..*tuning
        };
        let mut ways = vec![("registers".to_owned(), in_registers, peak(Arithmetic::F32))];
        for &tile in gpu.caps().tiles.iter().filter(|tile| tile.wide) {
            let cooperative = Tuning {
                coop: Some(tile),
                ..in_registers
            };
            let kind = Arithmetic::Tile(tile);
            ways.push((super::name(kind), cooperative, peak(kind)));
        }
        let mut all = Vec::new();
        for (how, tuning, peak) in ways {
            let tested = tuning.coop.map(|tile| self_tests(gpu, shape.format, tile));
            let time = self.products.time(&tuning, shape, n_tok)?;
            let ops = 2.0 * (n_tok * shape.n_out * shape.n_in) as f64;
            let tops = time.map(|time| ops / time.as_secs_f64() / 1e12);
            all.push(json!({
                "how": how,
                // If these failed, registers were timed instead.
                "self_tests": tested,
                "format": format!("{:?}", shape.format),
                "tokens": n_tok,
                "us": time.map(|time| time.as_secs_f64() * 1e6),
                "tops": tops,
                "share_of_peak": tops.zip(peak).map(|(tops, peak)| tops / peak),
            }));
        }
        Ok(all)
    }
}

/// What became of the tests of cooperative kernels on this GPU.
fn self_tests(gpu: &Arc<Gpu>, format: Format, tile: Tile) -> Vec<Value> {
    let of_this_gpu = |kind: &&Kind| {
        let subgroup = (kind.subgroup, kind.subgroup);
        let vulkan = gpu.found().interface == "vulkan";
        kind.size == tile.size && kind.vectors == vulkan && gpu.caps().subgroup == Some(subgroup)
    };
    let mut all = Vec::new();
    for &kind in Kind::ALL.iter().filter(of_this_gpu) {
        for large in [false, true] {
            let coop = Coop {
                format,
                kind,
                large,
                experts: false,
            };
            let verdict = try_out(gpu, coop);
            all.push(json!({
                "large": large,
                "passed": verdict.passed(),
                "said": format!("{verdict:?}"),
            }));
        }
    }
    all
}
