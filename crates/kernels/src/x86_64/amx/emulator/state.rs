//! What AMX instructions do: a thread's tile state, and the operations on it.
//!
//! As strict as the unit is, and more: what it would refuse, or what is not emulated, is a [`Fault`].
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1 chapter 18 and volume 2.

use std::ptr;

use super::decode::{Instruction, Product, Registers};

const TILES: usize = 8;
const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

type Tile = [[u8; ROW_BYTES]; ROWS];

/// Why an instruction cannot be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fault(pub(super) &'static str);

/// What the unit makes of it is not documented well enough to rely on.
const NO_STRIDE: Fault = Fault("a tile's rows have no index register for their distance");

/// One thread's tile configuration and tile registers.
pub(super) struct State {
    /// As LDTILECFG read it; all zeros when released.
    config: [u8; 64],
    /// What lies outside of a tile's shape is zero: configuring zeroes all, and the rest writes inside shapes.
    tiles: [Tile; TILES],
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    row_bytes: usize,
}

impl State {
    /// No tiles configured, as a thread starts.
    pub(super) const RELEASED: Self = Self {
        config: [0; 64],
        tiles: [[[0; ROW_BYTES]; ROWS]; TILES],
    };

    /// Executes one instruction.
    ///
    /// # Safety
    /// The instruction's memory operand, computed from `registers` and `next_rip`, can be read or written, as the
    /// instruction does and as far as it does.
    pub(super) unsafe fn execute(
        &mut self,
        instruction: Instruction,
        registers: &Registers,
        next_rip: u64,
    ) -> Result<(), Fault> {
        match instruction {
            Instruction::LoadConfig(memory) => {
                let from = memory.address(registers, next_rip) as *const [u8; 64];
                // SAFETY: the caller vouches for the operand.
                self.load_config(unsafe { ptr::read_unaligned(from) })
            }
            Instruction::StoreConfig(memory) => {
                let to = memory.address(registers, next_rip) as *mut [u8; 64];
                // SAFETY: the caller vouches for the operand.
                unsafe { ptr::write_unaligned(to, self.config) };
                Ok(())
            }
            Instruction::Release => {
                *self = Self::RELEASED;
                Ok(())
            }
            Instruction::Zero { tile } => {
                self.shape(tile)?;
                self.tiles[usize::from(tile)] = [[0; ROW_BYTES]; ROWS];
                Ok(())
            }
            Instruction::Load { tile, from } => {
                let (start, stride) = from.rows(registers, next_rip).ok_or(NO_STRIDE)?;
                // SAFETY: the caller vouches for the operand.
                unsafe { self.load(tile, start, stride) }
            }
            Instruction::Store { tile, to } => {
                let (start, stride) = to.rows(registers, next_rip).ok_or(NO_STRIDE)?;
                // SAFETY: the caller vouches for the operand.
                unsafe { self.store(tile, start, stride) }
            }
            Instruction::Product { kind, c, a, b } => self.product(kind, c, a, b),
        }
    }

    fn load_config(&mut self, config: [u8; 64]) -> Result<(), Fault> {
        let palette = config[0];
        if palette == 0 {
            *self = Self::RELEASED;
            return Ok(());
        }
        if palette != 1 {
            return Err(Fault("LDTILECFG: there are palettes 0 and 1 only"));
        }
        if config[1] != 0 {
            return Err(Fault(
                "LDTILECFG: starting at a row other than 0 is not emulated",
            ));
        }
        if [&config[2..16], &config[32..48], &config[56..64]]
            .iter()
            .any(|bytes| bytes.iter().any(|byte| *byte != 0))
        {
            return Err(Fault("LDTILECFG: a reserved byte is not 0"));
        }
        let new = Self {
            config,
            ..Self::RELEASED
        };
        for tile in 0..TILES {
            let Shape { rows, row_bytes } = new.configured(tile);
            if rows > ROWS || row_bytes > ROW_BYTES {
                return Err(Fault(
                    "LDTILECFG: a tile is larger than 16 rows of 64 bytes",
                ));
            }
            if (rows == 0) != (row_bytes == 0) {
                return Err(Fault(
                    "LDTILECFG: a tile has rows without bytes, or bytes without rows",
                ));
            }
        }
        *self = new;
        Ok(())
    }

    fn configured(&self, tile: usize) -> Shape {
        let row_bytes = [self.config[16 + 2 * tile], self.config[17 + 2 * tile]];
        Shape {
            rows: self.config[48 + tile].into(),
            row_bytes: u16::from_le_bytes(row_bytes).into(),
        }
    }

    /// The shape of a tile that may be used.
    fn shape(&self, tile: u8) -> Result<Shape, Fault> {
        if self.config[0] == 0 {
            return Err(Fault("no tiles are configured"));
        }
        let shape = self.configured(usize::from(tile));
        if shape.rows == 0 {
            return Err(Fault("the tile is configured without rows"));
        }
        if !shape.row_bytes.is_multiple_of(4) {
            return Err(Fault("the tile's rows are not whole dwords"));
        }
        Ok(shape)
    }

