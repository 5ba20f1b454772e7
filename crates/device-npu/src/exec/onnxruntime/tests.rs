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
