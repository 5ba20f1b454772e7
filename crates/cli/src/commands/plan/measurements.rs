//! `troika plan measurements`: what was imported.

use troika_planner::import::Measurement;

use crate::home::Home;
use crate::measurements::Measurements;
use crate::output::{self, Align, Console, line, number, printable, say};

/// List the measurements that were imported
#[derive(Debug, clap::Args)]
pub(crate) struct MeasurementsArgs {
    /// Only those of a device or a model whose name holds this
    #[arg(value_name = "WORD")]
    word: Option<String>,
}

pub(crate) fn run(args: &MeasurementsArgs, console: &Console) -> anyhow::Result<()> {
    let store = Measurements::of(&Home::from_env()?);
    let (mut measurements, skipped) = store.load()?;
    if let Some(word) = &args.word {
        let word = word.to_lowercase();
        let holds = |name: &Option<String>| {
            name.as_ref()
                .is_some_and(|name| name.to_lowercase().contains(&word))
        };
        measurements.retain(|measurement| holds(&measurement.device) || holds(&measurement.model));
    }
    for skipped in &skipped {
        say(format_args!(
            "{}, {} is passed over: {}",
            store.path().display(),
            skipped.place,
            printable(&skipped.why)
        ));
    }
    if console.json {
        return output::json(&measurements);
    }
    if measurements.is_empty() {
        console.note("There are none; `troika plan import FILE` takes results of other programs.");
        return Ok(());
    }
    output::answer(table(&measurements))
}

/// The measurements in columns.
pub(super) fn table(measurements: &[Measurement]) -> String {
    let heading = [
        "what",
        "value",
        "unit",
        "model",
        "quant",
        "device",
        "conditions",
        "source",
    ];
    let text = |text: &Option<String>| line(text.as_deref().unwrap_or("-"), 36);
    let rows = measurements.iter().map(|measurement| {
        [
            measurement.what.name().to_owned(),
            number(measurement.value),
            line(&measurement.unit, 10),
            text(&measurement.model),
            text(&measurement.quant),
            text(&measurement.device),
            conditions(measurement),
            line(&measurement.source, 36),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(rows)
        .collect();
    use Align::{Left, Right};
    output::table([Left, Right, Left, Left, Left, Left, Left, Left], &rows)
}

/// `pp512 tg128 @4096 ×2`, as far as they are told.
fn conditions(measurement: &Measurement) -> String {
    let conditions = &measurement.conditions;
    let above = |value: Option<f64>, least: f64| value.filter(|&value| value > least);
    let parts = [
        above(conditions.prompt_tokens, 0.0).map(|n| format!("pp{n:.0}")),
        above(conditions.gen_tokens, 0.0).map(|n| format!("tg{n:.0}")),
        above(conditions.depth, 0.0).map(|n| format!("@{n:.0}")),
        above(conditions.batch, 1.0).map(|n| format!("×{n:.0}")),
        above(conditions.seconds, 0.0).map(|s| format!("{} s", number(s))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(" "),
    }
}