    /// # Safety
    /// Each row can be read.
    unsafe fn load(&mut self, tile: u8, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape(tile)?;
        let tile = &mut self.tiles[usize::from(tile)];
        for (i, row) in tile[..shape.rows].iter_mut().enumerate() {
            let from = start.wrapping_add(stride.wrapping_mul(i as u64)) as *const u8;
            // SAFETY: the caller vouches for the row, and `row` has room for any row.
            unsafe { ptr::copy_nonoverlapping(from, row.as_mut_ptr(), shape.row_bytes) };
        }
        Ok(())
    }

    /// # Safety
    /// Each row can be written.
    unsafe fn store(&self, tile: u8, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape(tile)?;
        for (i, row) in self.tiles[usize::from(tile)][..shape.rows]
            .iter()
            .enumerate()
        {
            let to = start.wrapping_add(stride.wrapping_mul(i as u64)) as *mut u8;
            // SAFETY: the caller vouches for the row.
            unsafe { ptr::copy_nonoverlapping(row.as_ptr(), to, shape.row_bytes) };
        }
        Ok(())
    }

    fn product(&mut self, kind: Product, c: u8, a: u8, b: u8) -> Result<(), Fault> {
        if c == a || c == b || a == b {
            return Err(Fault("a product's tiles are not three different ones"));
        }
        let (c_shape, a_shape, b_shape) = (self.shape(c)?, self.shape(a)?, self.shape(b)?);
        if c_shape.rows != a_shape.rows {
            return Err(Fault("a product's C and A differ in rows"));
        }
        if a_shape.row_bytes != 4 * b_shape.rows {
            return Err(Fault("a product's A has another depth than B"));
        }
        if c_shape.row_bytes != b_shape.row_bytes {
            return Err(Fault("a product's C and B differ in columns"));
        }
        let (a, b) = (self.tiles[usize::from(a)], self.tiles[usize::from(b)]);
        let (b, columns) = (&b[..b_shape.rows], c_shape.row_bytes / 4);
        let c = &mut self.tiles[usize::from(c)];
        for (c, a) in c[..c_shape.rows].iter_mut().zip(&a) {
            match kind {
                Product::Bf16 => row_bf16(c, a, b, columns),
                Product::Int8 {
                    a_signed: false,
                    b_signed: false,
                } => row_int8(c, a, b, columns, unsigned, unsigned),
                Product::Int8 {
                    a_signed: false,
                    b_signed: true,
                } => row_int8(c, a, b, columns, unsigned, signed),
                Product::Int8 {
                    a_signed: true,
                    b_signed: false,
                } => row_int8(c, a, b, columns, signed, unsigned),
                Product::Int8 {
                    a_signed: true,
                    b_signed: true,
                } => row_int8(c, a, b, columns, signed, signed),
            }
        }
        Ok(())
    }
}

fn signed(byte: u8) -> i32 {
    i32::from(byte as i8)
}

fn unsigned(byte: u8) -> i32 {
    i32::from(byte)
}

/// One row of an int8 product: four products a dword, sums that wrap.
#[inline(always)]
fn row_int8(
    c: &mut [u8; ROW_BYTES],
    a: &[u8; ROW_BYTES],
    b: &[[u8; ROW_BYTES]],
    columns: usize,
    widen_a: impl Fn(u8) -> i32,
    widen_b: impl Fn(u8) -> i32,
) {
    let (a, c) = (a.as_chunks::<4>().0, c.as_chunks_mut::<4>().0);
    for (n, c) in c[..columns].iter_mut().enumerate() {
        let mut sum = i32::from_le_bytes(*c);
        for (a, b) in a.iter().zip(b) {
            let b = &b.as_chunks::<4>().0[n];
            for (a, b) in a.iter().zip(b) {
                sum = sum.wrapping_add(widen_a(*a) * widen_b(*b));
            }
        }
        *c = sum.to_le_bytes();
    }
}

/// One row of a bf16 product, in the documented order: even and odd products are summed apart from zero by fused
/// multiply-adds, then the two sums are added, then that to `c`.
fn row_bf16(c: &mut [u8; ROW_BYTES], a: &[u8; ROW_BYTES], b: &[[u8; ROW_BYTES]], columns: usize) {
    let (a, c) = (a.as_chunks::<4>().0, c.as_chunks_mut::<4>().0);
    for (n, c) in c[..columns].iter_mut().enumerate() {
        let (mut even, mut odd) = (0.0f32, 0.0f32);
        for (a, b) in a.iter().zip(b) {
            let ([a_even, a_odd], [b_even, b_odd]) =
                (bf16_pair(a), bf16_pair(&b.as_chunks::<4>().0[n]));
            even = flush(a_even.mul_add(b_even, even));
            odd = flush(a_odd.mul_add(b_odd, odd));
        }
        let sum = flush(even + odd);
        *c = flush(flush(f32::from_le_bytes(*c)) + sum).to_le_bytes();
    }
}

