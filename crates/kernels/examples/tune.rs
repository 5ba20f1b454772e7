//! tune (scratch)
use std::time::Instant;
use troika_base::DType;
use troika_kernels::*;
fn main() {
    let threads: usize = std::env::args()
        .nth(1)
        .and_then(|v| v.parse().ok())
        .unwrap_or(2);
    let pool = Pool::new(threads);
    let kernels = Kernels::from_env().unwrap();
    println!("{} x{threads}", kernels.name);
    let (n_out, n_in) = (8192, 2048);
    for dtype in [
        DType::Q4_0,
        DType::Q4_K,
        DType::Q6_K,
        DType::Q8_0,
        DType::BF16,
    ] {
        let rb = dtype.row_bytes(n_in).unwrap();
        let copies = (1usize << 30) / (rb * n_out);
        let copies = copies.min(64);
        let rows: Vec<u8> = {
            let mut b = vec![0u8; rb * n_out];
            let x: Vec<f32> = (0..n_in)
                .map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 500.0)
                .collect();
            quant::quantize_row(dtype, &x, &mut b[..rb]).unwrap();
            for r in 1..n_out {
                b.copy_within(0..rb, r * rb);
            }
            b
        };
        let ws: Vec<PackedMatrix> = (0..copies)
            .map(|_| PackedMatrix::from_rows(&pool, dtype, n_out, n_in, &rows))
            .collect();
        let mut work = Workspace::default();
        let x: Vec<f32> = (0..512 * n_in)
            .map(|i| ((i * 31 % 97) as f32 - 48.0) / 48.0)
            .collect();
        let mut y = vec![0.0; 512 * n_out];
        // gemv
        let mut best = 0f64;
        let mut all = vec![];
        for _ in 0..7 {
            let t = Instant::now();
            for w in &ws {
                matmul(
                    kernels,
                    &pool,
                    &x[..n_in],
                    1,
                    &mut [Product {
                        w,
                        y: &mut y[..n_out],
                    }],
                    &mut work,
                );
            }
            let gbs = (copies * ws[0].bytes()) as f64 / t.elapsed().as_secs_f64() / 1e9;
            best = best.max(gbs);
            all.push(gbs);
        }
        all.sort_by(f64::total_cmp);
        print!("{dtype}: gemv best {best:.1} median {:.1} GB/s |", all[3]);
        for n_tok in [16usize, 512] {
            let mut all = vec![];
            for _ in 0..5 {
                let t = Instant::now();
                for w in &ws[..4] {
                    matmul(
                        kernels,
                        &pool,
                        &x[..n_tok * n_in],
                        n_tok,
                        &mut [Product {
                            w,
                            y: &mut y[..n_tok * n_out],
                        }],
                        &mut work,
                    );
                }
                all.push(
                    4.0 * 2.0 * (n_tok * n_in * n_out) as f64 / t.elapsed().as_secs_f64() / 1e12,
                );
            }
            all.sort_by(f64::total_cmp);
            print!(" gemm{n_tok} {:.3} TOPS", all[2]);
        }
        println!();
    }
}
