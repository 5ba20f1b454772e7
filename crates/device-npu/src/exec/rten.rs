//! ONNX models in plain Rust: what runs them where nothing is installed.
//!
//! rten computes in f32, i32, i8 and u8. It takes `int64` and `bool` for `int32`, and `float16` and `double` for
//! `float`; what it gives is of those types, whatever the model declares.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rten::{
    Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueView,
};

use crate::Error;
use crate::exec::{Data, Executor, Port, Tensor, invalid, taken};

/// The release that Cargo.toml asks for.
const LIBRARY: &str = "rten 0.27";

/// An ONNX model that rten runs.
pub struct Rten {
    model: Model,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: Option<Arc<ThreadPool>>,
}

impl Rten {
    /// Its name and release.
    pub const LIBRARY: &str = LIBRARY;

    /// Loads a model's file, and the files of weights that it names. `threads` are all of the processor's cores if not
    /// given.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Invalid`] if it is not a model, or one with an operator that
    /// rten does not know.
    pub fn from_file(path: &Path, threads: Option<NonZero<usize>>) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let what = path.display().to_string();
        if path
            .extension()
            .is_some_and(|extension| extension == "onnx")
        {
            std::fs::File::open(path).map_err(io)?;
            return Self::load(&what, threads, |options| options.load_file(path));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::from_bytes(&what, bytes, threads)
    }

    /// Loads a model that is whole in memory. `name` is for messages.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_bytes(
        name: &str,
        bytes: Vec<u8>,
        threads: Option<NonZero<usize>>,
    ) -> Result<Self, Error> {
        Self::load(name, threads, |options| options.load(bytes))
    }

    fn load(
        name: &str,
        threads: Option<NonZero<usize>>,
        load: impl FnOnce(&ModelOptions) -> Result<Model, rten::LoadError>,
    ) -> Result<Self, Error> {
        let mut options = ModelOptions::with_all_ops();
        // Twice the memory for weights, and runs that need not lay them out anew each time.
        options.prepack_weights(true);
        let model = caught(|| load(&options))
            .map_err(|panic| invalid(name, format!("{LIBRARY} gave up on it: {panic}")))?
            .map_err(|error| invalid(name, error.to_string()))?;
        let pool = |threads: NonZero<usize>| Arc::new(ThreadPool::with_num_threads(threads.get()));
        Ok(Self {
            inputs: ports(&model, model.input_ids()),
            outputs: ports(&model, model.output_ids()),
            threads: threads.map(pool),
            model,
        })
    }

    fn node(&self, name: &str) -> Result<NodeId, Error> {
        let node = self.model.find_node(name);
        node.ok_or_else(|| invalid(name, "the model has no such input"))
    }
}

impl Executor for Rten {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error> {
        self.run_with(&[], inputs)
    }

    fn run_with(
        &mut self,
        lent: &[(&str, &Tensor)],
        given: Vec<(&str, Tensor)>,
    ) -> Result<Vec<Tensor>, Error> {
        let inputs = taken(
            &self.inputs,
            lent,
            given,
            |name, tensor| Ok((self.node(name)?, lend(name, tensor)?)),
            |name, tensor| Ok((self.node(name)?, ValueOrView::Value(value(name, tensor)?))),
        )?;
        let options = RunOptions::default().with_thread_pool(self.threads.clone());
        let failed = |message| Error::Library {
            library: LIBRARY.to_owned(),
            doing: "running".to_owned(),
            message,
        };
        let values = caught(|| {
            self.model
                .run(inputs, self.model.output_ids(), Some(options))
        })
        .map_err(failed)?
        .map_err(|error| failed(error.to_string()))?;
        std::iter::zip(&self.outputs, values)
            .map(|(port, value)| tensor(&port.name, value))
            .collect()
    }

    fn device(&self) -> &str {
        "cpu0"
    }

    fn library(&self) -> &str {
        LIBRARY
    }
}

/// Runs what may panic on a hostile model. rten keeps nothing that a panic could leave half done: a model is not
/// written to once it is loaded.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic: Box<dyn Any + Send>| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        message.unwrap_or("it panicked").to_owned()
    })
}