/// Two bf16 as f32, subnormal ones as zero.
fn bf16_pair(dword: &[u8; 4]) -> [f32; 2] {
    let [a, b, c, d] = *dword;
    [[0, 0, a, b], [0, 0, c, d]].map(|bytes| flush(f32::from_le_bytes(bytes)))
}

/// A subnormal number as zero of its sign.
///
/// The unit may judge a result that rounds up to the smallest normal number by its value before rounding; here it stays.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration by rows and bytes per row; tiles that are not listed have none.
    fn config(shapes: &[(u8, u16)]) -> [u8; 64] {
        let mut config = [0; 64];
        config[0] = 1;
        for (i, (rows, row_bytes)) in shapes.iter().enumerate() {
            config[48 + i] = *rows;
            config[16 + 2 * i..][..2].copy_from_slice(&row_bytes.to_le_bytes());
        }
        config
    }

    fn configured(shapes: &[(u8, u16)]) -> State {
        let mut state = State::RELEASED;
        state
            .load_config(config(shapes))
            .expect("the configuration is valid");
        state
    }

    #[test]
    fn invalid_configurations_are_refused_and_change_nothing() {
        let with = |at: usize, byte: u8| {
            let mut config = config(&[(16, 64); 8]);
            config[at] = byte;
            config
        };
        for (config, why) in [
            (with(0, 2), "palettes"),
            (with(1, 1), "starting at a row"),
            (with(2, 1), "reserved"),
            (with(15, 1), "reserved"),
            (with(32, 1), "reserved"),
            (with(63, 1), "reserved"),
            (with(48, 17), "larger"),
            (with(30, 65), "larger"),
            (with(31, 1), "larger"),
            (with(50, 0), "without"),
            (with(20, 0), "without"),
        ] {
            let mut state = configured(&[(3, 8)]);
            let before = state.config;
            let fault = state.load_config(config).expect_err(why);
            assert!(fault.0.contains(why), "{fault:?}, not {why}");
            assert_eq!(state.config, before);
        }
        let mut state = configured(&[(3, 8)]);
        assert_eq!(state.load_config([0; 64]), Ok(()), "palette 0 releases");
        assert_eq!(state.shape(0).err(), Some(Fault("no tiles are configured")));
    }

    #[test]
    fn products_of_other_shapes_are_refused() {
        let kind = Product::Int8 {
            a_signed: true,
            b_signed: true,
        };
        // C [m, 4 n], A [m, 4 k], B [k, 4 n] with m = 2, k = 3, n = 5; then one of each that does not fit.
        let mut state = configured(&[
            (2, 20),
            (2, 12),
            (3, 20),
            (1, 12),
            (2, 16),
            (3, 24),
            (2, 10),
        ]);
        assert_eq!(state.product(kind, 0, 1, 2), Ok(()));
        for (c, a, b, why) in [
            (0, 0, 2, "different"),
            (0, 1, 1, "different"),
            (2, 1, 2, "different"),
            (0, 3, 2, "rows"),
            (0, 4, 2, "depth"),
            (0, 1, 5, "columns"),
            (0, 6, 2, "dwords"),
            (0, 1, 7, "without rows"),
        ] {
            let fault = state.product(kind, c, a, b).expect_err(why);
            assert!(fault.0.contains(why), "{fault:?}, not {why}");
        }
        let mut released = State::RELEASED;
        assert_eq!(
            released.product(kind, 0, 1, 2),
            Err(Fault("no tiles are configured"))
        );
    }

    /// Even and odd products are summed apart: in f32, 2^24 swallows the even 1, and -2^24 does not swallow the odd one.
    #[test]
    fn bf16_sums_follow_the_documented_order() {
        let bf16 = |x: f32| [x.to_le_bytes()[2], x.to_le_bytes()[3]];
        let row = |xs: &[f32]| {
            let mut row = [0; ROW_BYTES];
            for (row, x) in row.as_chunks_mut::<2>().0.iter_mut().zip(xs) {
                *row = bf16(*x);
            }
            row
        };
        let mut c = [0; ROW_BYTES];
        c[..4].copy_from_slice(&0.5f32.to_le_bytes());
        let b = [row(&[4096.0, -4096.0]), row(&[1.0, 1.0])];
        row_bf16(&mut c, &row(&[4096.0, 4096.0, 1.0, 1.0]), &b, 1);
        assert_eq!(f32::from_le_bytes([c[0], c[1], c[2], c[3]]), 1.5);
    }
}
