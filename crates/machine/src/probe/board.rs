//! The chip of a board that tells its name by a device tree: most Arm machines.

use std::sync::LazyLock;

use serde::Deserialize;

use super::root::Root;

/// A system on a chip.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Soc {
    /// What the device tree calls it.
    compatible: String,
    /// The chip, as the catalogue has it.
    pub(super) name: String,
    /// Its graphics processor.
    pub(super) gpu: Option<String>,
    /// Its neural processor.
    pub(super) npu: Option<String>,
}

#[derive(Deserialize)]
struct Socs {
    soc: Vec<Soc>,
}

static SOCS: LazyLock<Vec<Soc>> = LazyLock::new(|| {
    let socs: Socs = toml::from_str(include_str!("../../data/socs.toml"))
        .expect("the table of chips is TOML. This is a bug.");
    socs.soc
});

/// The chip that the device tree names.
pub(super) fn soc(root: &Root) -> Option<&'static Soc> {
    let text = ["/proc/device-tree", "/sys/firmware/devicetree/base"]
        .iter()
        .find_map(|base| root.text(&format!("{base}/compatible")).ok())?;
    // The most specific name stands first.
    text.split(|c: char| c == '\0' || c.is_whitespace())
        .find_map(|name| SOCS.iter().find(|soc| soc.compatible == name))
}

/// The machine, as its maker named it.
pub(super) fn product(root: &Root) -> Option<String> {
    let dmi = |name: &str| {
        let text = root.line(&format!("/sys/class/dmi/id/{name}"))?;
        (!is_placeholder(&text)).then_some(text)
    };
    let together = |vendor: Option<String>, name: String| match vendor {
        Some(vendor) if !name.starts_with(&vendor) => format!("{vendor} {name}"),
        _ => name,
    };
    // Lenovo keeps the name that people know in the version, and a part number in the name.
    let name = match dmi("sys_vendor").as_deref() {
        Some("LENOVO") => dmi("product_version").or_else(|| dmi("product_name")),
        _ => dmi("product_name"),
    };
    name.map(|name| together(dmi("sys_vendor"), name))
        .or_else(|| Some(together(dmi("board_vendor"), dmi("board_name")?)))
        .or_else(|| root.line("/proc/device-tree/model"))
        .or_else(|| root.line("/sys/firmware/devicetree/base/model"))
}

/// What makers leave where a name should be.
fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "to be filled",
        "system product name",
        "system manufacturer",
        "system version",
        "default string",
        "not specified",
        "not applicable",
        "o.e.m",
        "none",
        "unknown",
    ]
    .iter()
    .any(|placeholder| text.contains(placeholder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_name_their_chip() {
        let root = Root::recorded(
            "== /proc/device-tree/compatible\nraspberrypi,5-model-b\0brcm,bcm2712\0\n\
             == /proc/device-tree/model\nRaspberry Pi 5 Model B Rev 1.0\0\n",
        );
        assert_eq!(soc(&root).expect("is known").name, "Raspberry Pi 5");
        assert_eq!(
            product(&root).as_deref(),
            Some("Raspberry Pi 5 Model B Rev 1.0")
        );
        assert!(soc(&Root::recorded("")).is_none());
    }

    #[test]
    fn placeholders_are_no_names() {
        let dmi = |entries: &[(&str, &str)]| {
            let files = entries
                .iter()
                .map(|(name, text)| format!("== /sys/class/dmi/id/{name}\n{text}\n"));
            product(&Root::recorded(&files.collect::<String>()))
        };
        assert_eq!(
            dmi(&[
                ("sys_vendor", "To Be Filled By O.E.M."),
                ("product_name", "System Product Name"),
                ("board_vendor", "ASUSTeK COMPUTER INC."),
                ("board_name", "ProArt X670E-CREATOR WIFI"),
            ])
            .as_deref(),
            Some("ASUSTeK COMPUTER INC. ProArt X670E-CREATOR WIFI")
        );
        assert_eq!(
            dmi(&[
                ("sys_vendor", "LENOVO"),
                ("product_name", "21KC"),
                ("product_version", "ThinkPad X1 Carbon Gen 12"),
            ])
            .as_deref(),
            Some("LENOVO ThinkPad X1 Carbon Gen 12")
        );
        assert_eq!(
            dmi(&[("sys_vendor", "HP"), ("product_name", "HP ZBook Ultra G1a")]).as_deref(),
            Some("HP ZBook Ultra G1a")
        );
    }
}
