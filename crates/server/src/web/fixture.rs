//! States that were made up, of real types: what the page and `troika top` are tried with.
//!
//! Each is kept as JSON in `fixtures/`, where those who read the wire find it; a test holds the files to the types.

use std::collections::BTreeMap;

use troika_base::{Bytes, DeviceKind};
use troika_scheduler::{
    Account, BudgetView, Candidate, Cause, Class, Decision, DeviceId, DeviceView, Goal, Heat,
    JobForecast, JobId, JobView, JoulesSource, Lost, ModelId, Phase, Policy, PoolId, PoolView,
    Power, QueueView, ResidentView, Snapshot, Span, Time,
};

use crate::backend::{Compiling, Stage};
use crate::{Placement, State};

const GIB: u64 = 1 << 30;

fn gib(value: f64) -> Bytes {
    Bytes((value * GIB as f64) as u64)
}

fn device(id: u16, name: &str, chip: &str, kind: DeviceKind) -> DeviceView {
    DeviceView {
        id: DeviceId(id),
        name: name.to_owned(),
        chip: chip.to_owned(),
        kind,
        state: "ready".to_owned(),
        heat: Heat::Normal,
        busy: 0.0,
        beside: 0,
        watts: 0.0,
        watts_source: JoulesSource::Estimated,
        joules_busy: 0.0,
        joules_idle: 0.0,
        prefill_tokens: 0,
        decode_tokens: 0,
        models: Vec::new(),
    }
}

fn resident(model: u32, name: &str, bytes: f64, jobs: usize, pages: [u32; 2]) -> ResidentView {
    ResidentView {
        model: ModelId(model),
        name: name.to_owned(),
        state: "ready",
        bytes: gib(bytes),
        bytes_predicted: gib(bytes * 0.97),
        jobs,
        pages_used: pages[0],
        pages: pages[1],
        correction: [1.08, 0.94],
    }
}

fn job(number: u64, model: u32, class: Class, device: u16, phase: Phase) -> JobView {
    JobView {
        job: JobId(number),
        model: ModelId(model),
        class,
        device: DeviceId(device),
        phase,
        tokens: [96, 512],
        age_s: 4.2,
        why: "least cost by the policy".to_owned(),
    }
}

fn queues(waiting: [(usize, usize, f64); 4]) -> Vec<QueueView> {
    let queue = |(class, (waiting, running, oldest_s))| QueueView {
        class,
        waiting,
        running,
        oldest_s,
    };
    Class::ALL.into_iter().zip(waiting).map(queue).collect()
}

/// A laptop whose three processors all have something to do.
pub(super) fn busy() -> State {
    let cpu = DeviceView {
        busy: 0.34,
        watts: 14.2,
        watts_source: JoulesSource::Measured,
        heat: Heat::Warm,
        joules_busy: 2_410.0,
        joules_idle: 830.0,
        prefill_tokens: 48_210,
        decode_tokens: 9_120,
        models: vec![resident(3, "embeddinggemma", 0.3, 1, [12, 64])],
        ..device(0, "cpu0", "Intel Core Ultra 7 258V", DeviceKind::Cpu)
    };
    let gpu = DeviceView {
        busy: 0.91,
        watts: 21.7,
        joules_busy: 18_240.0,
        joules_idle: 412.0,
        prefill_tokens: 312_400,
        decode_tokens: 88_031,
        models: vec![
            resident(1, "qwen3-8b", 6.1, 3, [212, 256]),
            ResidentView {
                state: "loading",
                ..resident(4, "mistral-small", 3.0, 0, [0, 0])
            },
        ],
        ..device(1, "gpu0", "Intel Arc 140V", DeviceKind::Gpu)
    };
    let npu = DeviceView {
        busy: 0.78,
        watts: 4.1,
        joules_busy: 1_890.0,
        joules_idle: 96.0,
        prefill_tokens: 90_112,
        decode_tokens: 21_770,
        models: vec![resident(2, "llama3.2-3b", 2.2, 1, [31, 128])],
        ..device(2, "npu0", "Intel AI Boost (NPU 4)", DeviceKind::Npu)
    };
    State {
        snapshot: Snapshot {
            at: Time::from_seconds(3_725.5),
            policy: Policy::of(Goal::Balanced),
            power: Power::Battery {
                percent: Some(71.0),
            },
            devices: vec![cpu, gpu, npu],
            pools: vec![PoolView {
                id: PoolId(0),
                name: "ram".to_owned(),
                capacity: gib(31.5),
                reserve: gib(3.0),
                others: gib(9.2),
                models: gib(8.6),
                loading: gib(3.0),
            }],
            queues: queues([(0, 2, 0.0), (1, 1, 0.4), (5, 2, 12.8), (140, 0, 96.0)]),
            away: Vec::new(),
            jobs: busy_jobs(),
            budget: Some(BudgetView {
                watt_hours: 150.0,
                spent: 61.3,
            }),
        },
        models: names([
            (1, "qwen3-8b"),
            (2, "llama3.2-3b"),
            (3, "embeddinggemma"),
            (4, "mistral-small"),
        ]),
        requests: (401..=405).map(|job| (job, format!("req-{job}"))).collect(),
        posing: None,
        machine_watts: None,
        compiling: vec![
            Compiling {
                model: 1,
                device: "npu0".to_owned(),
                stage: Stage::Compiling,
                done: gib(3.4),
                total: gib(4.9),
                why: None,
            },
            Compiling {
                model: 4,
                device: "npu0".to_owned(),
                stage: Stage::Waiting,
                done: Bytes(0),
                total: Bytes(0),
                why: None,
            },
        ],
    }
}

