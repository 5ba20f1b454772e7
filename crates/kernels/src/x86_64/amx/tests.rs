//! The tile instructions against plain matrix products, on the CPU's unit or emulated, whichever there is.

#![cfg(target_os = "linux")]

use std::arch::asm;

use proptest::prelude::*;

use super::tile::{TileConfig, TileShape, Tiles};
use super::*;

/// Says which unit runs the test, or that none does.
fn unit() -> Option<Unit> {
    match any_unit() {
        Ok(unit) => {
            assert_eq!(support().is_ok(), unit == Unit::Native);
            println!("AMX unit: {unit:?}");
            Some(unit)
        }
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// A product's shape: `C` `[m, n]`, `A` `[m, 4 k]` bytes, `B` `[k, 4 n]` bytes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
}

impl Shape {
    const FULL: Self = Self {
        m: 16,
        n: 16,
        k: 16,
    };

    fn config(self, c: usize, a: usize, b: usize) -> TileConfig {
        let shape = |rows: usize, dwords: usize| TileShape {
            rows: rows as u8,
            row_bytes: 4 * dwords as u16,
        };
        let mut shapes = [TileShape::NONE; 8];
        shapes[c] = shape(self.m, self.n);
        shapes[a] = shape(self.m, self.k);
        shapes[b] = shape(self.k, self.n);
        TileConfig::new(shapes)
    }
}

/// Which product instruction, and on which registers: enough of both to catch a field in the wrong place.
#[derive(Clone, Copy, Debug)]
enum Op {
    Bf16,
    SignedSigned,
    SignedUnsigned,
    UnsignedSigned,
    UnsignedUnsigned,
}

/// `c + a · b` by the instruction. `a`, `b` and `c` are dwords without padding; in memory, the rows lie `pad` bytes more
/// apart than they are long.
fn product(op: Op, shape: Shape, c: &[u32], a: &[u32], b: &[u32], pad: usize) -> Vec<u32> {
    let rows = |x: &[u32], dwords: usize| -> Vec<u8> {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes
            .chunks(4 * dwords)
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0xee, pad)))
            .collect()
    };
    let (a, b, mut out) = (rows(a, shape.k), rows(b, shape.n), rows(c, shape.n));
    let (wide, deep) = ((4 * shape.n + pad) as isize, (4 * shape.k + pad) as isize);
    macro_rules! run {
        ($op:ident $c:literal $a:literal $b:literal) => {{
            // SAFETY: the tests ask `any_unit` first. All rows of each shape lie in the buffers.
            unsafe {
                let mut tiles = Tiles::configure(&shape.config($c, $a, $b));
                tiles.load::<$a>(a.as_ptr(), deep);
                tiles.load_once::<$b>(b.as_ptr(), wide);
                tiles.load::<$c>(out.as_ptr(), wide);
                tiles.$op::<$c, $a, $b>();
                tiles.store::<$c>(out.as_mut_ptr(), wide);
            }
        }};
    }
    match op {
        Op::Bf16 => run!(tdpbf16ps 0 1 2),
        Op::SignedSigned => run!(tdpbssd 7 3 4),
        Op::SignedUnsigned => run!(tdpbsud 5 7 6),
        Op::UnsignedSigned => run!(tdpbusd 2 0 7),
        Op::UnsignedUnsigned => run!(tdpbuud 6 5 1),
    }
    let rows = out.chunks(wide as usize);
    rows.flat_map(|row| {
        assert!(
            row[4 * shape.n..].iter().all(|byte| *byte == 0xee),
            "a store wrote behind the row"
        );
        row[..4 * shape.n]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|dword| u32::from_le_bytes(*dword))
    })
    .collect()
}

