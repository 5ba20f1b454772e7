//! How many tokens an NPU's graphs have room for.
//!
//! Graphs are compiled for fixed shapes, so software says up to which context it compiles them. Whose software names no limit is
//! not refused for it; the risks say then that long contexts may not be had.

use troika_base::DeviceKind;

use super::candidate::{Candidate, Place};
use super::rig::{ENGINE_HERE, Rig, Sharing};
use super::risk;
use super::verdict::{Lost, Requirement};
use super::workload::Workload;
use crate::catalogue::{Block, Catalogue, State, Support};

/// The longest context that is compiled for an NPU, and by what.
#[derive(Clone, Copy)]
pub(super) struct Room<'c> {
    pub(super) tokens: u32,
    pub(super) row: &'c Support,
}

/// The longest context of the candidate's NPU; `None` if it has none, or if some software for it names no limit.
pub(super) fn room<'c>(
    candidate: &Candidate<'_>,
    rig: &Rig,
    workload: &Workload,
    catalogue: &'c Catalogue,
) -> Option<Room<'c>> {
    let all: Vec<&Support> = match candidate.place {
        // Here Troika compiles, for whatever NPU it finds.
        Place::Here if rig.devices().any(|device| device.kind == DeviceKind::Npu) => {
            let own = catalogue.support().iter();
            own.filter(|row| row.runtime == ENGINE_HERE && row.context_max.is_some())
                .collect()
        }
        Place::Here => Vec::new(),
        Place::Buy | Place::Rent | Place::BuyAndRent => {
            let mut blocks = candidate.blocks.iter();
            let &(chip, block) = blocks.find(|(_, block)| *block == Block::Npu)?;
            let job = workload.task.job();
            let wanted = workload.ecosystem.map(risk::runtime_name);
            let rows = risk::rows(catalogue, chip, block).into_iter();
            rows.filter(|row| row.jobs.of(job) != State::None)
                .filter(|row| wanted.is_none_or(|wanted| row.runtime == wanted))
                .collect()
        }
    };
    let rooms = all.into_iter().map(|row| {
        let tokens = row.context_max?;
        Some(Room { tokens, row })
    });
    let rooms: Vec<Room<'c>> = rooms.collect::<Option<_>>()?;
    rooms.into_iter().max_by_key(|room| room.tokens)
}

/// Whether the context that is wanted fits the shapes that are compiled for the candidate's NPU.
pub(super) fn hold(
    candidate: &Candidate<'_>,
    rig: &Rig,
    workload: &Workload,
    catalogue: &Catalogue,
) -> Result<(), Lost> {
    let Some(Room { tokens, row }) = room(candidate, rig, workload, catalogue) else {
        return Ok(());
    };
    let (wanted, of) = match rig.sharing {
        // It reads the prompt; what is written later is the other's.
        Sharing::Phases => (workload.prompt_tokens, "prompts"),
        Sharing::Split(_) => (workload.context, "contexts"),
    };
    match wanted <= tokens {
        true => Ok(()),
        false => Err(Lost {
            requirement: Requirement::Context,
            reason: format!(
                "{of} of {tokens} tokens at most, for which {} compiles graphs of fixed shape for the NPU; {wanted} wanted",
                row.runtime
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use troika_base::{Bytes, DeviceProfile};

    use super::*;
    use crate::plan::testing::{catalogue_with, here, thresholds, today};
    use crate::plan::{Form, HereDevice, Question, plan};

    #[test]
    fn a_context_beyond_the_shapes_that_are_compiled_loses_with_the_reason() {
        let rows = "\n[[support]]\nfamilies = ['xdna2']\nruntime = 'qnn'\ncontext_max = 4096\nSOURCE\n\
            jobs = { llm = 'partial', embed = 'none', asr = 'none', vision = 'none', train = 'none' }\n";
        let reason = |more: &str, place: &str, text: &str| {
            let catalogue = catalogue_with(more);
            let mut here = here();
            here.devices.push(HereDevice {
                id: "npu0".to_owned(),
                profile: DeviceProfile {
                    memory: Some(Bytes(32 << 30)),
                    bandwidth_peak_gbs: Some(60.0),
                    ..DeviceProfile::unknown("An NPU", DeviceKind::Npu)
                },
                memory_free: None,
                blocked: None,
            });
            let form: Form =
                toml::from_str(&format!("model = 'small-1b'\n{text}")).expect("parses");
            let workload = form.complete(&thresholds()).expect("makes sense");
            let plan = plan(&Question {
                here: Some(&here),
                ..Question::new(&workload, &catalogue, today())
            });
            let plan = plan.expect("is a plan");
            let verdict = plan.find(place).expect("is there");
            let lost = verdict.lost.clone();
            lost.filter(|lost| lost.requirement == Requirement::Context)
                .map(|lost| lost.reason)
        };
        let long = "ecosystem = 'qnn'\ncontext = 8192";
        let told = reason(rows, "Test Mini, NPU", long).expect("has no room");
        assert!(
            told.contains("4096 tokens at most")
                && told.contains("qnn")
                && told.contains("8192 wanted"),
            "{told}"
        );
        let short = "ecosystem = 'qnn'\ncontext = 4096";
        assert_eq!(reason(rows, "Test Mini, NPU", short), None);
        // Other software for it names no limit.
        assert_eq!(reason(rows, "Test Mini, NPU", "context = 8192"), None);
        let own = rows.replace("qnn", "troika");
        for (context, is_lost) in [(4096, false), (4097, true)] {
            let told = reason(&own, "this machine: npu0", &format!("context = {context}"));
            assert_eq!(told.is_some(), is_lost, "{told:?}");
        }
    }
}