fn busy_jobs() -> Vec<JobView> {
    use Class::{Agent, Background, Interactive};
    vec![
        JobView {
            tokens: [1_536, 4_096],
            age_s: 1.9,
            why: "its usual device, gpu0, is full".to_owned(),
            ..job(404, 3, Background, 0, Phase::Prefill)
        },
        JobView {
            age_s: 6.4,
            ..job(401, 1, Interactive, 1, Phase::Decode)
        },
        JobView {
            tokens: [700, 2_048],
            age_s: 0.6,
            ..job(405, 1, Interactive, 1, Phase::Prefill)
        },
        JobView {
            tokens: [310, 1_024],
            age_s: 11.0,
            ..job(403, 1, Agent, 1, Phase::Decode)
        },
        JobView {
            tokens: [18, 256],
            age_s: 9.3,
            why: "most frugal where its class's needs are met".to_owned(),
            ..job(402, 2, Background, 2, Phase::Decode)
        },
    ]
}

fn names<const N: usize>(names: [(u32, &str); N]) -> BTreeMap<u32, String> {
    names
        .map(|(id, name)| (id, name.to_owned()))
        .into_iter()
        .collect()
}

/// A server that has just begun: a processor under probe, nothing to do.
pub(super) fn empty() -> State {
    let cpu = DeviceView {
        state: "probing".to_owned(),
        ..device(0, "cpu0", "AMD Ryzen AI 9 HX 370", DeviceKind::Cpu)
    };
    State {
        snapshot: Snapshot {
            at: Time::from_seconds(0.2),
            policy: Policy::default(),
            power: Power::Mains,
            devices: vec![cpu],
            pools: vec![PoolView {
                id: PoolId(0),
                name: "ram".to_owned(),
                capacity: gib(27.1),
                reserve: gib(2.0),
                others: gib(6.0),
                models: Bytes(0),
                loading: Bytes(0),
            }],
            queues: queues([(0, 0, 0.0); 4]),
            away: Vec::new(),
            jobs: Vec::new(),
            budget: None,
        },
        models: BTreeMap::new(),
        requests: BTreeMap::new(),
        posing: None,
        machine_watts: None,
        compiling: Vec::new(),
    }
}

/// A device that is lost, memory that is overdrawn, names in other scripts and names that mean harm.
pub(super) fn odd() -> State {
    let hostile = "<img src=x onerror=alert(1)>\u{1b}[2J\u{202e}";
    let lost = DeviceView {
        state: "lost: answered the known question wrongly\u{7}".to_owned(),
        heat: Heat::Hot,
        ..device(0, "gpu0", hostile, DeviceKind::Gpu)
    };
    let shared = DeviceView {
        busy: 1.0,
        watts: 388.0,
        watts_source: JoulesSource::Mixed,
        models: vec![
            ResidentView {
                state: "leaving",
                ..resident(7, "千问-8b-とても長い名前のモデル", 40.0, 1, [64, 64])
            },
            resident(8, hostile, 2.0, 0, [0, 16]),
        ],
        ..device(
            1,
            "gpu1+cpu0",
            "GeForce RTX 3090 + Ryzen 9 5950X",
            DeviceKind::Gpu,
        )
    };
    State {
        snapshot: Snapshot {
            at: Time::from_seconds(90_061.0),
            policy: Policy::preferring(DeviceKind::Npu),
            power: Power::Mains,
            devices: vec![lost, shared],
            pools: vec![PoolView {
                id: PoolId(0),
                name: "ram".to_owned(),
                capacity: gib(32.0),
                reserve: gib(3.0),
                others: gib(30.0),
                models: gib(4.0),
                loading: Bytes(0),
            }],
            queues: queues([(0, 1, 0.0), (0, 0, 0.0), (0, 0, 0.0), (99_999, 0, 90_000.0)]),
            away: Vec::new(),
            jobs: vec![
                JobView {
                    tokens: [0, 0],
                    age_s: 7_261.0,
                    why: hostile.to_owned(),
                    ..job(9, 7, Class::Interactive, 1, Phase::Decode)
                },
                // A model that nobody named.
                job(10, 99, Class::Batch, 1, Phase::Prefill),
            ],
            budget: Some(BudgetView {
                watt_hours: 100.0,
                spent: 104.0,
            }),
        },
        models: names([(7, "千问-8b-とても長い名前のモデル"), (8, hostile)]),
        requests: BTreeMap::new(),
        posing: None,
        machine_watts: None,
        compiling: Vec::new(),
    }
}

