//! Software, and what else a buyer should know before: rates that only look high, limits of NPUs, old prices.

use troika_base::Estimate;

use super::candidate::Candidate;
use super::judge::Court;
use super::rig::Rig;
use super::shapes::{self, Room};
use super::verdict::{Lost, Requirement, Risk};
use super::workload::{Task, Workload};
use crate::catalogue::{Block, Catalogue, Chip, Date, Kind, State, Support, Unit};
use crate::cost::{Backend, Forecast};

/// The software of a word in the catalogue's matrix.
pub(super) fn backend_of(name: &str) -> Option<Backend> {
    use Backend::{CoreMl, Cpu, Cuda, Metal, OpenVino, Qnn, Rocm, Sycl, VitisAi, Vulkan};
    let all = [
        Cuda, Rocm, Metal, Vulkan, Sycl, OpenVino, Qnn, VitisAi, CoreMl, Cpu,
    ];
    all.into_iter()
        .find(|&backend| runtime_name(backend) == name)
}

/// The word for software in the catalogue's matrix.
pub fn runtime_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Cuda => "cuda",
        Backend::Rocm => "rocm",
        Backend::Metal => "metal",
        Backend::Vulkan => "vulkan",
        Backend::Sycl => "sycl",
        Backend::OpenVino => "openvino",
        Backend::Qnn => "qnn",
        Backend::VitisAi => "vitisai",
        Backend::CoreMl => "coreml",
        Backend::Cpu => "cpu",
    }
}

/// The families of a block, as the support matrix has them.
fn families(chip: &Chip, block: Block) -> Vec<&str> {
    match (block, chip.kind) {
        (Block::Npu, Kind::Soc | Kind::Npu | Kind::Accelerator) => {
            vec![chip.npu_family.as_deref().unwrap_or(&chip.family)]
        }
        (Block::Cpu, _) => match chip.vendor.as_str() {
            "intel" | "amd" => vec!["x86"],
            _ => vec!["arm"],
        },
        _ => vec![&chip.family],
    }
}

/// Rows of the support matrix for a block.
pub(super) fn rows<'c>(catalogue: &'c Catalogue, chip: &Chip, block: Block) -> Vec<&'c Support> {
    let families = families(chip, block);
    let is_of = |row: &&Support| {
        row.families
            .iter()
            .any(|family| families.contains(&family.as_str()))
    };
    catalogue.support().iter().filter(is_of).collect()
}

/// Whether there is software for the job on every block of a candidate.
pub(super) fn software(
    candidate: &Candidate<'_>,
    workload: &Workload,
    catalogue: &Catalogue,
) -> Result<(), Lost> {
    let lost = |reason| {
        Err(Lost {
            requirement: Requirement::Software,
            reason,
        })
    };
    let job = workload.task.job();
    for &(chip, block) in &candidate.blocks {
        if workload.task == Task::Train && block == Block::Npu {
            return lost(super::train::NPU_REASON.to_owned());
        }
        let rows = rows(catalogue, chip, block);
        let families = families(chip, block).join(", ");
        if let Some(backend) = workload.ecosystem {
            let name = runtime_name(backend);
            let found = rows.iter().find(|row| row.runtime == name);
            if backend != Backend::Cpu && found.is_none_or(|row| row.jobs.of(job) == State::None) {
                return lost(format!(
                    "{name} is wanted, and does not do `{}` on {families}",
                    workload.task.name()
                ));
            }
        }
        let best = rows.iter().map(|row| row.jobs.of(job)).max();
        if best == Some(State::None) {
            return lost(format!(
                "no software is known that does `{}` on {families}",
                workload.task.name()
            ));
        }
    }
    Ok(())
}

/// Whether there is software that lets the candidate's NPU read for its GPU.
pub(super) fn phases(candidate: &Candidate<'_>, catalogue: &Catalogue) -> Result<(), Lost> {
    let npu = candidate
        .blocks
        .iter()
        .find(|(_, block)| *block == Block::Npu);
    let hands_over = |chip| {
        rows(catalogue, chip, Block::Npu)
            .iter()
            .any(|row| row.phases)
    };
    match npu {
        Some(&(chip, _)) if !hands_over(chip) => Err(Lost {
            requirement: Requirement::Software,
            reason: format!(
                "no software is known that reads on an NPU of the family {} and writes on the GPU",
                families(chip, Block::Npu).join(", ")
            ),
        }),
        _ => Ok(()),
    }
}

