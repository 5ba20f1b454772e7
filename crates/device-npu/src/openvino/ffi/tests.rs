//! What the layer does with the library, where there is one.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::openvino::found_for_tests;
use crate::{Absent, Error};

/// `y = relu(x)` of rows of any number, three values each.
const GRAPH: &str = r#"<?xml version="1.0"?><net name="relu" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,3" element_type="f32"/><output><port id="0" precision="FP32" names="x"><dim>-1</dim><dim>3</dim></port></output></layer>
<layer id="1" name="y" type="ReLU" version="opset1"><input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim></port></input><output><port id="1" precision="FP32" names="y"><dim>-1</dim><dim>3</dim></port></output></layer>
<layer id="2" name="result" type="Result" version="opset1"><input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/><edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>"#;

fn core() -> Option<Arc<Core>> {
    let library = Library::load(&found_for_tests()?).expect("the library loads");
    Some(Core::new(library).expect("OpenVINO starts"))
}

fn relu(core: &Arc<Core>) -> super::core::Model {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("relu.xml");
    std::fs::write(&path, GRAPH).expect("a file can be written");
    core.read(&path, None).expect("the graph is read")
}

#[test]
fn values_go_in_and_come_out_at_any_length() {
    let Some(core) = core() else { return };
    let compiled = relu(&core).compile("CPU", &[]).expect("it compiles");
    let port = |name: &str| Port {
        name: name.to_owned(),
        element: ElementType::F32,
        shape: Some(vec![None, Some(3)]),
    };
    assert_eq!(compiled.inputs().expect("it has inputs"), [port("x")]);
    assert_eq!(compiled.outputs().expect("it has outputs"), [port("y")]);
    let mut request = Arc::new(compiled).request().expect("it can run");
    for rows in [1, 5, 0, 2] {
        let x: Vec<f32> = (0..rows * 3).map(|i| i as f32 - 4.0).collect();
        let want: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
        request.set("x", &[rows, 3], x).expect("an input is set");
        match rows {
            5 => request.run().expect("it runs"),
            _ => {
                let goes_on = request.run_while(Duration::from_millis(1), || true);
                assert!(goes_on.expect("it runs"));
            }
        }
        let y = request.output("y").expect("there is an output");
        assert_eq!(y.shape(), [rows, 3]);
        assert_eq!(y.values::<f32>().expect("of floats"), want);
        assert!(y.values::<i64>().is_err());
    }
}

#[test]
fn what_is_wrong_is_told() {
    let Some(core) = core() else { return };
    let told = |error: Error| match error {
        Error::Library {
            library,
            doing,
            message,
        } => {
            assert!(library.starts_with("OpenVINO 2"), "{library}");
            assert!(
                !message.contains('\n') && !message.is_empty(),
                "{message:?}"
            );
            (doing, message)
        }
        other => panic!("{other}"),
    };
    let model = relu(&core);
    let missing = core.read(std::path::Path::new("nowhere.xml"), None);
    assert!(
        told(missing.expect_err("no such file"))
            .1
            .contains("nowhere.xml")
    );
    let compiled = model.compile("CPU", &[("NO_SUCH_KEY".to_owned(), "1".to_owned())]);
    assert!(
        told(compiled.expect_err("no such property"))
            .1
            .contains("NO_SUCH_KEY")
    );
    let compiled = model.compile("FPGA", &[]).expect_err("no such device");
    assert_eq!(told(compiled).0, "compiling");
    let imported = core.import(b"not a blob", "CPU");
    told(imported.expect_err("it is no blob"));

    let compiled = Arc::new(model.compile("CPU", &[]).expect("it compiles"));
    let mut request = compiled.request().expect("it can run");
    let doing = |done: Result<(), Error>| told(done.expect_err("it is refused")).0;
    assert_eq!(
        doing(request.set("z", &[1, 3], vec![0f32; 3])),
        "setting input z"
    );
    assert_eq!(
        doing(request.set("x", &[1, 3], vec![0i64; 3])),
        "setting input x"
    );
    assert_eq!(
        doing(request.set("x", &[2, 3], vec![0f32; 3])),
        "setting input x"
    );
    assert_eq!(
        doing(request.set("x\0", &[1, 3], vec![0f32; 3])),
        "setting input x\0"
    );
    assert_eq!(doing(request.output("z").map(drop)), "reading output z");
}

