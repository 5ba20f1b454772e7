//! Any ONNX or IR file on a device of OpenVINO's.

use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::{Data, Executor, Port, Tensor, check_inputs, invalid};
use crate::Error;
use crate::openvino::ffi::{
    self, CompiledModel, Element, ElementType, InferRequest, Output, Truth,
};
use crate::openvino::{Target, start, why_not_compiled};

/// A model that OpenVINO has compiled for one of its devices.
#[derive(Debug)]
pub struct OpenVinoExecutor {
    request: InferRequest,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What each input takes.
    elements: Vec<ElementType>,
    device: String,
    library: String,
}

impl OpenVinoExecutor {
    /// Opens a model on a device, by the library in a file (`libopenvino_c.so.2641`). `shapes` are those of inputs whose
    /// lengths the model leaves open; on the CPU they may stay open, an NPU needs them. `threads` are for the CPU.
    ///
    /// # Errors
    /// [`Error::Absent`] if the library or the device is not to be had; or if the model is damaged, not supported, or
    /// not to be had in these shapes.
    pub fn open(
        library: &Path,
        target: Target,
        model: &Path,
        shapes: &[(&str, Vec<usize>)],
        threads: Option<usize>,
    ) -> Result<Self, Error> {
        let core = start(library, &[target])?;
        let mut read = core.read(model, None)?;
        if !shapes.is_empty() {
            read.reshape(shapes)?;
        }
        let open = read.inputs()?.into_iter().find(|port| !is_closed(port));
        if let (Target::Npu, Some(open)) = (target, open) {
            let reason = "an NPU has to know its shape beforehand, and the model leaves it open";
            return Err(invalid(open.name, reason));
        }
        let mut properties = vec![("PERFORMANCE_HINT".to_owned(), "LATENCY".to_owned())];
        if let (Target::Cpu, Some(threads)) = (target, threads) {
            properties.push(("INFERENCE_NUM_THREADS".to_owned(), threads.to_string()));
        }
        let compiled = read.compile(target.name(), &properties);
        let compiled = compiled.map_err(|error| why_not_compiled(error, &core))?;
        let device = format!("{}0", target.name().to_lowercase());
        Self::new(Arc::new(compiled), device)
    }

    fn new(compiled: Arc<CompiledModel>, device: String) -> Result<Self, Error> {
        let inputs = compiled.inputs()?;
        Ok(Self {
            elements: inputs.iter().map(|port| port.element).collect(),
            inputs: ports(inputs)?,
            outputs: ports(compiled.outputs()?)?,
            device,
            library: compiled.library().name(),
            request: compiled.request()?,
        })
    }

    fn set(&mut self, name: &str, tensor: Tensor) -> Result<(), Error> {
        let at = self.inputs.iter().position(|port| port.name == name);
        // Known: the caller has checked the names.
        let wanted = at.map_or(ElementType::DYNAMIC, |at| self.elements[at]);
        let Tensor { shape, data } = tensor;
        let request = &mut self.request;
        match (wanted, data) {
            (ElementType::F32, Data::F32(values)) => request.set(name, &shape, values),
            (ElementType::F16, Data::F32(values)) => {
                let values = values.into_iter().map(f16::from_f32).collect();
                request.set::<f16>(name, &shape, values)
            }
            (ElementType::I64, Data::I64(values)) => request.set(name, &shape, values),
            (ElementType::I32, Data::I32(values)) => request.set(name, &shape, values),
            (ElementType::U8, Data::U8(values)) => request.set(name, &shape, values),
            (ElementType::OV_BOOLEAN, Data::Bool(values)) => {
                let values = values.into_iter().map(|value| Truth(value.into()));
                request.set(name, &shape, values.collect())
            }
            (wanted, data) => {
                let have = data.type_name();
                Err(invalid(
                    name,
                    format!("it is a tensor of {have}, and the model takes {wanted:?}"),
                ))
            }
        }
    }
}

