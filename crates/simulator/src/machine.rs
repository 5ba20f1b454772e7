//! A machine that nobody has to own: devices and pools of memory, as the catalogue or a measurement knows them.

use troika_base::DeviceProfile;
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{DeviceFacts, ModelFacts, ModelId, PoolFacts};

/// The quantization of a model of which none is said.
pub const QUANTIZATION: &str = "Q4_K_M";

/// A machine as a simulation drives it.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualMachine {
    /// What it was asked for by.
    pub name: String,
    /// Its devices, composite ones last.
    pub devices: Vec<DeviceFacts>,
    /// What is behind each device: one profile, or those of a composite one's parts.
    pub profiles: Vec<Vec<DeviceProfile>>,
    /// Its pools of memory.
    pub pools: Vec<PoolFacts>,
    /// What was assumed of it, for people.
    pub notes: Vec<String>,
}

/// Why there is no such machine, or why it does not know a model.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A name that the catalogue does not have.
    #[error("{0}")]
    Unknown(String),
    /// What is known of a device does not do for a simulation.
    #[error("{device}: {what}; {remedy}")]
    Profile {
        /// Its name.
        device: String,
        /// What is missing or impossible.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl VirtualMachine {
    /// The machine of a name: `core-ultra-258v`, `dual-3090`, `ryzen-ai-370+4090:32gb`.
    ///
    /// # Errors
    /// If a part is unknown, or too little is known of it.
    pub fn named(_name: &str, _catalogue: &Catalogue) -> Result<Self, MachineError> {
        Err(MachineError::Unknown(String::new()))
    }

    /// What a model is on each device. `name` may end in a quantization; else it is [`QUANTIZATION`].
    ///
    /// # Errors
    /// If model or quantization are unknown.
    pub fn model_facts(
        &self,
        _id: ModelId,
        name: &str,
        _catalogue: &Catalogue,
    ) -> Result<ModelFacts, MachineError> {
        Err(MachineError::Unknown(name.to_owned()))
    }
}