/// The plain product of bytes, in i64, wrapped at the end.
fn plain_int8(
    shape: Shape,
    c: &[u32],
    a: &[u32],
    b: &[u32],
    a_signed: bool,
    b_signed: bool,
) -> Vec<u32> {
    let widen = |byte: u8, signed: bool| {
        if signed {
            i64::from(byte as i8)
        } else {
            i64::from(byte)
        }
    };
    let mut out = Vec::new();
    for i in 0..shape.m {
        for j in 0..shape.n {
            let mut sum = i64::from(c[i * shape.n + j] as i32);
            for l in 0..shape.k {
                let (a, b) = (
                    a[i * shape.k + l].to_le_bytes(),
                    b[l * shape.n + j].to_le_bytes(),
                );
                sum += (0..4)
                    .map(|e| widen(a[e], a_signed) * widen(b[e], b_signed))
                    .sum::<i64>();
            }
            out.push(sum as u32);
        }
    }
    out
}

fn check_int8(shape: Shape, c: &[u32], a: &[u32], b: &[u32], pad: usize) {
    for (op, a_signed, b_signed) in [
        (Op::SignedSigned, true, true),
        (Op::SignedUnsigned, true, false),
        (Op::UnsignedSigned, false, true),
        (Op::UnsignedUnsigned, false, false),
    ] {
        let want = plain_int8(shape, c, a, b, a_signed, b_signed);
        assert_eq!(product(op, shape, c, a, b, pad), want, "{op:?} {shape:?}");
    }
}

/// A shape, the dwords of `C`, `A` and `B`, and a padding.
fn operands() -> impl Strategy<Value = (Shape, Vec<u32>, Vec<u32>, Vec<u32>, usize)> {
    let dwords = || prop::collection::vec(any::<u32>(), 256);
    (
        (1usize..=16, 1usize..=16, 1usize..=16),
        dwords(),
        dwords(),
        dwords(),
        0usize..70,
    )
        .prop_map(|((m, n, k), mut c, mut a, mut b, pad)| {
            c.truncate(m * n);
            a.truncate(m * k);
            b.truncate(k * n);
            (Shape { m, n, k }, c, a, b, pad)
        })
}

/// A bf16 of moderate size from 16 random bits.
fn moderate_bf16(bits: u32) -> u32 {
    let exponent = 127 - 12 + (bits >> 7 & 0xff) % 24;
    bits & 0x807f | exponent << 7
}

fn bf16_pair(dword: u32) -> [f64; 2] {
    [
        f32::from_bits(dword << 16),
        f32::from_bits(dword & 0xffff_0000),
    ]
    .map(f64::from)
}

/// The plain product of bf16 pairs in f64, and the sum of magnitudes, which bounds the rounding.
fn plain_bf16(shape: Shape, c: &[u32], a: &[u32], b: &[u32]) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for i in 0..shape.m {
        for j in 0..shape.n {
            let c = f64::from(f32::from_bits(c[i * shape.n + j]));
            let (mut sum, mut magnitude) = (c, c.abs());
            for l in 0..shape.k {
                let (a, b) = (bf16_pair(a[i * shape.k + l]), bf16_pair(b[l * shape.n + j]));
                for e in 0..2 {
                    sum += a[e] * b[e];
                    magnitude += (a[e] * b[e]).abs();
                }
            }
            out.push((sum, magnitude));
        }
    }
    out
}

proptest! {
    #[test]
    fn int8_products_are_exact((shape, c, a, b, pad) in operands()) {
        if any_unit().is_ok() {
            check_int8(shape, &c, &a, &b, pad);
        }
    }

    #[test]
    fn bf16_products_are_close((shape, c, a, b, pad) in operands()) {
        if any_unit().is_ok() {
            let pairs = |x: &[u32]| -> Vec<u32> {
                x.iter().map(|x| moderate_bf16(x & 0xffff) | moderate_bf16(x >> 16) << 16).collect()
            };
            let (c, a, b) = (c.iter().map(|x| moderate_bf16(x >> 16) << 16 | x & 0xffff).collect::<Vec<_>>(), pairs(&a), pairs(&b));
            let have = product(Op::Bf16, shape, &c, &a, &b, pad);
            for (have, (want, magnitude)) in have.iter().zip(plain_bf16(shape, &c, &a, &b)) {
                let have = f64::from(f32::from_bits(*have));
                // 18 roundings of half a unit in the last place at most: 16 in each sum, and two more.
                prop_assert!((have - want).abs() <= 18.0 * 2f64.powi(-24) * magnitude, "{have} not {want}");
            }
        }
    }
}