/// All that a buyer should know of a candidate.
pub(super) fn risks(
    candidate: &Candidate<'_>,
    rig: &Rig,
    forecast: Option<&Forecast>,
    court: &Court<'_>,
) -> Vec<Risk> {
    let (workload, catalogue, today) = (court.workload, court.catalogue, court.today);
    let mut risks = Vec::new();
    for &(chip, block) in &candidate.blocks {
        of_software(&mut risks, chip, block, workload, catalogue);
        of_rates(&mut risks, chip, block);
        if block == Block::Npu {
            let room = shapes::room(candidate, rig, workload, catalogue);
            of_npu(&mut risks, chip, room, forecast);
        }
        if chip.released.is_none() || chip.released > Some(today) {
            let announced = chip
                .announced
                .map_or_else(String::new, |day| format!(", announced {day}"));
            add(
                &mut risks,
                format!("{}: no date of sale is known{announced}", chip.name),
                chip,
            );
        }
    }
    of_money(&mut risks, candidate, catalogue, today);
    of_egress(&mut risks, candidate, workload, catalogue);
    if let Some(forecast) = forecast {
        of_forecast(&mut risks, forecast, workload);
    }
    risks
}

fn add(risks: &mut Vec<Risk>, what: String, chip: &Chip) {
    risks.push(Risk {
        what,
        source: format!("{}, {}", chip.source.url, chip.source.date),
    });
}

fn of_software(
    risks: &mut Vec<Risk>,
    chip: &Chip,
    block: Block,
    workload: &Workload,
    catalogue: &Catalogue,
) {
    let rows = rows(catalogue, chip, block);
    let job = workload.task.job();
    let Some(best) = rows.iter().max_by_key(|row| row.jobs.of(job)) else {
        let what = format!(
            "nothing is known of software for {}",
            families(chip, block).join(", ")
        );
        risks.push(Risk {
            what,
            source: "the catalogue's support matrix".to_owned(),
        });
        return;
    };
    let degree = match best.jobs.of(job) {
        State::Full | State::None => return,
        State::Partial => "some models or formats only",
        State::Experimental => "experimental",
    };
    let note = best
        .note
        .as_deref()
        .map_or_else(String::new, |note| format!(": {note}"));
    risks.push(Risk {
        what: format!(
            "{} does `{}` on it, {degree}{note}",
            best.runtime,
            workload.task.name()
        ),
        source: format!("{}, {}", best.source.url, best.source.date),
    });
}

fn of_rates(risks: &mut Vec<Risk>, chip: &Chip, block: Block) {
    let matrix = || {
        chip.rates
            .iter()
            .filter(|rate| rate.block == block && rate.unit == Unit::Matrix)
    };
    for rate in matrix().filter(|rate| rate.dense.is_none()) {
        if let Some(sparse) = rate.sparse {
            let format = format!("{:?}", rate.format).to_uppercase();
            add(
                risks,
                format!(
                    "{sparse:.0} TOPS {format} are stated with sparsity alone, and not counted"
                ),
                chip,
            );
        }
    }
    if matrix().any(|rate| rate.basis.is_some()) {
        add(
            risks,
            "the vendor does not say for which format or density its TOPS are".to_owned(),
            chip,
        );
    }
}

fn of_npu(risks: &mut Vec<Risk>, chip: &Chip, room: Option<Room<'_>>, forecast: Option<&Forecast>) {
    let contexts = room.map_or_else(
        || "long contexts may not be had".to_owned(),
        |room| {
            format!(
                "contexts have {} tokens at most ({})",
                room.tokens, room.row.runtime
            )
        },
    );
    add(
        risks,
        format!(
            "an NPU runs graphs compiled for fixed shapes: a model takes minutes to compile, and {contexts}"
        ),
        chip,
    );
    let limits = chip.limits.unwrap_or_default();
    if let (Some(session_gb), Some(forecast)) = (limits.npu_session_gb, forecast) {
        let weights_gb = forecast.memory.weights as f64 / 1e9;
        if weights_gb > session_gb {
            let sessions = (weights_gb / session_gb).ceil();
            add(
                risks,
                format!(
                    "{weights_gb:.1} GB of weights take {sessions:.0} sessions of {session_gb} GB on the NPU"
                ),
                chip,
            );
        }
    }
}

