//! `TOPS = 2 × MACs × clock`: what the data sheet's arithmetic makes of an instruction set.
//!
//! Instructions and their widths are facts of the instruction set. How many of them start in a cycle is a fact of the core,
//! which has to be told from what the processor says of itself; where that does not tell, there is no theory.

use troika_base::{DType, Unit};

use super::Theory;
use crate::model::Cpu;

/// Multiply-adds of one core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Macs {
    /// Of one instruction, or of the matrix unit in one cycle.
    per_instruction: u32,
    /// Instructions that start in a cycle.
    per_cycle: u32,
}

impl Macs {
    /// What a kernel set's loops can do at most with weights of a format; `None` where that is not known.
    ///
    /// Sources: Intel 64 and IA-32 Optimization Reference Manual (ports, AMX: a tile product of 16 × 16 × 64 bytes every 16
    /// cycles); AMD Software Optimization Guides for families 17h, 19h, 1Ah.
    pub(super) fn of(isa: &str, cpu: &Cpu, dtype: DType, unit: Unit) -> Option<Self> {
        let is_float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        if unit == Unit::Matrix {
            // All formats are multiplied as bf16: 16 × 16 × 32 in 16 cycles.
            return (isa == "amx").then_some(Self::new(512, 1));
        }
        match (isa, is_float) {
            // Fused multiply-adds of 8 and 16 singles.
            ("avx2" | "avxvnni", true) => Some(Self::new(8, 2)),
            ("avx512vnni" | "amx", true) => Some(Self::new(16, ports_of_512_bits(cpu)?)),
            // vpmaddubsw: 32 pairs of bytes. The sums of pairs that have to follow are not counted.
            ("avx2", false) => Some(Self::new(32, 2)),
            // vpdpbusd: four bytes in each of 8 and 16 lanes.
            ("avxvnni", false) => Some(Self::new(32, 2)),
            ("avx512vnni" | "amx", false) => Some(Self::new(64, ports_of_512_bits(cpu)?)),
            _ => None,
        }
    }

    const fn new(per_instruction: u32, per_cycle: u32) -> Self {
        Self {
            per_instruction,
            per_cycle,
        }
    }

    /// The rate at a clock on some cores, in 10¹² operations a second.
    pub(super) fn theory(self, clock_hz: f64, threads: u32) -> Theory {
        let macs = f64::from(self.per_instruction * self.per_cycle);
        Theory {
            value: 2.0 * macs * clock_hz * f64::from(threads) / 1e12,
            formula: format!(
                "2 × {} multiply-adds × {} a cycle × {:.2} GHz × {threads} threads",
                self.per_instruction,
                self.per_cycle,
                clock_hz / 1e9
            ),
        }
    }
}

/// Multiplying instructions of 512 bits that start in a cycle.
fn ports_of_512_bits(cpu: &Cpu) -> Option<u32> {
    let has = |feature: &str| cpu.features.iter().any(|have| have == feature);
    let model = cpu.model.as_deref().unwrap_or_default();
    match cpu.vendor.as_deref()? {
        // Every processor with AMX is a server's.
        "GenuineIntel" if has("amx_int8") || has("amx_tile") => Some(2),
        "GenuineIntel" if model.contains("Xeon") && !model.contains("Bronze") => Some(2),
        // Tiger Lake, Ice Lake and Rocket Lake join the ports 0 and 1.
        "GenuineIntel" if model.contains("Core") => Some(1),
        // Zen 5 is the first of its vendor with this feature; in notebooks its units are half as wide.
        "AuthenticAMD" if has("avx_vnni") => match model {
            model if model.contains("Ryzen AI") => Some(1),
            model if model.contains("EPYC") || model.contains("Ryzen") => Some(2),
            _ => None,
        },
        // Zen 4 takes two cycles of each of two ports.
        "AuthenticAMD" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vendor: &str, model: &str, features: &[&str]) -> Cpu {
        Cpu {
            model: Some(model.to_owned()),
            vendor: Some(vendor.to_owned()),
            architecture: "x86_64".to_owned(),
            packages: 1,
            cores: Vec::new(),
            caches: Vec::new(),
            features: features.iter().map(|&name| name.to_owned()).collect(),
            virtual_machine: None,
        }
    }

    #[test]
    fn known_processors_have_their_rates() {
        let zen5 = cpu("AuthenticAMD", "AMD EPYC 9755", &["avx_vnni"]);
        let zen4 = cpu("AuthenticAMD", "AMD Ryzen 9 7950X", &[]);
        let spr = cpu(
            "GenuineIntel",
            "Intel(R) Xeon(R) Platinum 8480+",
            &["amx_int8"],
        );
        let old = cpu("GenuineIntel", "Intel(R) Core(TM) i7-8700", &[]);
        for (isa, cpu, dtype, unit, want) in [
            ("avx512vnni", &zen5, DType::Q8_0, Unit::Vector, 128.0),
            ("avx512vnni", &zen5, DType::F32, Unit::Vector, 32.0),
            ("avx512vnni", &zen4, DType::Q4_0, Unit::Vector, 64.0),
            ("amx", &spr, DType::BF16, Unit::Matrix, 512.0),
            ("amx", &spr, DType::F32, Unit::Vector, 32.0),
            ("avx2", &old, DType::F32, Unit::Vector, 16.0),
            ("avxvnni", &old, DType::Q8_0, Unit::Vector, 64.0),
        ] {
            let macs = Macs::of(isa, cpu, dtype, unit).expect("is known");
            let theory = macs.theory(1e9, 2);
            assert_eq!(
                theory.value,
                2.0 * want * 2.0 / 1e3,
                "{isa} {dtype}: {}",
                theory.formula
            );
        }
        let maddubs = Macs::of("avx2", &old, DType::Q4_K, Unit::Vector).expect("is known");
        assert!(
            maddubs
                .theory(3e9, 1)
                .formula
                .contains("32 multiply-adds × 2 a cycle × 3.00 GHz")
        );
    }

    #[test]
    fn what_is_not_known_is_not_computed() {
        let odd = cpu("CentaurHauls", "a processor", &[]);
        for (isa, unit) in [
            ("scalar", Unit::Vector),
            ("avx512vnni", Unit::Vector),
            ("avx2", Unit::Matrix),
        ] {
            assert_eq!(Macs::of(isa, &odd, DType::F32, unit), None, "{isa}");
        }
    }
}