impl Executor for OpenVinoExecutor {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error> {
        check_inputs(
            &self.inputs,
            inputs.iter().map(|(name, tensor)| (*name, tensor)),
        )?;
        for (name, tensor) in inputs {
            self.set(name, tensor)?;
        }
        self.request.run()?;
        self.outputs
            .iter()
            .map(|port| tensor(&port.name, &self.request.output(&port.name)?))
            .collect()
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn library(&self) -> &str {
        &self.library
    }
}

fn is_closed(port: &ffi::Port) -> bool {
    let shape = port.shape.as_ref();
    shape.is_some_and(|shape| shape.iter().all(Option::is_some))
}

fn ports(ports: Vec<ffi::Port>) -> Result<Vec<Port>, Error> {
    let port = |port: ffi::Port| match port.shape {
        Some(shape) => Ok(Port {
            name: port.name,
            shape,
        }),
        None => Err(invalid(
            port.name,
            "not even the number of its axes is known",
        )),
    };
    ports.into_iter().map(port).collect()
}

/// What a run has given, in memory of its own.
fn tensor(name: &str, output: &Output<'_>) -> Result<Tensor, Error> {
    fn of<T: Element>(output: &Output<'_>) -> Result<Vec<T>, Error> {
        output.values::<T>().map(<[T]>::to_vec)
    }
    let data = match output.element()? {
        ElementType::F32 => Data::F32(of(output)?),
        ElementType::F16 => {
            let values: &[f16] = output.values()?;
            Data::F32(values.iter().map(|value| value.to_f32()).collect())
        }
        ElementType::I64 => Data::I64(of(output)?),
        ElementType::I32 => Data::I32(of(output)?),
        ElementType::U8 => Data::U8(of(output)?),
        ElementType::OV_BOOLEAN => {
            let values: &[Truth] = output.values()?;
            Data::Bool(values.iter().map(|value| value.0 != 0).collect())
        }
        other => {
            return Err(invalid(
                name,
                format!("its values are {other:?}, which is not read here"),
            ));
        }
    };
    Ok(Tensor {
        shape: output.shape().to_vec(),
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openvino::found_for_tests;

    /// `sum = x + x` of floats and `more = n > 0` of integers, both of any number.
    const GRAPH: &str = r#"<?xml version="1.0"?><net name="two" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="2,?" element_type="f32"/><output><port id="0" precision="FP32" names="x"/></output></layer>
<layer id="1" name="n" type="Parameter" version="opset1"><data shape="?" element_type="i64"/><output><port id="0" precision="I64" names="n"/></output></layer>
<layer id="2" name="sum" type="Add" version="opset1"><data auto_broadcast="numpy"/><input><port id="0"/><port id="1"/></input><output><port id="2" precision="FP32" names="sum"/></output></layer>
<layer id="3" name="more" type="Greater" version="opset1"><data auto_broadcast="numpy"/><input><port id="0"/><port id="1"/></input><output><port id="2" precision="BOOL" names="more"/></output></layer>
<layer id="4" name="zero" type="Const" version="opset1"><data element_type="i64" shape="1" offset="0" size="8"/><output><port id="0" precision="I64"/></output></layer>
<layer id="5" name="a" type="Result" version="opset1"><input><port id="0"/></input></layer>
<layer id="6" name="b" type="Result" version="opset1"><input><port id="0"/></input></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/><edge from-layer="0" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="1" from-port="0" to-layer="3" to-port="0"/><edge from-layer="4" from-port="0" to-layer="3" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="5" to-port="0"/><edge from-layer="3" from-port="2" to-layer="6" to-port="0"/>
</edges></net>"#;

    fn write(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("two.xml");
        std::fs::write(&path, GRAPH).unwrap();
        std::fs::write(directory.join("two.bin"), 0i64.to_le_bytes()).unwrap();
        path
    }

    #[test]
    fn a_model_runs_on_all_of_its_inputs() {
        let Some(library) = found_for_tests() else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let model = write(directory.path());
        let open = |shapes: &[(&str, Vec<usize>)]| {
            OpenVinoExecutor::open(&library, Target::Cpu, &model, shapes, Some(1)).unwrap()
        };
        let mut free = open(&[]);
        assert_eq!(free.inputs()[0].shape, [Some(2), None]);
        assert_eq!(free.device(), "cpu0");
        assert!(
            free.library().starts_with("OpenVINO 2"),
            "{}",
            free.library()
        );
        for n in [1, 3, 2] {
            let x = Tensor::f32([2, n], (0..2 * n).map(|i| i as f32).collect());
            let twice = (0..2 * n).map(|i| 2.0 * i as f32).collect();
            let given = vec![("n", Tensor::i64([2], vec![-1, 1])), ("x", x)];
            let outputs = free.run(given).unwrap();
            assert_eq!(outputs[0], Tensor::f32([2, n], twice));
            assert_eq!(outputs[1].data, Data::Bool(vec![false, true]));
        }
        let closed = open(&[("x", vec![2, 4]), ("n", vec![1])]);
        assert_eq!(closed.outputs()[0].shape, [Some(2), Some(4)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let Some(library) = found_for_tests() else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let model = write(directory.path());
        let open = |target, shapes: &[(&str, Vec<usize>)]| {
            OpenVinoExecutor::open(&library, target, &model, shapes, None)
        };
        let mut executor = open(Target::Cpu, &[]).unwrap();
        let n = || ("n", Tensor::i64([1], vec![1]));
        for (inputs, told) in [
            (vec![n()], "x: the model needs this input"),
            (
                vec![n(), ("x", Tensor::zeros([3, 1]))],
                "x: its shape is [3, 1]",
            ),
            (
                vec![n(), ("x", Tensor::i64([2, 1], vec![0, 0]))],
                "x: it is a tensor of int64",
            ),
        ] {
            let error = executor.run(inputs).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let error = open(Target::Cpu, &[("z", vec![3, 4])]).unwrap_err();
        assert!(matches!(error, Error::Library { .. }), "{error}");
        if let Err(error) = open(Target::Npu, &[]) {
            assert!(
                matches!(error, Error::Absent(_) | Error::Invalid { .. }),
                "{error}"
            );
        }
    }
}
