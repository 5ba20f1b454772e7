//! A run of a compiled model: its inputs, and what came of it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

use openvino_sys as sys;
use sys::ov_status_e::{INFER_CANCELLED, OK, RESULT_NOT_READY};

use super::core::CompiledModel;
use super::tensor::{Element, Tensor};
use crate::Error;

/// A compiled model that runs on inputs of its own, and remembers, where the model does, what it has read.
#[derive(Debug)]
pub(crate) struct InferRequest {
    raw: NonNull<sys::ov_infer_request_t>,
    compiled: Arc<CompiledModel>,
    /// What the request reads its inputs from, by name. Freed after the request.
    inputs: BTreeMap<String, Tensor>,
}

// SAFETY: nothing in a request is bound to the thread that made it, and it owns its inputs.
unsafe impl Send for InferRequest {}

impl InferRequest {
    pub(super) fn new(compiled: Arc<CompiledModel>) -> Result<Self, Error> {
        let (doing, mut raw) = ("making a request", null_mut());
        // SAFETY: the compiled model is alive, and `raw` is written to.
        let status =
            unsafe { sys::ov_compiled_model_create_infer_request(compiled.raw(), &mut raw) };
        let library = compiled.library();
        library.check(doing, status)?;
        Ok(Self {
            raw: library.made(doing, raw)?,
            compiled,
            inputs: BTreeMap::new(),
        })
    }

    /// Gives an input its values, row by row, without a copy of them.
    pub(crate) fn set<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<T>,
    ) -> Result<(), Error> {
        let library = self.compiled.library();
        let doing = format!("setting input {name}");
        let text = library.text(&doing, name)?;
        let tensor = Tensor::of(library, &doing, shape, values)?;
        // SAFETY: the request, the name and the tensor are alive; the request refers to the tensor's memory, which
        // `inputs` keeps until another tensor took its place or the request is gone.
        let status = unsafe {
            sys::ov_infer_request_set_tensor(self.raw.as_ptr(), text.as_ptr(), tensor.raw())
        };
        library.check(&doing, status)?;
        self.inputs.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        // SAFETY: the request is alive, and this thread's alone.
        let status = unsafe { sys::ov_infer_request_infer(self.raw.as_ptr()) };
        self.compiled.library().check("running", status)
    }

    /// Runs, and asks `goes_on` every so often; if it says no, the run is broken off. Returns whether the run came to
    /// its end. If it did not, what the request remembers is unknown.
    pub(crate) fn run_while(
        &mut self,
        every: Duration,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<bool, Error> {
        let doing = "running";
        let library = self.compiled.library();
        // SAFETY: the request is alive, and this thread's alone.
        let status = unsafe { sys::ov_infer_request_start_async(self.raw.as_ptr()) };
        library.check(doing, status)?;
        let running = Running(self.raw, PhantomData);
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        loop {
            // SAFETY: the request is alive and was started.
            match unsafe { sys::ov_infer_request_wait_for(self.raw.as_ptr(), every_ms) } {
                OK => {
                    std::mem::forget(running);
                    return Ok(true);
                }
                RESULT_NOT_READY if goes_on() => {}
                RESULT_NOT_READY | INFER_CANCELLED => return Ok(false),
                status => return library.check(doing, status).map(|()| true),
            }
        }
    }

    /// What the last run has given, until the next one.
    pub(crate) fn output(&self, name: &str) -> Result<Output<'_>, Error> {
        let library = self.compiled.library();
        let doing = format!("reading output {name}");
        let (text, mut raw) = (library.text(&doing, name)?, null_mut());
        // SAFETY: the request and the name are alive, and `raw` is written to.
        let status =
            unsafe { sys::ov_infer_request_get_tensor(self.raw.as_ptr(), text.as_ptr(), &mut raw) };
        library.check(&doing, status)?;
        let tensor = Tensor::from_raw(library.made(&doing, raw)?);
        Ok(Output {
            shape: tensor.shape(library, &doing)?,
            tensor,
            request: self,
            doing,
        })
    }
}

impl Drop for InferRequest {
    fn drop(&mut self) {
        // SAFETY: made by the library, owned by this value alone, and not running: `run_while` ends its runs.
        unsafe { sys::ov_infer_request_free(self.raw.as_ptr()) };
    }
}

/// A run that is broken off when this is dropped, so that no way out of [`InferRequest::run_while`] leaves it running.
struct Running<'r>(
    NonNull<sys::ov_infer_request_t>,
    PhantomData<&'r InferRequest>,
);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // SAFETY: the request is alive and was started. Where it cannot be broken off, it is waited for; how it ended
        // makes no difference any more.
        unsafe {
            sys::ov_infer_request_cancel(self.0.as_ptr());
            sys::ov_infer_request_wait(self.0.as_ptr());
        }
    }
}

/// A tensor that a run has given.
#[derive(Debug)]
pub(crate) struct Output<'r> {
    tensor: Tensor,
    shape: Vec<usize>,
    request: &'r InferRequest,
    doing: String,
}

impl Output<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn element(&self) -> Result<super::ElementType, Error> {
        self.tensor
            .element(self.request.compiled.library(), &self.doing)
    }

    /// Its values, row by row.
    ///
    /// # Errors
    /// If they are of another type.
    pub(crate) fn values<T: Element>(&self) -> Result<&[T], Error> {
        let n_value = self.shape.iter().product();
        self.tensor
            .values(self.request.compiled.library(), &self.doing, n_value)
    }
}