fn ports(model: &Model, nodes: &[NodeId]) -> Vec<Port> {
    let axis = |axis| match axis {
        Dimension::Fixed(length) => Some(length),
        Dimension::Symbolic(_) => None,
    };
    let port = |&node| {
        let info = model.node_info(node);
        let shape = info.as_ref().and_then(|info| info.shape());
        Port {
            name: info
                .and_then(|info| info.name().map(str::to_owned))
                .unwrap_or_default(),
            shape: shape.unwrap_or_default().into_iter().map(axis).collect(),
        }
    };
    nodes.iter().map(port).collect()
}

/// The tensor as rten takes it: its values stay where they are, if rten has their type.
fn value(name: &str, tensor: Tensor) -> Result<Value, Error> {
    let shape = tensor.shape.as_slice();
    let value = match tensor.data {
        Data::F32(values) => Value::from_shape(shape, values).ok(),
        Data::I32(values) => Value::from_shape(shape, values).ok(),
        Data::U8(values) => Value::from_shape(shape, values).ok(),
        Data::I64(values) => Value::from_shape(shape, narrow(name, &values)?).ok(),
        Data::Bool(values) => {
            let values: Vec<i32> = values.into_iter().map(i32::from).collect();
            Value::from_shape(shape, values).ok()
        }
    };
    value.ok_or_else(|| invalid(name, "its values are not as many as its shape says"))
}

/// As [`value`], of a tensor that the caller keeps.
fn lend<'t>(name: &str, tensor: &'t Tensor) -> Result<ValueOrView<'t>, Error> {
    let shape = tensor.shape.as_slice();
    let view = match &tensor.data {
        Data::F32(values) => ValueView::from_shape(shape, values).ok(),
        Data::I32(values) => ValueView::from_shape(shape, values).ok(),
        Data::U8(values) => ValueView::from_shape(shape, values).ok(),
        Data::I64(_) | Data::Bool(_) => {
            return Ok(ValueOrView::Value(value(name, tensor.clone())?));
        }
    };
    let view = view.ok_or_else(|| invalid(name, "its values are not as many as its shape says"))?;
    Ok(ValueOrView::View(view))
}

fn narrow(name: &str, values: &[i64]) -> Result<Vec<i32>, Error> {
    let narrow = |&value| {
        let too_large = || format!("{LIBRARY} computes in 32 bits, and {value} needs more");
        i32::try_from(value).map_err(|_| invalid(name, too_large()))
    };
    values.iter().map(narrow).collect()
}