/// How job 404 of [`busy`] was placed: it spilled over.
pub(super) fn placements() -> Vec<Placement> {
    let forecast = |wait_s, prefill_s, joules, score| JobForecast {
        wait_s,
        prefill_s,
        joules: Some(joules),
        score,
        spread: 1.4,
        ..JobForecast::default()
    };
    let candidate = |device, forecast, lost| Candidate {
        prefill: DeviceId(device),
        decode: DeviceId(device),
        forecast,
        lost,
    };
    vec![Placement {
        model: "embeddinggemma".to_owned(),
        devices: ["cpu0", "gpu0", "npu0"].map(str::to_owned).to_vec(),
        decisions: vec![Decision {
            job: JobId(404),
            at: Time::from_seconds(3_723.6),
            class: Class::Background,
            policy: Policy::of(Goal::Balanced),
            cause: Cause::Spill,
            prefill: DeviceId(0),
            decode: DeviceId(0),
            candidates: vec![
                candidate(0, Some(forecast(0.0, 3.1, 44.0, 47.1)), None),
                candidate(
                    1,
                    Some(forecast(28.0, 0.9, 19.5, 61.2)),
                    Some(Lost::Worse { factor: 1.3 }),
                ),
                candidate(
                    2,
                    None,
                    Some(Lost::Unsupported {
                        because: "npu0 has no form of this model".to_owned(),
                    }),
                ),
            ],
        }],
        account: None,
    }]
}

/// How the job of a request was placed that is done: it began on one device, and was written on the other.
pub(super) fn done() -> Vec<Placement> {
    let [mut placement] = <[Placement; 1]>::try_from(placements()).expect("there is one");
    let expected = placement.decisions[0].candidates[0].forecast;
    let span = |device, phase, tokens, device_s, joules| Span {
        device: DeviceId(device),
        phase,
        tokens,
        device_s,
        joules: Some(joules),
    };
    placement.account = Some(Account {
        spans: vec![
            span(0, Phase::Prefill, 4096, 3.35, 46.9),
            span(1, Phase::Decode, 64, 0.62, 9.4),
        ],
        queue_s: 0.012,
        ttft_s: Some(3.41),
        prefill_tokens: 4096,
        prefill_s: 3.4,
        decode_tokens: 64,
        decode_s: 2.9,
        joules: Some(56.3),
        joules_source: JoulesSource::Mixed,
        expected,
        moves: 1,
        replays: 0,
    });
    vec![placement]
}

/// The files, each with what is in it.
fn files() -> [(&'static str, String); 5] {
    let json = |value: serde_json::Result<String>| value.expect("is JSON") + "\n";
    [
        ("busy", json(serde_json::to_string_pretty(&busy()))),
        ("empty", json(serde_json::to_string_pretty(&empty()))),
        ("odd", json(serde_json::to_string_pretty(&odd()))),
        (
            "placements",
            json(serde_json::to_string_pretty(&placements())),
        ),
        ("done", json(serde_json::to_string_pretty(&done()))),
    ]
}

/// After a change of the types, `TROIKA_UPDATE_FIXTURES=1 cargo test -p troika-server fixtures` writes the files anew.
#[test]
fn fixtures_are_what_the_types_say() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/fixtures");
    for (name, want) in files() {
        let path = format!("{directory}/{name}.json");
        if std::env::var_os("TROIKA_UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(have.replace("\r\n", "\n"), want, "{path}");
    }
}
