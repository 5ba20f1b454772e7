//! ONNX Runtime, where it is installed.

use super::*;
use crate::exec::Rten;
use crate::exec::rten::tests::{IDENTITY, shared};
use crate::found::{Environment, Finding, Libraries, Library};

/// A library that a test needs, or a word that it is not here.
pub(crate) fn found(of: impl FnOnce(Libraries) -> Finding) -> Option<Library> {
    let home = std::env::var_os("TROIKA_HOME").map(std::path::PathBuf::from);
    let finding = of(Libraries::search(&Environment::here(home.as_deref())));
    match finding.outcome {
        Ok(library) => Some(library),
        Err(absent) => {
            println!("skipped: {absent}");
            None
        }
    }
}

/// ONNX Runtime, or nothing where it is not installed.
pub(crate) fn runtime() -> Option<Runtime> {
    let library = found(|libraries| libraries.onnxruntime)?;
    let loaded = Runtime::load(&library.path, library.version.as_deref());
    Some(loaded.unwrap_or_else(|error| panic!("{error}")))
}

fn open(runtime: &Runtime, path: &Path) -> OnnxRuntime {
    let setup = Setup::new(Provider::Cpu);
    OnnxRuntime::from_file(runtime, path, &setup).unwrap()
}

#[test]
fn what_goes_in_comes_out_lent_or_given() {
    let Some(runtime) = runtime() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), IDENTITY).unwrap();
    let mut model = open(&runtime, file.path());
    let x = Tensor::f32([2], vec![1.5, -2.0]);
    assert_eq!(model.inputs()[0].shape, [Some(2)]);
    assert_eq!(model.outputs()[0].name, "y");
    let lent = model.run_with(&[("x", &x)], Vec::new()).unwrap();
    let given = model.run(vec![("x", x.clone())]).unwrap();
    assert_eq!((lent, given), (vec![x.clone()], vec![x]));
    let integers = model.run(vec![("x", Tensor::i64([2], vec![1, 2]))]);
    assert!(matches!(integers, Err(Error::Library { .. })));
    println!("ran {} on {}", model.library(), model.device());
}

/// Small integers, spread over all places.
fn sample(port: &Port) -> (String, Tensor) {
    let shape: Vec<usize> = port.shape.iter().map(|axis| axis.unwrap_or(1)).collect();
    let n = shape.iter().product();
    let values = (0..n).map(|i| (i * 7 % 11) as f32 / 10.0).collect();
    (port.name.clone(), Tensor::f32(shape, values))
}

/// What is as good as nothing beside the largest value does not count.
fn close(what: &str, one: &Tensor, other: &Tensor) {
    assert_eq!(one.shape, other.shape, "{what}");
    let (one, other) = (one.as_f32().unwrap(), other.as_f32().unwrap());
    let largest = one.iter().fold(0f32, |most, value| most.max(value.abs()));
    let apart = one
        .iter()
        .zip(other)
        .map(|(one, other)| (one - other).abs());
    let apart = apart.fold(0f32, f32::max);
    println!("ran {what}: {apart:.1e} apart, and {largest:.1e} the largest");
    assert!(
        apart <= 1e-4 * largest.max(1e-3),
        "{what}: {apart} of {largest}"
    );
}

#[test]
fn models_of_pictures_and_sound_give_what_plain_rust_gives() {
    let Some(runtime) = runtime() else { return };
    for path in [
        "audio/gtcrn_simple.onnx",
        "vision/selfie_segmentation_landscape.onnx",
        "vision/mnist-8.onnx",
        "vision/mnist.onnx",
        "vision/cnn_mnist_pytorch.onnx",
    ] {
        let Some(path) = shared(path) else { return };
        let mut models: [Box<dyn Executor>; 2] = [
            Box::new(open(&runtime, &path)),
            Box::new(Rten::from_file(&path, None).unwrap()),
        ];
        let inputs: Vec<_> = models[0].inputs().iter().map(sample).collect();
        let outputs = models.each_mut().map(|model| {
            let inputs = inputs.iter();
            let inputs = inputs.map(|(name, tensor)| (name.as_str(), tensor.clone()));
            model.run(inputs.collect()).unwrap()
        });
        for (one, other) in std::iter::zip(&outputs[0], &outputs[1]) {
            close(&path.display().to_string(), one, other);
        }
    }
}

/// Half a second of a sound, the state handed from run to run; one of the inputs is an `int64`.
#[test]
fn voice_activity_is_what_plain_rust_says_it_is() {
    let Some(runtime) = runtime() else { return };
    let Some(path) = shared("audio/silero_vad.onnx") else {
        return;
    };
    let models: [Box<dyn Executor>; 2] = [
        Box::new(open(&runtime, &path)),
        Box::new(Rten::from_file(&path, None).unwrap()),
    ];
    let [one, other] = models.map(|mut model| {
        let mut state = Tensor::zeros([2, 1, 128]);
        let mut said = Vec::new();
        for frame in 0..16 {
            let wave = |i: usize| 0.3 * ((frame * 512 + i) as f32 * 0.09).sin();
            let samples = Tensor::f32([1, 576], (0..576).map(wave).collect());
            let rate = Tensor::i64([], vec![16_000]);
            let outputs = model.run(vec![("input", samples), ("state", state), ("sr", rate)]);
            let [voice, next] = outputs.unwrap().try_into().unwrap();
            said.extend(voice.into_f32().unwrap());
            state = next;
        }
        Tensor::f32([16], said)
    });
    close("silero_vad.onnx", &one, &other);
}

#[test]
fn a_process_has_one_library() {
    let Some(_first) = runtime() else { return };
    let other = tempfile::NamedTempFile::new().unwrap();
    let refused = Runtime::load(other.path(), None).err().unwrap().to_string();
    assert!(refused.contains("can hold but one"), "{refused}");
    let absent = Runtime::load(Path::new("no/such/library.so"), None);
    assert!(matches!(absent, Err(Error::Absent(_))));
}

#[test]
fn what_is_no_model_and_who_is_no_npu_are_errors() {
    let Some(runtime) = runtime() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"no model").unwrap();
    let setup = Setup::new(Provider::Cpu);
    let refused = OnnxRuntime::from_file(&runtime, file.path(), &setup);
    assert!(matches!(refused, Err(Error::Library { .. })));
    let none = OnnxRuntime::from_file(&runtime, Path::new("no/such.onnx"), &setup);
    assert!(matches!(none, Err(Error::Io { .. })));

    let Some(qnn) = found(|libraries| libraries.qnn) else {
        return;
    };
    std::fs::write(file.path(), IDENTITY).unwrap();
    let setup = Setup::new(Provider::Plugin(Plugin::qualcomm(&qnn)));
    match OnnxRuntime::from_file(&runtime, file.path(), &setup) {
        Ok(model) => println!("ran on {}", model.device()),
        Err(Error::Absent(absent)) => println!("refused: {absent}"),
        Err(other) => panic!("{other}"),
    }
}
