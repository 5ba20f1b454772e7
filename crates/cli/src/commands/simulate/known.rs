//! What is known by name: shapes of load, machines, schedulers.

use serde_json::json;
use troika_scheduler::Policy;
use troika_simulator::{SchedulerKind, Shape};

use crate::output::{self, Align, Console};

/// Machines to begin with. Any chip of the catalogue makes one.
const MACHINES: [(&str, &str); 5] = [
    (
        "core-ultra-258v",
        "a laptop with GPU and NPU, one memory for all",
    ),
    (
        "ryzen-ai-370+4090:32gb",
        "a laptop with GPU and NPU, and a card beside",
    ),
    ("ryzen-ai-max+-395", "a mini PC with much shared memory"),
    ("dual-3090", "a home rig of two cards"),
    ("here", "this computer"),
];

/// The names of machines.
pub(super) fn machines() -> String {
    let names = MACHINES.map(|(name, _)| name);
    format!(
        "{}, chips of the catalogue joined by `+`, and files",
        names.join(", ")
    )
}

/// The names of loads.
pub(super) fn loads() -> String {
    let names: Vec<_> = Shape::published()
        .iter()
        .map(|shape| &*shape.name)
        .collect();
    names.join(", ")
}

fn about(scheduler: SchedulerKind) -> &'static str {
    match scheduler {
        SchedulerKind::Troika => {
            "every job where it belongs, classes, spill-over; what is compared"
        }
        SchedulerKind::Static => {
            "each model on a GPU if one holds it, else on the processor, first come, first served"
        }
        SchedulerKind::GpuOnly => "the same, GPUs alone",
        SchedulerKind::NpuOnly => "the same, NPUs alone",
        SchedulerKind::CpuOnly => "the same, the processor alone",
    }
}

/// `--list`.
pub(super) fn run(console: &Console) -> anyhow::Result<()> {
    if console.json {
        let named = |(name, about): (&str, &str)| json!({ "name": name, "about": about });
        return output::json(&json!({
            "loads": Shape::published().iter().map(|shape| named((&shape.name, &shape.about))).collect::<Vec<_>>(),
            "machines": MACHINES.map(named),
            "schedulers": SchedulerKind::ALL.map(|kind| named((kind.name(), about(kind)))),
            "policies": Policy::names().collect::<Vec<_>>(),
        }));
    }
    output::answer(list())
}

fn list() -> String {
    let table = |rows: &[(String, String)]| {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, about)| [format!("  {name}"), about.clone()])
            .collect();
        output::table([Align::Left; 2], &rows)
    };
    let named = |name: &str, about: &str| (name.to_owned(), about.to_owned());
    let shapes: Vec<_> = Shape::published()
        .iter()
        .map(|shape| {
            let about = format!("{} minutes: {}", shape.minutes, shape.about);
            named(&shape.name, &about)
        })
        .collect();
    let machines = MACHINES.map(|(name, about)| named(name, about));
    let schedulers = SchedulerKind::ALL.map(|kind| named(kind.name(), about(kind)));
    let policies: Vec<_> = Policy::names().collect();
    format!(
        "Loads (--load), each with :minutes=, :scale=, :busy= and :seed= to change it:\n{}  poisson:rate=…  one stream of your own\n  FILE.jsonl      a trace\n\
         \nMachines (--machine), and any chips of the catalogue joined by `+`:\n{}\
         \nSchedulers (--against):\n{}\
         \nPolicies (--policy): {}\n",
        table(&shapes),
        table(&machines),
        table(&schedulers),
        policies.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use troika_planner::catalogue::Catalogue;
    use troika_simulator::VirtualMachine;

    use super::*;

    #[test]
    fn machines_that_are_named_are_there() {
        for (name, _) in MACHINES.iter().filter(|(name, _)| *name != "here") {
            let machine = VirtualMachine::named(name, Catalogue::builtin());
            assert!(machine.is_ok(), "{name}: {machine:?}");
        }
    }

    #[test]
    fn the_list_is_as_intended() {
        insta::assert_snapshot!("known", list());
    }
}