#[test]
fn inputs_can_be_given_their_shapes_beforehand() {
    let Some(core) = core() else { return };
    let mut model = relu(&core);
    model.reshape(&[("x", vec![4, 3])]).expect("it fits");
    let inputs = model.inputs().expect("it has inputs");
    assert_eq!(inputs[0].shape, Some(vec![Some(4), Some(3)]));
    assert!(model.reshape(&[("z", vec![4, 3])]).is_err());
}

#[test]
fn what_was_compiled_is_written_and_imported() {
    let Some(core) = core() else { return };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let blob = directory.path().join("relu.blob");
    let compiled = relu(&core).compile("CPU", &[]).expect("it compiles");
    compiled.export(&blob).expect("it is written");
    let blob = std::fs::read(blob).expect("it is there");
    let imported = Arc::new(core.import(&blob, "CPU").expect("it is imported"));
    drop(blob);
    let mut request = imported.request().expect("it can run");
    request
        .set("x", &[1, 3], vec![-1f32, 0.5, 2.0])
        .expect("an input is set");
    request.run().expect("it runs");
    let y = request.output("y").expect("there is an output");
    assert_eq!(y.values::<f32>().expect("of floats"), [0.0, 0.5, 2.0]);
}

/// What made a request may go before it does.
#[test]
fn makers_live_as_long_as_what_they_made() {
    let Some(core) = core() else { return };
    let mut request = {
        let compiled = Arc::new(relu(&core).compile("CPU", &[]).expect("it compiles"));
        drop(core);
        compiled.request().expect("it can run")
    };
    let elsewhere = std::thread::spawn(move || {
        request
            .set("x", &[1, 3], vec![1f32; 3])
            .expect("an input is set");
        request.run().expect("it runs");
    });
    elsewhere.join().expect("it ran");
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    };
    let load = |path: std::path::PathBuf| Library::load(&path).expect_err("it is no library");
    let missing = load(directory.path().join("missing"));
    assert!(matches!(missing, Absent::NoLibrary { .. }), "{missing}");
    if core().is_some() {
        // Another one is loaded in this process, and stays.
        let other = load(write("other", b"ov_core_create"));
        assert!(matches!(other, Absent::Broken { .. }), "{other}");
        return;
    }
    let strange = load(write("strange", b"GIF89a"));
    assert!(matches!(strange, Absent::Broken { .. }), "{strange}");
    let old = load(write("old", b"\0ov_core_create\0"));
    assert!(matches!(old, Absent::TooOld { .. }), "{old}");
    let torn = load(write("torn", b"ov_core_create ov_core_compile_model_props"));
    assert!(matches!(torn, Absent::Broken { .. }), "{torn}");
}

#[test]
fn a_run_can_be_broken_off_and_its_request_used_again() {
    let Some(core) = core() else { return };
    let compiled = Arc::new(relu(&core).compile("CPU", &[]).expect("it compiles"));
    let mut request = compiled.request().expect("it can run");
    // Long enough not to be over when it is looked at first.
    let rows = 4 << 20;
    let x = vec![-1f32; rows * 3];
    request.set("x", &[rows, 3], x).expect("an input is set");
    let mut asked = 0;
    let ended = request.run_while(Duration::ZERO, || {
        asked += 1;
        false
    });
    assert_eq!((ended.expect("it is no error"), asked), (false, 1));
    request
        .set("x", &[1, 3], vec![-1f32, 0.5, 2.0])
        .expect("an input is set");
    let ended = request.run_while(Duration::from_millis(1), || true);
    assert!(ended.expect("it runs"));
    let y = request.output("y").expect("there is an output");
    assert_eq!(y.values::<f32>().expect("of floats"), [0.0, 0.5, 2.0]);
}