#[test]
fn extreme_bytes_are_multiplied_exactly_and_sums_wrap() {
    if unit().is_none() {
        return;
    }
    for byte_a in [0x80u8, 0x7f, 0xff, 0] {
        for byte_b in [0x80u8, 0x7f, 0xff, 0] {
            let (a, b) = (
                u32::from_le_bytes([byte_a; 4]),
                u32::from_le_bytes([byte_b; 4]),
            );
            // 2^31 - 1 and -2^31 wrap with the first product.
            for c in [0, i32::MAX as u32, i32::MIN as u32] {
                check_int8(Shape::FULL, &[c; 256], &[a; 256], &[b; 256], 0);
            }
        }
    }
}

/// One product of a 1x1x1 shape.
fn single_bf16(c: f32, a: f32, b: f32) -> f32 {
    let shape = Shape { m: 1, n: 1, k: 1 };
    let bf16 = |x: f32| {
        assert_eq!(x.to_bits() & 0xffff, 0, "{x:e} is not a bf16");
        x.to_bits() >> 16
    };
    f32::from_bits(product(Op::Bf16, shape, &[c.to_bits()], &[bf16(a)], &[bf16(b)], 3)[0])
}

#[test]
fn bf16_products_flush_subnormals_and_pass_nan_and_infinity() {
    if unit().is_none() {
        return;
    }
    let tiny = f32::MIN_POSITIVE;
    let (subnormal, infinity) = (tiny / 2.0, f32::INFINITY);
    for (c, a, b, want) in [
        (1.5, 2.0, -3.0, -4.5),
        // A subnormal operand counts as zero, however large the other.
        (1.0, subnormal, 2f32.powi(127), 1.0),
        (1.0, 2f32.powi(127), -subnormal, 1.0),
        // So does a subnormal C, and a product that becomes subnormal.
        (subnormal, 1.0, tiny, tiny),
        (subnormal, 0.0, 0.0, 0.0),
        (0.0, tiny, 0.5, 0.0),
        (tiny, tiny, -0.5, tiny),
        // A sum of normal numbers that becomes subnormal.
        (1.5 * tiny, tiny, -1.0, 0.0),
        (0.0, infinity, -2.0, -infinity),
        (infinity, 1.0, 1.0, infinity),
        (0.0, 2f32.powi(127), 2.0, infinity),
    ] {
        assert_eq!(single_bf16(c, a, b), want, "{c:e} + {a:e} · {b:e}");
    }
    for (c, a, b) in [
        (0.0, infinity, 0.0),
        (infinity, infinity, -1.0),
        (1.0, infinity, subnormal),
    ] {
        assert!(single_bf16(c, a, b).is_nan(), "{c:e} + {a:e} · {b:e}");
    }
    let nan = f32::from_bits(0x7fc0_0000);
    assert!(single_bf16(nan, 1.0, 1.0).is_nan());
    assert!(single_bf16(1.0, nan, 0.0).is_nan());
}

