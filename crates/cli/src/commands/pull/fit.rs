//! Whether a model that is still elsewhere would run here, and how fast: the planner's estimate of its head.

use troika_base::{Bytes, DeviceKind};
use troika_machine::Machine;
use troika_planner::cost::{self, Forecast, Refusal, Setup, Slot, Work};
use troika_planner::model::{ModelShape, read_file};
use troika_planner::plan::HereDevice;
use troika_planner::quantization::Quantization;
use troika_pull::Look;
use troika_server::{Fit, Verdict};

use crate::commands::plan::here;
use crate::output;

/// A conversation of some length, in which the estimate is made.
const CONTEXT: u32 = 4096;

/// Of the memory that is free, more than this leaves other programs short.
const TIGHT: f64 = 0.85;

/// What a model takes beside its weights, where nothing but its size is known.
const BESIDE_WEIGHTS: f64 = 1.2;

/// A device on which it would run.
struct Candidate {
    device: String,
    need: u64,
    free: Option<u64>,
    tps: Option<f64>,
}

/// How a model that was looked at stands to this machine.
pub(crate) fn judge(look: &Look, machine: &Machine) -> Fit {
    let here = here::find(machine, None);
    // An NPU runs what was compiled for it, which nobody has done yet.
    let usable =
        |device: &&HereDevice| device.blocked.is_none() && device.profile.kind != DeviceKind::Npu;
    let devices: Vec<_> = here.devices.iter().filter(usable).collect();
    let read = look.head.as_ref().map(read_file);
    match read {
        Some(Ok((shape, quantization))) => by_head(&devices, &shape, &quantization),
        Some(Err(error)) => unknown(format!(
            "the head of the file is no language model's: {error}"
        )),
        None => by_size(&devices, look.bytes),
    }
}

fn by_head(devices: &[&HereDevice], shape: &ModelShape, quantization: &Quantization) -> Fit {
    let mut best: Option<Candidate> = None;
    let mut refused = Vec::new();
    for device in devices {
        match candidate(device, shape, quantization) {
            Ok(found) => {
                let faster = best.as_ref().is_none_or(|best| found.tps > best.tps);
                if faster {
                    best = Some(found);
                }
            }
            Err(refusal) => refused.push((device, refusal)),
        }
    }
    match best {
        Some(best) => fits(&best),
        None => {
            let streaming = refused.iter().find_map(|(device, refusal)| match refusal {
                Refusal::DoesNotFit { needs, has } => {
                    streams(device, shape, quantization, (*needs, *has))
                }
                _ => None,
            });
            streaming.unwrap_or_else(|| does_not_fit(&refused))
        }
    }
}

fn setup(device: &HereDevice) -> Setup<'_> {
    let slot = Slot {
        device: &device.profile,
        memory_free: device.memory_free,
    };
    Setup::by_layers([slot], None)
}

fn work() -> Work {
    Work {
        gen_tokens: 128,
        context: CONTEXT,
        ..Work::alone(512, 0)
    }
}

fn candidate(
    device: &HereDevice,
    shape: &ModelShape,
    quantization: &Quantization,
) -> Result<Candidate, Refusal> {
    let (setup, work) = (setup(device), work());
    let free = device.memory_free.or(device.profile.memory);
    let found = |need, tps| Candidate {
        device: device.id.clone(),
        need,
        free: free.map(|it| it.0),
        tps,
    };
    match cost::forecast(&setup, shape, quantization, &work, None) {
        Ok(Forecast {
            memory, decode_tps, ..
        }) => Ok(found(memory.total(), Some(decode_tps.value))),
        // Nobody measured it: whether it fits can be told all the same.
        Err(Refusal::Unknown { .. }) => {
            let need = cost::memory_need(&setup, shape, quantization, &work)?.total();
            match free {
                Some(free) if free.0 < need => Err(Refusal::DoesNotFit {
                    needs: need,
                    has: free.0,
                }),
                _ => Ok(found(need, None)),
            }
        }
        Err(other) => Err(other),
    }
}

/// A mixture of experts that does not fit, and runs all the same with its experts in the file.
fn streams(
    device: &HereDevice,
    shape: &ModelShape,
    quantization: &Quantization,
    (needs, has): (u64, u64),
) -> Option<Fit> {
    let streamed = cost::streamed(&setup(device), shape, quantization, &work())?;
    let memory = streamed.memory.total();
    (memory <= has).then(|| Fit {
        verdict: Verdict::Tight,
        memory_bytes: Some(memory),
        tokens_per_second: None,
        device: Some(device.id.clone()),
        why: format!(
            "takes {}, {} has {} free; `troika run` leaves its experts in the file then, with {} of memory at least and up to \
             {} read for each token",
            Bytes(needs),
            device.id,
            Bytes(has),
            Bytes(memory),
            Bytes(streamed.read_per_step),
        ),
    })
}

