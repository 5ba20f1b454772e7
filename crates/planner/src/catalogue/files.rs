//! The catalogue's files: the form that all of them share, and the texts built into the program.

use serde::Deserialize;

use super::chip::Chip;
use super::model::Model;
use super::support::Support;
use super::trade::{Country, Egress, Offer, Part, Price};

/// A file of the catalogue, or a user's. Any may hold rows of any kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) chip: Vec<Chip>,
    pub(super) model: Vec<Model>,
    pub(super) offer: Vec<Offer>,
    pub(super) egress: Vec<Egress>,
    pub(super) price: Vec<Price>,
    pub(super) part: Vec<Part>,
    pub(super) country: Vec<Country>,
    pub(super) support: Vec<Support>,
    /// Some or all of [`Thresholds`](super::Thresholds).
    pub(super) thresholds: toml::Table,
}

impl File {
    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        let rows = self.chip.len()
            + self.model.len()
            + self.offer.len()
            + self.egress.len()
            + self.price.len();
        rows + self.part.len() + self.country.len() + self.support.len() + self.thresholds.len()
            == 0
    }
}

/// The paths below `catalogue/` and what stands there.
macro_rules! embed {
    ($($path:literal,)*) => {
        &[$(($path, include_str!(concat!("../../../../catalogue/", $path)))),*]
    };
}

/// Every file of the catalogue, by its path in there. A test fails when one is missing.
pub(super) const BUILT_IN: &[(&str, &str)] = embed![
    "chips/accelerators.toml",
    "chips/amd-cpu.toml",
    "chips/amd-instinct.toml",
    "chips/amd-radeon.toml",
    "chips/amd-soc.toml",
    "chips/apple.toml",
    "chips/edge.toml",
    "chips/intel-arc.toml",
    "chips/intel-cpu.toml",
    "chips/intel-gaudi.toml",
    "chips/intel-soc.toml",
    "chips/nvidia-dc.toml",
    "chips/nvidia-laptop.toml",
    "chips/nvidia-pro.toml",
    "chips/nvidia-soc.toml",
    "chips/nvidia.toml",
    "chips/phones.toml",
    "chips/qualcomm.toml",
    "models.toml",
    "clouds.toml",
    "prices.toml",
    "electricity.toml",
    "support.toml",
    "thresholds.toml",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogue");
        for directory in ["", "chips"] {
            let Ok(entries) = root.join(directory).read_dir() else {
                continue;
            };
            for entry in entries {
                let path = entry.expect("can be listed").path();
                if path.extension().is_some_and(|ending| ending == "toml") {
                    let path = path.strip_prefix(&root).expect("is below");
                    let path = path.to_string_lossy().replace('\\', "/");
                    assert!(
                        BUILT_IN.iter().any(|(built_in, _)| *built_in == path),
                        "catalogue/{path} is not in BUILT_IN"
                    );
                }
            }
        }
    }
}
