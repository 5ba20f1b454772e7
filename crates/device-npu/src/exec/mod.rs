//! Runs any ONNX model: named tensors in, named tensors out.
//!
//! [`open`] picks by what, and says what each other way lacked. [`Rten`] is plain Rust and always there; the makers'
//! libraries are used where they are installed. Language models do not come this way alone: see [`crate::onnx`].

pub(crate) mod onnxruntime;
mod open;
mod openvino;
pub(crate) mod rten;
mod tensor;

pub use onnxruntime::{OnnxRuntime, Plugin, Provider, Runtime, Setup};
pub use open::{Library, Opened, Wish, open, open_with};
pub use openvino::OpenVinoExecutor;
pub use rten::Rten;
pub use tensor::{Data, Tensor};

use crate::Error;

/// What a model asks for or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Lengths of its axes; `None` where the model takes any.
    pub shape: Vec<Option<usize>>,
}

impl Port {
    /// Whether a tensor of this shape fits.
    pub fn takes(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && std::iter::zip(&self.shape, shape)
                .all(|(want, have)| want.is_none_or(|want| want == *have))
    }
}

/// An ONNX model that is ready to run.
pub trait Executor: Send {
    /// What it asks for.
    fn inputs(&self) -> &[Port];

    /// What it gives.
    fn outputs(&self) -> &[Port];

    /// Runs it on all of its inputs, in any order. Returns all of its outputs, in their order.
    ///
    /// Tensors go in and come out without a copy where the library allows it, so a state that one run gives may simply
    /// be an input of the next.
    ///
    /// # Errors
    /// If an input is lacking, unknown or of another shape, or the library fails.
    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error>;

    /// As [`Self::run`], with some of the inputs lent: large ones that the caller keeps, and changes but little between
    /// runs.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn run_with(
        &mut self,
        lent: &[(&str, &Tensor)],
        given: Vec<(&str, Tensor)>,
    ) -> Result<Vec<Tensor>, Error> {
        let lent = lent.iter().map(|&(name, tensor)| (name, tensor.clone()));
        self.run(lent.chain(given).collect())
    }

    /// Which device runs it: `npu0`, `gpu0`, `cpu0`.
    fn device(&self) -> &str;

    /// By what: `rten 0.27`, `ONNX Runtime 1.31.1`, `OpenVINO 2026.4.1`.
    fn library(&self) -> &str;
}

/// The inputs of a run, checked, each as a library takes it: what is lent stays the caller's, what is given need not be copied.
///
/// # Errors
/// As [`check_inputs`], or what the two say.
pub(crate) fn taken<'n, 't, T>(
    ports: &[Port],
    lent: &[(&'n str, &'t Tensor)],
    given: Vec<(&'n str, Tensor)>,
    lend: impl Fn(&'n str, &'t Tensor) -> Result<T, Error>,
    give: impl Fn(&'n str, Tensor) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let all = lent.iter().copied();
    let all = all.chain(given.iter().map(|(name, tensor)| (*name, tensor)));
    check_inputs(ports, all)?;
    let lent = lent.iter().map(|&(name, tensor)| lend(name, tensor));
    let given = given.into_iter().map(|(name, tensor)| give(name, tensor));
    lent.chain(given).collect()
}

/// Checks that a run has every input once, each of a shape that the model takes.
///
/// # Errors
/// [`Error::Invalid`] with the input's name.
pub(crate) fn check_inputs<'t>(
    ports: &[Port],
    inputs: impl Iterator<Item = (&'t str, &'t Tensor)>,
) -> Result<(), Error> {
    let mut seen = vec![false; ports.len()];
    for (name, tensor) in inputs {
        let Some(at) = ports.iter().position(|port| port.name == name) else {
            let known: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            let reason = format!(
                "the model has no such input; its inputs: {}",
                known.join(", ")
            );
            return Err(invalid(name, reason));
        };
        let (port, shape) = (&ports[at], &tensor.shape);
        if !port.takes(shape) {
            let reason = format!(
                "its shape is {shape:?}, and the model takes {}",
                shown(port)
            );
            return Err(invalid(name, reason));
        }
        if tensor.data.len() != shape.iter().product::<usize>() {
            let reason = format!("{} values for a shape of {shape:?}", tensor.data.len());
            return Err(invalid(name, reason));
        }
        if std::mem::replace(&mut seen[at], true) {
            return Err(invalid(name, "it is given twice"));
        }
    }
    match seen.iter().position(|seen| !seen) {
        None => Ok(()),
        Some(lacking) => Err(invalid(&ports[lacking].name, "the model needs this input")),
    }
}

/// `[1, ?, 128]`.
fn shown(port: &Port) -> String {
    let axes = port
        .shape
        .iter()
        .map(|axis| axis.map_or("?".to_owned(), |axis| axis.to_string()));
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Invalid {
        what: what.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_checked_by_name_shape_and_number() {
        let port = |name: &str, shape: &[Option<usize>]| Port {
            name: name.to_owned(),
            shape: shape.to_vec(),
        };
        let ports = [port("x", &[Some(1), None]), port("sr", &[])];
        let (x, sr) = (Tensor::f32([1, 3], vec![0.0; 3]), Tensor::i64([], vec![1]));
        let check = |inputs: &[(&str, &Tensor)]| match check_inputs(&ports, inputs.iter().copied())
        {
            Ok(()) => "fits".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check(&[("sr", &sr), ("x", &x)]), "fits");
        assert_eq!(check(&[("x", &x)]), "sr: the model needs this input");
        assert_eq!(
            check(&[("x", &x), ("y", &sr)]),
            "y: the model has no such input; its inputs: x, sr"
        );
        assert_eq!(check(&[("x", &x), ("x", &x)]), "x: it is given twice");
        let flat = Tensor::f32([3], vec![0.0; 3]);
        assert_eq!(
            check(&[("x", &flat)]),
            "x: its shape is [3], and the model takes [1, ?]"
        );
        let short = Tensor {
            shape: vec![1, 4],
            ..x
        };
        assert_eq!(check(&[("x", &short)]), "x: 3 values for a shape of [1, 4]");
    }
}
