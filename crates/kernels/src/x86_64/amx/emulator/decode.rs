//! Reads AMX instructions: the VEX prefix, the opcode, and the operands with their addressing.
//!
//! All of them have a three-byte VEX prefix of map 0F38 with W = 0 and L = 0:
//!
//! | opcode | no prefix | 66 | F3 | F2 |
//! |---|---|---|---|---|
//! | 49, memory, reg = 0 | LDTILECFG | STTILECFG | | |
//! | 49, registers | TILERELEASE (C0) | | | TILEZERO (rm = 0) |
//! | 4B, memory with SIB | | TILELOADDT1 | TILESTORED | TILELOADD |
//! | 5C, registers | | | TDPBF16PS | |
//! | 5E, registers | TDPBUUD | TDPBUSD | TDPBSUD | TDPBSSD |

/// The values of RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
pub(super) type Registers = [u64; 16];

/// An AMX instruction with its operands. Tiles are numbers below 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Instruction {
    LoadConfig(Memory),
    StoreConfig(Memory),
    Release,
    Zero {
        tile: u8,
    },
    /// With or without the hint of TILELOADDT1.
    Load {
        tile: u8,
        from: Memory,
    },
    Store {
        tile: u8,
        to: Memory,
    },
    /// `c += a · b`.
    Product {
        kind: Product,
        c: u8,
        a: u8,
        b: u8,
    },
}

/// The number formats of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Product {
    Bf16,
    Int8 { a_signed: bool, b_signed: bool },
}

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    pub(super) base: Base,
    /// Register and shift.
    pub(super) index: Option<(u8, u8)>,
    pub(super) displacement: i32,
}

/// What a memory operand's displacement counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Zero,
    Register(u8),
    /// The address of the next instruction.
    NextRip,
}

impl Memory {
    /// The address of one block of memory.
    pub(super) fn address(&self, registers: &Registers, next_rip: u64) -> u64 {
        self.start(registers, next_rip)
            .wrapping_add(self.scaled_index(registers).unwrap_or(0))
    }

    /// The address of the first of several rows, and their distance; `None` if no index register gives it.
    pub(super) fn rows(&self, registers: &Registers, next_rip: u64) -> Option<(u64, u64)> {
        Some((
            self.start(registers, next_rip),
            self.scaled_index(registers)?,
        ))
    }

    fn start(&self, registers: &Registers, next_rip: u64) -> u64 {
        let base = match self.base {
            Base::Zero => 0,
            Base::Register(number) => registers[usize::from(number)],
            Base::NextRip => next_rip,
        };
        base.wrapping_add_signed(i64::from(self.displacement))
    }

    fn scaled_index(&self, registers: &Registers) -> Option<u64> {
        self.index
            .map(|(number, shift)| registers[usize::from(number)] << shift)
    }
}

/// An instruction and its length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decoded {
    pub(super) instruction: Instruction,
    pub(super) len: usize,
}

/// The AMX instruction that starts here; `None` if it is none. Takes no byte behind the instruction's end.
pub(super) fn decode(code: &mut impl Iterator<Item = u8>) -> Option<Decoded> {
    let mut len = 0;
    let mut code = code.inspect(|_| len += 1);
    let instruction = read(&mut code)?;
    drop(code);
    Some(Decoded { instruction, len })
}

/// The fields of the VEX prefix that vary. The first three are stored inverted, and are the fourth bits of numbers.
struct Vex {
    reg_high: u8,
    index_high: u8,
    base_high: u8,
    /// The third operand, `0..16`.
    v: u8,
    /// 0, or 1, 2, 3 for 66, F3, F2.
    prefix: u8,
}

