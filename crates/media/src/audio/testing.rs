//! Models that are none, for tests without a file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use troika_device_npu::exec::{Data, Executor, Port, Tensor};

type Runs = Arc<Mutex<Vec<BTreeMap<String, Vec<f32>>>>>;
type Compute = Box<dyn FnMut(&[f32]) -> Vec<f32> + Send>;
/// A port's name and shape.
type Ports<'a> = &'a [(&'a str, &'a [Option<usize>])];

/// Has the ports of a known model. Its first output is computed from its first input; every other output is the input
/// that it follows on, each number raised by 1.
pub(super) struct Fake {
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// Stands in the first output instead of its first number.
    pub(super) spoil: Option<f32>,
    compute: Compute,
    runs: Runs,
}

impl Fake {
    /// Speech is what `probability` says of a window.
    pub(super) fn silero(mut probability: impl FnMut(&[f32]) -> f32 + Send + 'static) -> Self {
        Self::new(
            &[
                ("input", &[None, None]),
                ("state", &[Some(2), None, Some(128)]),
                ("sr", &[]),
            ],
            &[
                ("output", &[None, Some(1)]),
                ("stateN", &[None, None, None]),
            ],
            Box::new(move |input| vec![probability(input)]),
        )
    }

    /// Takes nothing out.
    pub(super) fn gtcrn() -> Self {
        let caches: [(&str, &str, &[usize]); 3] = [
            ("conv_cache", "conv_cache_out", &[2, 1, 16, 16, 33]),
            ("tra_cache", "tra_cache_out", &[2, 3, 1, 1, 16]),
            ("inter_cache", "inter_cache_out", &[2, 1, 33, 16]),
        ];
        let spectrum = [Some(1), Some(257), Some(1), Some(2)];
        let mut fake = Self::new(
            &[("mix", &spectrum)],
            &[("enh", &spectrum)],
            Box::new(<[f32]>::to_vec),
        );
        for (before, after, shape) in caches {
            let shape: Vec<_> = shape.iter().copied().map(Some).collect();
            fake.inputs.push(port(before, &shape));
            fake.outputs.push(port(after, &shape));
        }
        fake
    }

    fn new(inputs: Ports<'_>, outputs: Ports<'_>, compute: Compute) -> Self {
        let ports = |all: Ports<'_>| all.iter().map(|(name, shape)| port(name, shape)).collect();
        Self {
            inputs: ports(inputs),
            outputs: ports(outputs),
            spoil: None,
            compute,
            runs: Runs::default(),
        }
    }

    /// What every run will have been given.
    pub(super) fn watch(&self) -> Runs {
        Arc::clone(&self.runs)
    }
}

fn port(name: &str, shape: &[Option<usize>]) -> Port {
    Port {
        name: name.to_owned(),
        shape: shape.to_vec(),
    }
}

impl Executor for Fake {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(
        &mut self,
        inputs: Vec<(&str, Tensor)>,
    ) -> Result<Vec<Tensor>, troika_device_npu::Error> {
        let mut given = BTreeMap::new();
        for (name, tensor) in inputs {
            let numbers: Vec<f32> = match &tensor.data {
                Data::F32(numbers) => numbers.clone(),
                Data::I64(numbers) => numbers.iter().map(|&number| number as f32).collect(),
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(
                numbers.len(),
                tensor.shape.iter().product::<usize>(),
                "{name}"
            );
            given.insert(name.to_owned(), numbers);
        }
        let names: Vec<_> = self.inputs.iter().map(|port| &port.name).collect();
        assert!(names.iter().all(|name| given.contains_key(*name)) && given.len() == names.len());

        let mut first = (self.compute)(&given[names[0]]);
        if let Some(spoilt) = self.spoil {
            first[0] = spoilt;
        }
        let mut outputs = vec![first];
        for name in &names[1..self.outputs.len()] {
            outputs.push(given[*name].iter().map(|number| number + 1.0).collect());
        }
        self.runs.lock().unwrap().push(given);
        let tensor = |numbers: Vec<f32>| Tensor {
            shape: vec![numbers.len()],
            data: Data::F32(numbers),
        };
        Ok(outputs.into_iter().map(tensor).collect())
    }

    fn device(&self) -> &str {
        "cpu0"
    }

    fn library(&self) -> &str {
        "none"
    }
}