fn tensor(name: &str, value: Value) -> Result<Tensor, Error> {
    use rten_tensor::Layout;

    let shape = value.shape().to_vec();
    let data = match value {
        Value::FloatTensor(values) => Data::F32(values.into_data()),
        Value::Int32Tensor(values) => Data::I32(values.into_data()),
        Value::UInt8Tensor(values) => Data::U8(values.into_data()),
        Value::Int8Tensor(values) => {
            Data::I32(values.into_data().into_iter().map(i32::from).collect())
        }
        _ => return Err(invalid(name, "it is a sequence, and not a tensor")),
    };
    Ok(Tensor { shape, data })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `y = Identity(x)` of two floats, as ONNX writes it.
    pub(crate) const IDENTITY: &[u8] = b"\x08\x0a\x3a\x37\
        \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
        \x12\x01g\
        \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x42\x02\x10\x11";

    fn identity() -> Rten {
        Rten::from_bytes("identity", IDENTITY.to_vec(), NonZero::new(1)).unwrap()
    }

    /// A model among the data that lie beside the project, or nothing where they do not.
    pub(crate) fn shared(path: &str) -> Option<std::path::PathBuf> {
        let root = std::env::var_os("TROIKA_SHARED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            std::path::PathBuf::from,
        );
        let path = root.join("data").join(path);
        if !path.exists() {
            println!("skipped: {} is absent", path.display());
            return None;
        }
        Some(path)
    }

    #[test]
    fn what_goes_in_comes_out_lent_or_given() {
        let mut model = identity();
        let x = Tensor::f32([2], vec![1.5, -2.0]);
        assert_eq!(model.inputs()[0].shape, [Some(2)]);
        assert_eq!(model.outputs()[0].name, "y");
        let lent = model.run_with(&[("x", &x)], Vec::new()).unwrap();
        let given = model.run(vec![("x", x.clone())]).unwrap();
        assert_eq!((lent, given), (vec![x.clone()], vec![x]));
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let mut model = identity();
        let mut refusal = |tensor| model.run(vec![("x", tensor)]).unwrap_err().to_string();
        let integers = refusal(Tensor::i64([2], vec![1, 2]));
        assert!(integers.contains("expected type"), "{integers}");
        let long = refusal(Tensor::i64([2], vec![1, 1 << 40]));
        assert!(long.contains("32 bits"), "{long}");
        let shape = refusal(Tensor::zeros([3]));
        assert_eq!(shape, "x: its shape is [3], and the model takes [2]");
    }

    /// Every file that is cut off, and every one with a byte turned, is a model or an error.
    #[test]
    fn damaged_files_never_panic() {
        let mut refused = 0;
        for cut in 0..IDENTITY.len() {
            let bytes = IDENTITY[..cut].to_vec();
            refused += usize::from(Rten::from_bytes("cut", bytes, NonZero::new(1)).is_err());
        }
        for (at, bit) in (0..IDENTITY.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = IDENTITY.to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(mut model) = Rten::from_bytes("turned", bytes, NonZero::new(1)) {
                drop(model.run(vec![("x", Tensor::zeros([2]))]));
            } else {
                refused += 1;
            }
        }
        assert!(refused > IDENTITY.len() / 2, "only {refused} were refused");
    }

    /// Inputs of zeros, with unknown axes of length 1.
    fn zeros(model: &Rten) -> Vec<(String, Tensor)> {
        let shape = |port: &Port| -> Vec<usize> {
            port.shape.iter().map(|axis| axis.unwrap_or(1)).collect()
        };
        let ports = model.inputs().iter();
        ports
            .map(|port| (port.name.clone(), Tensor::zeros(shape(port))))
            .collect()
    }

    #[test]
    fn models_of_pictures_and_sound_run() {
        for (path, shape) in [
            ("audio/gtcrn_simple.onnx", &[1, 257, 1, 2][..]),
            (
                "vision/selfie_segmentation_landscape.onnx",
                &[1, 144, 256, 1],
            ),
            ("vision/mnist-8.onnx", &[1, 10]),
            ("vision/mnist.onnx", &[1, 10]),
            ("vision/cnn_mnist_pytorch.onnx", &[1, 10]),
        ] {
            let Some(path) = shared(path) else { return };
            let mut model = Rten::from_file(&path, NonZero::new(1)).unwrap();
            let inputs = zeros(&model);
            let inputs = inputs
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor.clone()));
            let outputs = model.run(inputs.collect()).unwrap();
            println!("ran {}", path.display());
            assert_eq!(outputs[0].shape, shape);
            let values = outputs[0].as_f32().unwrap();
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }

    /// A second of silence, its state handed from run to run.
    #[test]
    fn voice_activity_runs_over_silence() {
        for path in ["audio/silero_vad.onnx", "audio/silero_vad_16k_op15.onnx"] {
            let Some(path) = shared(path) else { return };
            let mut model = Rten::from_file(&path, NonZero::new(1)).unwrap();
            let mut state = Tensor::zeros([2, 1, 128]);
            for _ in 0..31 {
                let samples = Tensor::zeros([1, 64 + 512]);
                let rate = Tensor::i64([], vec![16_000]);
                let outputs = model.run(vec![("input", samples), ("state", state), ("sr", rate)]);
                let [voice, next] = outputs.unwrap().try_into().unwrap();
                assert_eq!(next.shape, [2, 1, 128]);
                let voice = voice.into_f32().unwrap();
                assert!(
                    matches!(voice[..], [voice] if (0.0..0.1).contains(&voice)),
                    "{voice:?}"
                );
                state = next;
            }
            println!("ran {}", path.display());
        }
    }
}