fn read(code: &mut impl Iterator<Item = u8>) -> Option<Instruction> {
    let vex = read_vex(code)?;
    let opcode = code.next()?;
    let modrm = code.next()?;
    let (is_memory, reg, rm) = (modrm >> 6 != 3, modrm >> 3 & 7 | vex.reg_high, modrm & 7);
    let is_sib = is_memory && rm == 4;
    let no_v = vex.v == 0;
    // The number of a tile has three bits, and VEX has room for four.
    let tile = |number: u8| (number < 8).then_some(number);
    Some(match (opcode, vex.prefix) {
        (0x49, 0) if is_memory && reg == 0 && no_v => {
            Instruction::LoadConfig(read_memory(code, &vex, modrm)?)
        }
        (0x49, 1) if is_memory && reg == 0 && no_v => {
            Instruction::StoreConfig(read_memory(code, &vex, modrm)?)
        }
        (0x49, 0) if modrm == 0xc0 && reg == 0 && no_v => Instruction::Release,
        (0x49, 3) if !is_memory && rm == 0 && no_v => Instruction::Zero { tile: tile(reg)? },
        (0x4b, 1 | 3) if is_sib && no_v => Instruction::Load {
            tile: tile(reg)?,
            from: read_memory(code, &vex, modrm)?,
        },
        (0x4b, 2) if is_sib && no_v => Instruction::Store {
            tile: tile(reg)?,
            to: read_memory(code, &vex, modrm)?,
        },
        (0x5c | 0x5e, _) if !is_memory => Instruction::Product {
            kind: product(opcode, vex.prefix)?,
            c: tile(reg)?,
            a: tile(rm | vex.base_high)?,
            b: tile(vex.v)?,
        },
        _ => return None,
    })
}

fn product(opcode: u8, prefix: u8) -> Option<Product> {
    let int8 = |a_signed, b_signed| Some(Product::Int8 { a_signed, b_signed });
    match (opcode, prefix) {
        (0x5c, 2) => Some(Product::Bf16),
        (0x5e, 0) => int8(false, false),
        (0x5e, 1) => int8(false, true),
        (0x5e, 2) => int8(true, false),
        (0x5e, 3) => int8(true, true),
        _ => None,
    }
}

fn read_vex(code: &mut impl Iterator<Item = u8>) -> Option<Vex> {
    const MAP_0F38: u8 = 2;
    const W: u8 = 0x80;
    const L: u8 = 0x04;
    if code.next()? != 0xc4 {
        return None;
    }
    let (second, third) = (code.next()?, code.next()?);
    if second & 0x1f != MAP_0F38 || third & (W | L) != 0 {
        return None;
    }
    let high = |bit: u8| (!second >> bit & 1) << 3;
    Some(Vex {
        reg_high: high(7),
        index_high: high(6),
        base_high: high(5),
        v: !third >> 3 & 0xf,
        prefix: third & 3,
    })
}

/// Reads SIB and displacement, as ModRM asks for them.
fn read_memory(code: &mut impl Iterator<Item = u8>, vex: &Vex, modrm: u8) -> Option<Memory> {
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let (mut base, mut index) = (Base::Register(rm | vex.base_high), None);
    // In both encodings register 5 without a displacement stands for none; r13 is no exception.
    let mut is_baseless = rm == 5 && mode == 0;
    if is_baseless {
        base = Base::NextRip;
    }
    if rm == 4 {
        let sib = code.next()?;
        let number = sib >> 3 & 7 | vex.index_high;
        // RSP's number stands for no index; r12 is a register like any other.
        index = (number != 4).then_some((number, sib >> 6));
        is_baseless = sib & 7 == 5 && mode == 0;
        base = if is_baseless {
            Base::Zero
        } else {
            Base::Register(sib & 7 | vex.base_high)
        };
    }
    let displacement = match mode {
        1 => i32::from(code.next()? as i8),
        2 => read_i32(code)?,
        _ if is_baseless => read_i32(code)?,
        _ => 0,
    };
    Some(Memory {
        base,
        index,
        displacement,
    })
}

