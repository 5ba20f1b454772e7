//! The names of Arm cores, from the numbers that they tell: designer and part.

/// A designer's name and parts.
struct Designer {
    number: u32,
    name: &'static str,
    parts: &'static [(u32, &'static str)],
}

/// From the main identification registers, as documented by their designers and listed in Linux 6.14's `cputype.h`.
const DESIGNERS: [Designer; 8] = [
    Designer {
        number: 0x41,
        name: "ARM",
        parts: &[
            (0xd03, "Cortex-A53"),
            (0xd04, "Cortex-A35"),
            (0xd05, "Cortex-A55"),
            (0xd07, "Cortex-A57"),
            (0xd08, "Cortex-A72"),
            (0xd09, "Cortex-A73"),
            (0xd0a, "Cortex-A75"),
            (0xd0b, "Cortex-A76"),
            (0xd0c, "Neoverse-N1"),
            (0xd0d, "Cortex-A77"),
            (0xd0e, "Cortex-A76AE"),
            (0xd40, "Neoverse-V1"),
            (0xd41, "Cortex-A78"),
            (0xd42, "Cortex-A78AE"),
            (0xd44, "Cortex-X1"),
            (0xd46, "Cortex-A510"),
            (0xd47, "Cortex-A710"),
            (0xd48, "Cortex-X2"),
            (0xd49, "Neoverse-N2"),
            (0xd4b, "Cortex-A78C"),
            (0xd4c, "Cortex-X1C"),
            (0xd4d, "Cortex-A715"),
            (0xd4e, "Cortex-X3"),
            (0xd4f, "Neoverse-V2"),
            (0xd80, "Cortex-A520"),
            (0xd81, "Cortex-A720"),
            (0xd82, "Cortex-X4"),
            (0xd83, "Neoverse-V3AE"),
            (0xd84, "Neoverse-V3"),
            (0xd85, "Cortex-X925"),
            (0xd87, "Cortex-A725"),
            (0xd8e, "Neoverse-N3"),
        ],
    },
    Designer {
        number: 0x46,
        name: "Fujitsu",
        parts: &[(0x001, "A64FX")],
    },
    Designer {
        number: 0x48,
        name: "HiSilicon",
        parts: &[(0xd01, "TaiShan-v110")],
    },
    Designer {
        number: 0x4e,
        name: "NVIDIA",
        parts: &[(0x003, "Denver 2"), (0x004, "Carmel"), (0x010, "Olympus")],
    },
    Designer {
        number: 0x51,
        name: "Qualcomm",
        parts: &[
            (0x001, "Oryon"),
            (0x002, "Oryon"),
            (0x802, "Kryo 385 Gold"),
            (0x803, "Kryo 385 Silver"),
            (0x804, "Kryo 485 Gold"),
            (0x805, "Kryo 485 Silver"),
        ],
    },
    Designer {
        number: 0x61,
        name: "Apple",
        parts: &[
            (0x022, "Icestorm"),
            (0x023, "Firestorm"),
            (0x024, "Icestorm"),
            (0x025, "Firestorm"),
            (0x028, "Icestorm"),
            (0x029, "Firestorm"),
            (0x032, "Blizzard"),
            (0x033, "Avalanche"),
            (0x034, "Blizzard"),
            (0x035, "Avalanche"),
            (0x038, "Blizzard"),
            (0x039, "Avalanche"),
        ],
    },
    Designer {
        number: 0x6d,
        name: "Microsoft",
        parts: &[(0xd49, "Cobalt 100")],
    },
    Designer {
        number: 0xc0,
        name: "Ampere",
        parts: &[(0xac3, "Ampere-1"), (0xac4, "Ampere-1a")],
    },
];

/// Who designed a core.
pub(super) fn designer(number: u32) -> Option<&'static str> {
    find(number).map(|designer| designer.name)
}

/// A core's name.
pub(super) fn core(designer: u32, part: u32) -> Option<&'static str> {
    let parts = find(designer)?.parts;
    parts
        .iter()
        .find(|(number, _)| *number == part)
        .map(|(_, name)| *name)
}

fn find(number: u32) -> Option<&'static Designer> {
    DESIGNERS.iter().find(|designer| designer.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_have_names() {
        assert_eq!(core(0x41, 0xd0b), Some("Cortex-A76"));
        assert_eq!(core(0x51, 0x001), Some("Oryon"));
        assert_eq!(core(0x41, 0xfff), None);
        assert_eq!(designer(0xc0), Some("Ampere"));
        assert_eq!(designer(0), None);
    }
}
