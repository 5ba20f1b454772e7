//! Speed of the kernels by format, and what a meeting of the threads costs.
//!
//! `TROIKA_ISA` picks the kernel set, `cargo bench -p troika-kernels -- decode/Q4_K` a part. What a whole model reaches is
//! told by `troika bench`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use troika_base::DType;
use troika_kernels::{
    Kernels, PackedMatrix, Pool, Product, Workspace, matmul, physical_cores, quant,
};

const FORMATS: [DType; 26] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
    DType::NVFP4,
    DType::TQ1_0,
    DType::TQ2_0,
    DType::IQ1_S,
    DType::IQ1_M,
    DType::IQ2_XXS,
    DType::IQ2_XS,
    DType::IQ2_S,
    DType::IQ3_XXS,
    DType::IQ3_S,
    DType::F16,
    DType::BF16,
    DType::F32,
];

/// The shape of a feed-forward matrix in a model of a billion weights.
const N_OUT: usize = 8192;
const N_IN: usize = 2048;

/// Matrices that no cache holds together, so that weights come from memory.
const MEMORY_BYTES: usize = 1 << 30;

/// Values of all sizes, as activations and weights have them.
fn wave(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 31 % 97) as f32 - 48.0) / 48.0)
        .collect()
}

fn matrix(pool: &Pool, dtype: DType) -> PackedMatrix {
    let mut row = vec![0; dtype.row_bytes(N_IN).expect("whole blocks")];
    quant::quantize_row(dtype, &wave(N_IN), &mut row).expect("a computed format");
    PackedMatrix::from_rows(pool, dtype, N_OUT, N_IN, &row.repeat(N_OUT))
}

fn kernels() -> &'static Kernels {
    Kernels::from_env().expect("TROIKA_ISA names a set that this CPU runs")
}

/// One token: bytes of weights per second, from memory.
fn decode(c: &mut Criterion) {
    let pool = Pool::new(physical_cores());
    let mut group = c.benchmark_group("decode");
    group.sample_size(10);
    for dtype in FORMATS {
        let first = matrix(&pool, dtype);
        let count = MEMORY_BYTES / first.bytes();
        let matrices: Vec<_> = (0..count).map(|_| matrix(&pool, dtype)).collect();
        let (x, mut y) = (wave(N_IN), vec![0.0; N_OUT]);
        let mut workspace = Workspace::default();
        group.throughput(Throughput::Bytes((count * first.bytes()) as u64));
        group.bench_function(BenchmarkId::from_parameter(dtype), |b| {
            b.iter(|| {
                for w in &matrices {
                    let product = Product { w, y: &mut y };
                    matmul(kernels(), &pool, &x, 1, &mut [product], &mut workspace);
                }
                black_box(&mut y);
            });
        });
    }
}

/// 512 tokens: multiplications and additions per second.
fn prefill(c: &mut Criterion) {
    const N_TOK: usize = 512;
    let pool = Pool::new(physical_cores());
    let mut group = c.benchmark_group("prefill");
    group.sample_size(10);
    group.throughput(Throughput::Elements((2 * N_TOK * N_OUT * N_IN) as u64));
    for dtype in FORMATS {
        let w = matrix(&pool, dtype);
        let (x, mut y) = (wave(N_TOK * N_IN), vec![0.0; N_TOK * N_OUT]);
        let mut workspace = Workspace::default();
        group.bench_function(BenchmarkId::from_parameter(dtype), |b| {
            b.iter(|| {
                let product = Product { w: &w, y: &mut y };
                matmul(kernels(), &pool, &x, N_TOK, &mut [product], &mut workspace);
                black_box(&mut y);
            });
        });
    }
}

/// An empty region: what it costs that the threads meet.
fn barrier(c: &mut Criterion) {
    let mut group = c.benchmark_group("barrier");
    for threads in 1..=physical_cores() {
        let pool = Pool::new(threads);
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter(|| {
                pool.run(|thread| {
                    black_box(thread);
                });
            });
        });
    }
}

criterion_group!(benches, decode, prefill, barrier);
criterion_main!(benches);
