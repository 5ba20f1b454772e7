//! Keys and values travel, pages are copied, and steps store where the plan says.

mod common;

use common::{error, gpu, noise};
use half::f16;
use troika_device::{KvShape, PAGE_TOKENS};
use troika_device_gpu::Recorder;
use troika_device_gpu::attention::{Cache, KvFormat};

const N_PAGE: usize = 6;
const PAGES: [usize; 4] = [4, 0, 5, 2];
const N_TOK: usize = 3 * PAGE_TOKENS + 5;

fn shapes() -> impl Iterator<Item = KvShape> {
    [(3, 2, 64), (2, 1, 48), (1, 3, 12), (2, 2, 128), (1, 2, 100)]
        .into_iter()
        .map(|(n_layer, n_head_kv, head_dim)| KvShape {
            n_layer,
            n_head_kv,
            head_dim,
            kv_type: troika_base::KvType::F16,
        })
}

/// Halves of many magnitudes, subnormal ones and zeros among them.
fn halves(n: usize) -> Vec<f16> {
    let scales = [1.0, 1e-6, 300.0, 0.0, 0.01];
    let numbers = noise(n, 7);
    let number = |(i, x): (usize, &f32)| f16::from_f32(x * scales[i % scales.len()]);
    numbers.iter().enumerate().map(number).collect()
}

#[test]
fn what_travels_in_f16_arrives_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    for shape in shapes() {
        let mut recorder = Recorder::new(gpu.clone());
        let mut cache = Cache::new(&gpu, shape, N_PAGE, KvFormat::F16).unwrap();
        let token = shape.token_values();
        let want = halves(N_TOK * token);
        // In pieces that end within pages.
        for part in [0..7, 7..70, 70..N_TOK] {
            let values = &want[part.start * token..part.end * token];
            cache.write(&mut recorder, &PAGES, part, values).unwrap();
        }
        let mut read = |part: std::ops::Range<usize>| {
            let mut have = vec![f16::NAN; part.len() * token];
            cache.read(&mut recorder, &PAGES, part, &mut have).unwrap();
            have
        };
        assert!(read(0..N_TOK) == want, "{shape:?}");
        assert!(read(33..90) == want[33 * token..90 * token], "{shape:?}");
        assert!(read(5..5).is_empty());
    }
}

#[test]
fn q8_0_is_near() {
    let Some(gpu) = gpu() else { return };
    for shape in shapes() {
        let mut recorder = Recorder::new(gpu.clone());
        let mut cache = Cache::new(&gpu, shape, N_PAGE, KvFormat::Q8_0).unwrap();
        let values: Vec<f16> = noise(N_TOK * shape.token_values(), 3)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        cache
            .write(&mut recorder, &PAGES, 0..N_TOK, &values)
            .unwrap();
        let mut have = vec![f16::NAN; values.len()];
        cache
            .read(&mut recorder, &PAGES, 0..N_TOK, &mut have)
            .unwrap();
        // Half a step of 1/127 of the largest of 32, and the rounding of scale and result.
        for (have, want) in have.iter().zip(&values) {
            let apart = (have.to_f32() - want.to_f32()).abs();
            assert!(
                apart <= 0.5 / 127.0 + 1e-3,
                "{have} and not {want}: {shape:?}"
            );
        }
        let [want, have] =
            [&values, &have].map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
        assert!(error(&want, &have) < 5e-3);
    }
}

#[test]
fn a_page_is_copied_with_all_layers() {
    let Some(gpu) = gpu() else { return };
    for format in KvFormat::ALL {
        for shape in shapes() {
            let mut recorder = Recorder::new(gpu.clone());
            let mut cache = Cache::new(&gpu, shape, N_PAGE, format).unwrap();
            let page = PAGE_TOKENS * shape.token_values();
            let values = halves(2 * page);
            let tokens = 0..2 * PAGE_TOKENS;
            cache
                .write(&mut recorder, &[1, 3], tokens.clone(), &values)
                .unwrap();
            cache.copy_page(&mut recorder, 3, 5);
            cache.copy_page(&mut recorder, 1, 1);
            let mut have = [vec![f16::NAN; 2 * page], vec![f16::NAN; 2 * page]];
            for (pages, have) in [[1, 3], [1, 5]].iter().zip(&mut have) {
                cache
                    .read(&mut recorder, pages, tokens.clone(), have)
                    .unwrap();
            }
            assert!(have[0] == have[1], "{format:?} {shape:?}");
            assert!(have[0].iter().any(|x| x.to_f32() != 0.0));
            let mut other = vec![f16::NAN; page];
            cache
                .read(&mut recorder, &[4], 0..PAGE_TOKENS, &mut other)
                .unwrap();
            assert!(other.iter().all(|x| x.to_f32() == 0.0), "no other page");
        }
    }
}

#[test]
fn a_cache_that_one_kernel_cannot_see_is_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = KvShape {
        n_layer: 1,
        n_head_kv: 8,
        head_dim: 128,
        kv_type: troika_base::KvType::F16,
    };
    let page = Cache::page_bytes(shape, KvFormat::F16) / 2;
    let n_page = gpu.caps().binding.0 as usize / page + 1;
    let refused = Cache::new(&gpu, shape, n_page, KvFormat::F16).unwrap_err();
    assert!(
        matches!(refused, troika_device::Error::OutOfMemory { .. }),
        "{refused}"
    );
}