fn read_i32(code: &mut impl Iterator<Item = u8>) -> Option<i32> {
    Some(i32::from_le_bytes([
        code.next()?,
        code.next()?,
        code.next()?,
        code.next()?,
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &[u8], want: Instruction) {
        let mut rest = code
            .iter()
            .copied()
            .chain(std::iter::once_with(|| panic!("read behind the end")));
        assert_eq!(
            decode(&mut rest),
            Some(Decoded {
                instruction: want,
                len: code.len()
            }),
            "{code:02x?}"
        );
        for cut in 0..code.len() {
            assert_eq!(
                decode(&mut code[..cut].iter().copied()),
                None,
                "{code:02x?} cut to {cut}"
            );
        }
    }

    fn memory(base: Base, index: Option<(u8, u8)>, displacement: i32) -> Memory {
        Memory {
            base,
            index,
            displacement,
        }
    }

    /// The bytes are those of LLVM's assembler.
    #[test]
    fn instructions_are_read_as_assembled() {
        use Base::{NextRip, Register, Zero};
        const INT8: fn(bool, bool) -> Product =
            |a_signed, b_signed| Product::Int8 { a_signed, b_signed };
        // tilerelease
        check(&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Instruction::Release);
        // tilezero tmm7
        check(
            &[0xc4, 0xe2, 0x7b, 0x49, 0xf8],
            Instruction::Zero { tile: 7 },
        );
        // tdpbf16ps tmm1, tmm2, tmm3
        check(
            &[0xc4, 0xe2, 0x62, 0x5c, 0xca],
            Instruction::Product {
                kind: Product::Bf16,
                c: 1,
                a: 2,
                b: 3,
            },
        );
        // tdpbssd, tdpbsud, tdpbusd, tdpbuud tmm7, tmm0, tmm6
        check(
            &[0xc4, 0xe2, 0x4b, 0x5e, 0xf8],
            Instruction::Product {
                kind: INT8(true, true),
                c: 7,
                a: 0,
                b: 6,
            },
        );
        check(
            &[0xc4, 0xe2, 0x4a, 0x5e, 0xf8],
            Instruction::Product {
                kind: INT8(true, false),
                c: 7,
                a: 0,
                b: 6,
            },
        );
        check(
            &[0xc4, 0xe2, 0x49, 0x5e, 0xf8],
            Instruction::Product {
                kind: INT8(false, true),
                c: 7,
                a: 0,
                b: 6,
            },
        );
        check(
            &[0xc4, 0xe2, 0x48, 0x5e, 0xf8],
            Instruction::Product {
                kind: INT8(false, false),
                c: 7,
                a: 0,
                b: 6,
            },
        );
        // ldtilecfg [rax]; [rbp + 8]; [rip + 16]; [r12 - 64]; [rbp + 8*r9 + 4096]
        check(
            &[0xc4, 0xe2, 0x78, 0x49, 0x00],
            Instruction::LoadConfig(memory(Register(0), None, 0)),
        );
        check(
            &[0xc4, 0xe2, 0x78, 0x49, 0x45, 0x08],
            Instruction::LoadConfig(memory(Register(5), None, 8)),
        );
        check(
            &[0xc4, 0xe2, 0x78, 0x49, 0x05, 0x10, 0, 0, 0],
            Instruction::LoadConfig(memory(NextRip, None, 16)),
        );
        check(
            &[0xc4, 0xc2, 0x78, 0x49, 0x44, 0x24, 0xc0],
            Instruction::LoadConfig(memory(Register(12), None, -64)),
        );
        check(
            &[0xc4, 0xa2, 0x78, 0x49, 0x84, 0xcd, 0, 0x10, 0, 0],
            Instruction::LoadConfig(memory(Register(5), Some((9, 3)), 4096)),
        );
        // sttilecfg [rsp + 8]
        check(
            &[0xc4, 0xe2, 0x79, 0x49, 0x44, 0x24, 0x08],
            Instruction::StoreConfig(memory(Register(4), None, 8)),
        );
        // tileloadd tmm4, [rsi + rdx]; tmm2, [r13 + r12]; tmm0, [4*r15 - 1]; tmm3, [rbx]
        check(
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x24, 0x16],
            Instruction::Load {
                tile: 4,
                from: memory(Register(6), Some((2, 0)), 0),
            },
        );
        check(
            &[0xc4, 0x82, 0x7b, 0x4b, 0x54, 0x25, 0x00],
            Instruction::Load {
                tile: 2,
                from: memory(Register(13), Some((12, 0)), 0),
            },
        );
        check(
            &[0xc4, 0xa2, 0x7b, 0x4b, 0x04, 0xbd, 0xff, 0xff, 0xff, 0xff],
            Instruction::Load {
                tile: 0,
                from: memory(Zero, Some((15, 2)), -1),
            },
        );
        check(
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x23],
            Instruction::Load {
                tile: 3,
                from: memory(Register(3), None, 0),
            },
        );
        // tileloaddt1 tmm5, [r8 + 2*rbp + 127]
        check(
            &[0xc4, 0xc2, 0x79, 0x4b, 0x6c, 0x68, 0x7f],
            Instruction::Load {
                tile: 5,
                from: memory(Register(8), Some((5, 1)), 127),
            },
        );
        // tilestored [rsp + 8*rax - 2147483648], tmm6
        check(
            &[0xc4, 0xe2, 0x7a, 0x4b, 0xb4, 0xc4, 0, 0, 0, 0x80],
            Instruction::Store {
                tile: 6,
                to: memory(Register(4), Some((0, 3)), i32::MIN),
            },
        );
    }

    #[test]
    fn other_instructions_are_left_alone() {
        for (code, what) in [
            (&[0x0f, 0x0b, 0, 0, 0, 0, 0][..], "ud2"),
            (&[0xc4, 0xe2, 0xf8, 0x49, 0xc0], "W = 1"),
            (&[0xc4, 0xe2, 0x7c, 0x49, 0xc0], "L = 1"),
            (&[0xc4, 0xe1, 0x78, 0x49, 0xc0], "map 0F"),
            (&[0xc4, 0xe2, 0x78, 0x49, 0xc1], "release with an operand"),
            (
                &[0xc4, 0xe2, 0x70, 0x49, 0xc0],
                "release with a third operand",
            ),
            (&[0xc4, 0x62, 0x7b, 0x49, 0xc0], "zeroing tmm8"),
            (&[0xc4, 0xe2, 0x7b, 0x4b, 0x06, 0, 0], "a load without SIB"),
            (
                &[0xc4, 0xe2, 0x7b, 0x4b, 0xc4, 0, 0],
                "a load from a register",
            ),
            (&[0xc4, 0xe2, 0x78, 0x4b, 0x24, 0x16], "4B without prefix"),
            (&[0xc4, 0xe2, 0x22, 0x5c, 0xca], "tmm11 as third operand"),
            (&[0xc4, 0xe2, 0x63, 0x5c, 0xca], "tdpfp16ps"),
            (&[0xc4, 0xe2, 0x62, 0x5c, 0x0a], "a product from memory"),
            (&[0xc4, 0xe2, 0x78, 0x49, 0x08], "reg = 1"),
        ] {
            assert_eq!(decode(&mut code.iter().copied()), None, "{what}");
        }
    }

    #[test]
    fn addresses_wrap_like_the_cpus() {
        let mut registers = [0; 16];
        registers[12] = 1000;
        registers[15] = -24i64 as u64;
        let operand = memory(Base::Register(12), Some((15, 2)), -8);
        assert_eq!(operand.rows(&registers, 7), Some((992, -96i64 as u64)));
        assert_eq!(operand.address(&registers, 7), 896);
        assert_eq!(memory(Base::NextRip, None, 16).address(&registers, 7), 23);
        assert_eq!(memory(Base::Zero, None, 16).rows(&registers, 7), None);
    }
}