/// Data in which each byte tells where it comes from.
fn pattern() -> Vec<u8> {
    (0..40_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn operands_are_addressed_as_the_instruction_says() {
    if unit().is_none() {
        return;
    }
    let data = pattern();
    let middle = data.as_ptr().wrapping_add(20_000);
    let shape = TileShape {
        rows: 5,
        row_bytes: 12,
    };
    let mut shapes = [TileShape::NONE; 8];
    shapes[6] = shape;
    let config = TileConfig::new(shapes);
    // An operand in assembler, its base and index registers, the index, and where rows start from the middle.
    macro_rules! check {
        ($operand:literal, $base:tt, $index:tt, $value:expr, $scale:literal, $displacement:literal) => {{
            let mut out = [0u8; 60];
            let value: isize = $value;
            // SAFETY: a unit was found. All rows lie within 20,000 bytes of the middle; `out` holds the tile.
            unsafe {
                let mut tiles = Tiles::configure(&config);
                asm!(
                    concat!("tileloadd tmm6, [", $operand, "]"),
                    in($base) middle, in($index) value,
                    options(nostack, preserves_flags, readonly),
                );
                tiles.store::<6>(out.as_mut_ptr(), 12);
            }
            let want: Vec<u8> = (0..5)
                .flat_map(|row| (0..12).map(move |i| (20_000 + $displacement + row * value * $scale + i) as usize))
                .map(|at| data[at])
                .collect();
            assert_eq!(out[..], want, $operand);
        }};
    }
    check!("rax + rcx*1", "rax", "rcx", 12, 1, 0);
    check!("rdi + rsi*2", "rdi", "rsi", 37, 2, 0);
    check!("rsi + rdi*4 + 8", "rsi", "rdi", 1001, 4, 8);
    check!("rdx + r8*8 - 128", "rdx", "r8", -113, 8, -128);
    check!("r12 + r13*1", "r12", "r13", -64, 1, 0);
    check!("r13 + r12*1", "r13", "r12", 64, 1, 0);
    check!("r13 + r12*2 + 4660", "r13", "r12", 5, 2, 4660);
    check!("r15 + r14*8 - 12345", "r15", "r14", 3, 8, -12345);
    check!("r8 + r9*1 + 127", "r8", "r9", 0, 1, 127);
    check!("r10 + rax*4", "r10", "rax", 1, 4, 0);
    check!("rcx + r11*1", "rcx", "r11", 1_000, 1, 0);
}

/// RBX, RBP and RSP cannot be asked of the compiler, and RIP is the instruction's own.
#[test]
fn reserved_registers_are_addressed_too() {
    if unit().is_none() {
        return;
    }
    static CONFIG: TileConfig = TileConfig::new([TileShape::FULL; 8]);
    let (data, mut out) = (pattern(), [0u8; 1024]);
    let mut config_out = [0u8; 64];
    // SAFETY: a unit was found. Loads read 16 rows of 64 bytes from `data`; the store through RSP writes to 2 KiB that
    // were taken from the stack before, and all saved registers are restored.
    unsafe {
        let tiles = Tiles::configure(&TileConfig::new([TileShape::NONE; 8]));
        asm!(
            "ldtilecfg [rip + {config}]",
            "push rbx",
            "push rbp",
            "mov rbx, {data}",
            "mov rbp, {stride}",
            "tileloadd tmm1, [rbx + rbp*2]",
            "mov rbp, {data}",
            "mov rbx, {stride}",
            "tileloadd tmm2, [rbp + rbx*2 + 0]",
            "pop rbp",
            "pop rbx",
            "sub rsp, 2048",
            "tilestored [rsp + {stride}*1 + 64], tmm1",
            "tilezero tmm3",
            "tileloaddt1 tmm3, [rsp + {stride}*1 + 64]",
            "add rsp, 2048",
            // C = 0 + A · 1 would hide a mix-up of rows; compare what RBP loaded with what went through the stack.
            "tilestored [{out} + {stride}*1], tmm3",
            "sttilecfg [{config_out}]",
            config = sym CONFIG, data = in(reg) data.as_ptr(), stride = in(reg) 64usize,
            out = in(reg) out.as_mut_ptr(), config_out = in(reg) config_out.as_mut_ptr(),
        );
        let want: Vec<u8> = (0..16)
            .flat_map(|row| &data[128 * row..][..64])
            .copied()
            .collect();
        assert_eq!(out[..], want, "rbx as base, rbp as index, then rsp");
        asm!("tilestored [{out} + {stride}*1], tmm2", out = in(reg) out.as_mut_ptr(), stride = in(reg) 64usize);
        assert_eq!(out[..], want, "rbp as base, rbx as index");
        drop(tiles);
    }
    assert_eq!(
        (config_out[0], config_out[16], config_out[48]),
        (1, 64, 16),
        "the configuration came back"
    );
}

#[test]
fn configuring_zeroes_and_releasing_forgets() {
    if unit().is_none() {
        return;
    }
    let (data, mut out) = (pattern(), [1u8; 1024]);
    let mut config = [1u8; 64];
    // SAFETY: a unit was found. Buffers hold 16 rows of 64 bytes, and a configuration.
    unsafe {
        let mut tiles = Tiles::configure(&TileConfig::new([TileShape::FULL; 8]));
        tiles.load::<0>(data.as_ptr(), 64);
        drop(tiles);
        asm!("sttilecfg [{}]", in(reg) config.as_mut_ptr());
        let mut tiles = Tiles::configure(&TileConfig::new([TileShape::FULL; 8]));
        tiles.store::<0>(out.as_mut_ptr(), 64);
        assert_eq!(out, [0; 1024]);
        tiles.load::<0>(data.as_ptr(), 64);
        tiles.zero::<0>();
        tiles.store::<0>(out.as_mut_ptr(), 64);
        assert_eq!(out, [0; 1024]);
    }
    assert_eq!(config, [0; 64], "a released thread has no configuration");
}

/// Tile state is the thread's: others may multiply at the same time, with other shapes.
#[test]
fn threads_do_not_see_each_others_tiles() {
    if unit().is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for seed in 1..5u32 {
            scope.spawn(move || {
                let shape = Shape {
                    m: seed as usize,
                    n: 16 - seed as usize,
                    k: 3 * seed as usize,
                };
                let dwords = |salt: u32, len| {
                    (0..len as u32)
                        .map(|i| ((i + salt) * seed).wrapping_mul(0x9e37_79b1))
                        .collect()
                };
                let (c, a, b): (Vec<u32>, Vec<u32>, Vec<u32>) = (
                    dwords(1, shape.m * shape.n),
                    dwords(2, shape.m * shape.k),
                    dwords(3, shape.k * shape.n),
                );
                for _ in 0..50 {
                    check_int8(shape, &c, &a, &b, 1);
                }
            });
        }
    });
}