fn of_money(risks: &mut Vec<Risk>, candidate: &Candidate<'_>, catalogue: &Catalogue, today: Date) {
    let stale_days = catalogue.thresholds().stale_price_days;
    let outlay = candidate.outlay.as_ref();
    let oldest = outlay.map(|outlay| outlay.oldest).into_iter();
    let dates = oldest.chain(candidate.offer.map(|offer| offer.source.date));
    for date in dates {
        let age_days = date.days_until(today);
        if f64::from(age_days) > stale_days {
            risks.push(Risk {
                what: format!("its price is {age_days} days old: ask again before you decide"),
                source: format!("price of {date}"),
            });
        }
    }
    for part in outlay.iter().flat_map(|outlay| &outlay.lacking) {
        risks.push(Risk {
            what: format!("no {part} that fits is in the price list; it is not in the sum"),
            source: "the catalogue's prices".to_owned(),
        });
    }
    for check in outlay
        .iter()
        .flat_map(|outlay| &outlay.checks)
        .filter(|check| check.holds == Some(false))
    {
        risks.push(Risk {
            what: format!("{}: {}", check.what, check.finding),
            source: "the parts' data sheets".to_owned(),
        });
    }
    let Some(offer) = candidate.offer else {
        return;
    };
    let source = || format!("{}, {}", offer.source.url, offer.source.date);
    if candidate.is_spot {
        risks.push(Risk {
            what: "spot: the provider may take the node back at any time".to_owned(),
            source: source(),
        });
    }
    if offer.sla.is_none() {
        risks.push(Risk {
            what: format!("{} states no availability for it", offer.provider),
            source: source(),
        });
    }
}

/// Data out whose price nobody told is not in the bill, which is said.
fn of_egress(
    risks: &mut Vec<Risk>,
    candidate: &Candidate<'_>,
    workload: &Workload,
    catalogue: &Catalogue,
) {
    let expenses = &workload.expenses;
    let gb = expenses.egress_gb_month.filter(|&gb| gb > 0.0);
    let (Some(gb), Some(offer)) = (gb, candidate.offer) else {
        return;
    };
    let to = expenses.egress_to.unwrap_or_default();
    if catalogue.egress_of(&offer.provider, to).is_none() {
        risks.push(Risk {
            what: format!(
                "what {} asks for data out is not known: {gb} GB a month are not in the bill",
                offer.provider
            ),
            source: "the catalogue's prices of data out".to_owned(),
        });
    }
}

fn of_forecast(risks: &mut Vec<Risk>, forecast: &Forecast, workload: &Workload) {
    let mut say = |what: String| {
        risks.push(Risk {
            what,
            source: "the cost model".to_owned(),
        });
    };
    for note in &forecast.notes {
        say(note.clone());
    }
    let may_fail = |estimate: Estimate, want: f64| estimate.low < want && estimate.value >= want;
    if let Some(want) = workload
        .tps
        .filter(|&want| may_fail(forecast.decode_tps, want))
    {
        say(format!(
            "may fall short of {want} tok/s: one in ten does {:.1} or less",
            forecast.decode_tps.low
        ));
    }
    let ttft = forecast.ttft_s.zip(workload.ttft_s);
    if let Some((ttft, want)) = ttft.filter(|(ttft, want)| ttft.value <= *want && ttft.high > *want)
    {
        say(format!(
            "the first token may take longer than {want} s: one in ten takes {:.1} s or more",
            ttft.high
        ));
    }
    if forecast.watts_decode.is_none() {
        say("its watts are not known, so electricity is left out".to_owned());
    }
    if workload.task == Task::Transcribe {
        say("speech models are forecast as text models of their shape: take speeds as a rough guide".to_owned());
    }
}
