//! Speeds that were measured: by `troika devices --measure --model`, and those that were imported. Plans are corrected by them.

use std::collections::HashMap;
use std::path::Path;

use troika_gguf::ModelFile;
use troika_machine::Machine;
use troika_machine::measure::{self, ModelRun, Quantity};
use troika_planner::catalogue::Catalogue;
use troika_planner::import::{Conditions, Measurement, What};
use troika_planner::model::{ModelShape, read_file};
use troika_planner::plan::Measured;
use troika_planner::plan::measured::recognise;
use troika_planner::quantization::Quantization;

use crate::home::Home;
use crate::measurements::Measurements;
use crate::output::{Console, printable};

/// All speeds that are known, of this machine's devices and of other chips.
pub(super) fn known(
    home: &Home,
    machine: Option<&Machine>,
    catalogue: &Catalogue,
    console: &Console,
) -> Measured {
    let store = Measurements::of(home);
    let mut measurements = match store.load() {
        Ok((measurements, _)) => measurements,
        // A plan can be made without them.
        Err(error) => {
            console.note(format_args!("nothing imported is used: {error:#}"));
            Vec::new()
        }
    };
    let mut files = Files::default();
    for measured in machine
        .into_iter()
        .flat_map(|machine| &machine.measurements)
    {
        if let Some((measurement, run)) = machine.and_then(|machine| of_run(machine, measured)) {
            files.add(&measurement, run);
            measurements.push(measurement);
        }
    }
    let all = Measured::new(measurements, catalogue, |measurement| {
        files
            .model(measurement)
            .or_else(|| recognise(measurement, catalogue))
    });
    if !all.unknown_models().is_empty() {
        console.detail(format_args!(
            "measured speeds that are not used, as their models are unknown: {}",
            printable(&all.unknown_models().join(", "))
        ));
    }
    all
}

/// Models that ran here, by name: the files that they were, as long as they are there.
#[derive(Default)]
struct Files(HashMap<String, Option<(ModelShape, Quantization)>>);

impl Files {
    fn add(&mut self, measurement: &Measurement, run: &ModelRun) {
        let path = run.path.as_deref();
        self.0
            .entry(key(measurement))
            .or_insert_with(|| read(path?, run.parameters));
    }

    fn model(&self, measurement: &Measurement) -> Option<(ModelShape, Quantization)> {
        self.0.get(&key(measurement)).cloned().flatten()
    }
}

fn key(measurement: &Measurement) -> String {
    let Measurement { model, quant, .. } = measurement;
    format!("{model:?} {quant:?}")
}

/// The model of a file, if it is still the one that was measured.
fn read(path: &Path, parameters: u64) -> Option<(ModelShape, Quantization)> {
    let file = ModelFile::open(path).ok()?;
    let (shape, quantization) = read_file(&file).ok()?;
    (shape.params == parameters).then_some((shape, quantization))
}

/// A run of a model on a device of this machine, in the words of those that are imported.
fn of_run<'m>(
    machine: &Machine,
    measured: &'m measure::Measurement,
) -> Option<(Measurement, &'m ModelRun)> {
    let run = measured.model.as_ref()?;
    let what = match measured.quantity {
        Quantity::DecodeTps => What::DecodeTps,
        Quantity::PrefillTps => What::PrefillTps,
        _ => return None,
    };
    let device = machine
        .processors
        .iter()
        .find(|processor| processor.id == measured.device)?;
    let count = |n: u32| Some(f64::from(n));
    let measurement = Measurement {
        source: "troika devices --measure".to_owned(),
        device: Some(device.profile.name.clone()),
        engine: Some("troika".to_owned()),
        backend: Some("cpu".to_owned()),
        model: Some(run.name.clone()),
        quant: Some(run.quantization.clone()),
        what,
        value: measured.value,
        unit: what.unit().to_owned(),
        low: Some(measured.min),
        high: Some(measured.max),
        conditions: Conditions {
            prompt_tokens: count(run.n_prompt),
            gen_tokens: count(run.n_gen),
            depth: count(run.depth),
            batch: count(run.batch),
            threads: measured.threads.map(f64::from),
            more: [("parameters".to_owned(), run.parameters.to_string())].into(),
            ..Conditions::default()
        },
        when: Some(measured.at.clone()),
    };
    Some((measurement, run))
}