#[test]
#[should_panic(expected = "at most 16 rows")]
fn shapes_out_of_range_are_refused() {
    TileConfig::new(
        [TileShape {
            rows: 17,
            row_bytes: 64,
        }; 8],
    );
}

/// What is no AMX instruction, or one that the unit refuses, still ends the process with SIGILL.
#[test]
fn other_illegal_instructions_stay_illegal() {
    use std::os::unix::process::ExitStatusExt;
    const CRASH: &str = "TROIKA_TEST_ILLEGAL_INSTRUCTION";

    if unit().is_none() {
        return;
    }
    match std::env::var(CRASH).as_deref() {
        // SAFETY: these end the process; that is the test.
        Ok("ud2") => unsafe { asm!("ud2") },
        // SAFETY: as above: no tiles are configured.
        Ok("unconfigured") => unsafe { asm!("tilezero tmm0") },
        _ => {}
    }
    if std::env::var_os(CRASH).is_some() {
        return;
    }
    let name = std::thread::current()
        .name()
        .expect("tests have names")
        .to_owned();
    for instruction in ["ud2", "unconfigured"] {
        let child =
            std::process::Command::new(std::env::current_exe().expect("tests run from a file"))
                .args([&name, "--exact", "--nocapture", "--test-threads=1"])
                .env(CRASH, instruction)
                .output()
                .expect("the test runs itself");
        assert_eq!(
            child.status.signal(),
            Some(libc::SIGILL),
            "{instruction}: {child:?}"
        );
    }
}