fn fits(best: &Candidate) -> Fit {
    let (need, device) = (Bytes(best.need), &best.device);
    let room = match best.free {
        Some(free) => format!("takes {need} of {} that {device} has free", Bytes(free)),
        None => format!("takes {need} on {device}, whose free memory is not known"),
    };
    let tight = best
        .free
        .is_some_and(|free| best.need as f64 > free as f64 * TIGHT);
    let (verdict, rest) = match (best.free, tight) {
        (None, _) => (Verdict::Unknown, ""),
        (Some(_), true) => (Verdict::Tight, "; other programs may run short"),
        (Some(_), false) => (Verdict::Fits, ""),
    };
    let speed = match best.tps {
        Some(tps) => format!(", about {} tokens a second", output::number(tps)),
        None => "; how fast, `troika devices --measure` lets be told".to_owned(),
    };
    Fit {
        verdict,
        memory_bytes: Some(best.need),
        tokens_per_second: best.tps,
        device: Some(device.clone()),
        why: format!("{room}{rest}{speed}"),
    }
}

/// Why no device holds it, by the one that comes closest.
fn does_not_fit(refused: &[(&&HereDevice, Refusal)]) -> Fit {
    let sizes = refused
        .iter()
        .filter_map(|(device, refusal)| match refusal {
            Refusal::DoesNotFit { needs, has } => Some((device, *needs, *has)),
            _ => None,
        });
    let Some((device, needs, has)) = sizes.max_by_key(|(.., has)| *has) else {
        let why = refused.first().map(|(_, refusal)| refusal.to_string());
        return unknown(why.unwrap_or_else(|| "no device is known here".to_owned()));
    };
    let (need, free) = (Bytes(needs), Bytes(has));
    // A model that the machine could hold if it did nothing else.
    let could = device.profile.memory.is_some_and(|all| all.0 >= needs);
    let (verdict, rest) = match could {
        true => (Verdict::Tight, "; other programs would have to end first"),
        false => (
            Verdict::DoesNotFit,
            "; take a smaller one, or one with fewer bits",
        ),
    };
    Fit {
        verdict,
        memory_bytes: Some(needs),
        tokens_per_second: None,
        device: Some(device.id.clone()),
        why: format!("takes {need}, {} has {free} free{rest}", device.id),
    }
}

/// By the file's size alone.
fn by_size(devices: &[&HereDevice], bytes: u64) -> Fit {
    let need = (bytes as f64 * BESIDE_WEIGHTS) as u64;
    let free = |device: &&&HereDevice| device.memory_free.or(device.profile.memory);
    let Some(device) = devices.iter().max_by_key(|it| free(it)) else {
        return unknown("no device is known here".to_owned());
    };
    let best = Candidate {
        device: device.id.clone(),
        need,
        free: free(&device).map(|it| it.0),
        tps: None,
    };
    let mut fit = fits(&best);
    if best.free.is_some_and(|free| free < need) {
        fit.verdict = Verdict::DoesNotFit;
    }
    fit.why = format!("by its size alone, it {}", fit.why);
    fit
}

fn unknown(why: String) -> Fit {
    Fit {
        verdict: Verdict::Unknown,
        memory_bytes: None,
        tokens_per_second: None,
        device: None,
        why,
    }
}

#[cfg(test)]
mod tests {
    use troika_base::DeviceProfile;
    use troika_planner::catalogue::{Catalogue, shape};

    use super::*;

    fn verdict(model: &str, free_gib: u64) -> Fit {
        let profile = DeviceProfile {
            memory: Some(Bytes(64 << 30)),
            ..DeviceProfile::unknown("processor", DeviceKind::Cpu)
        };
        let device = HereDevice {
            id: "cpu0".to_owned(),
            profile: DeviceProfile {
                bandwidth_measured_gbs: Some(60.0),
                ..profile
            },
            memory_free: Some(Bytes(free_gib << 30)),
            blocked: None,
        };
        let found = Catalogue::builtin().model(model).expect("is listed");
        let quantization = Quantization::parse("Q4_K_M").expect("is known");
        by_head(&[&device], &shape(found.row), &quantization)
    }

    #[test]
    fn a_mixture_that_does_not_fit_runs_from_its_file() {
        let all = verdict("qwen3-30b-a3b", 40);
        assert_eq!(all.verdict, Verdict::Fits, "{}", all.why);
        let some = verdict("qwen3-30b-a3b", 6);
        assert_eq!(some.verdict, Verdict::Tight);
        assert!(some.why.contains("experts in the file"), "{}", some.why);
        assert!(some.memory_bytes < all.memory_bytes.map(|bytes| bytes / 4));
        // Not even what is no expert's.
        assert!(!verdict("qwen3-30b-a3b", 1).why.contains("experts"));
        // Nor where there are none.
        assert!(!verdict("qwen3-32b", 6).why.contains("experts"));
    }
}
