//! A crew of replicas as a file that a cluster takes: Kubernetes' manifests, or the configuration of Ray Serve.
//!
//! The manifests are those of `deploy/kubernetes/base` with the plan's numbers in them, so there is one form of them and not
//! two; Ray's file gives the application of `deploy/ray` its arguments. Both begin with the reasons as comments. Nothing
//! here decides how many: that is [`crate::plan::replicas`].

mod kubernetes;
mod ray;
mod reason;
mod simulation;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::simulation::simulation;
use crate::plan::replicas::{Crew, Node, Replicas};

/// Who runs the replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Kubernetes: manifests for `kubectl apply`.
    Kubernetes,
    /// Ray: a configuration for `serve deploy`.
    Ray,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Kubernetes, Self::Ray];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Ray => "ray",
        }
    }

    /// The file that is made for it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Kubernetes => "troika.yaml",
            Self::Ray => "serve.yaml",
        }
    }
}

/// The file: YAML, of one document or several.
///
/// # Panics
/// If the crew's numbers are none of the plan's: it serves nobody.
pub fn emit(target: Target, crew: &Crew, replicas: &Replicas) -> String {
    let body = match target {
        Target::Kubernetes => kubernetes::manifests(crew, replicas),
        Target::Ray => ray::configuration(crew, replicas),
    };
    format!("{}{body}", reason::comment(target, crew, replicas))
}

/// What the server on each replica is told, whoever runs it.
struct Serving {
    /// Answers side by side.
    streams: u32,
    /// Jobs that may wait.
    queue: u32,
    /// Tokens of context.
    context: u32,
    /// GiB of the node's memory that models may take.
    budget_gib: u64,
    /// GiB of the node's memory for the whole program.
    memory_gib: u64,
    /// Cores, where it is known how many; threads compute on as many.
    cores: Option<u32>,
    /// Whether a GPU computes.
    has_cards: bool,
}

const GIB: u64 = 1 << 30;

/// What the program keeps free by itself where nobody says otherwise; here for what is no model: connections and bodies.
const BESIDE_GIB: u64 = 1;

/// Threads of a server whose cards compute: two for connections, one for the card's lane, one that loads.
const CORES_BESIDE_CARDS: u32 = 4;

impl Serving {
    fn of(crew: &Crew, replicas: &Replicas) -> Self {
        let Node {
            cards,
            cores,
            memory_bytes,
            computes_in_ram,
            ..
        } = crew.node;
        let gib = memory_bytes.div_ceil(GIB);
        Self {
            streams: crew.users_each.low,
            queue: 2 * crew.users_each.low,
            context: replicas.workload.context,
            // Where cards hold the model, there is no room for a second copy beside them.
            budget_gib: if computes_in_ram { gib } else { 1 },
            memory_gib: gib + BESIDE_GIB,
            cores: match (cards, computes_in_ram) {
                (Some(_), false) => Some(CORES_BESIDE_CARDS),
                _ => cores,
            },
            has_cards: cards.is_some(),
        }
    }
}

/// Replicas that the autoscaler may have, at least and at most: those for half of the users, and one more than are needed, for one
/// that is being replaced.
fn bounds(crew: &Crew) -> (u32, u32) {
    (crew.replicas_half, crew.replicas.high + 1)
}
