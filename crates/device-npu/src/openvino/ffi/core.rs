//! OpenVINO's core, the models that it reads, and what becomes of them when they are compiled.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use openvino_sys as sys;

use super::library::{Library, take_text};
use super::request::InferRequest;
use super::tensor::{Port, StaticShape, ports};
use crate::Error;

/// Names and values of properties, as C has them.
struct Properties {
    /// What `pairs` points into.
    _texts: Vec<(CString, CString)>,
    pairs: Vec<sys::ov_property_t>,
}

impl Properties {
    fn new(library: &Library, doing: &str, of: &[(String, String)]) -> Result<Self, Error> {
        let texts = of
            .iter()
            .map(|(key, value)| Ok((library.text(doing, key)?, library.text(doing, value)?)));
        let texts = texts.collect::<Result<Vec<_>, Error>>()?;
        let pairs = texts.iter().map(|(key, value)| sys::ov_property_t {
            key: key.as_ptr(),
            value: value.as_ptr().cast(),
        });
        let pairs = pairs.collect();
        Ok(Self {
            _texts: texts,
            pairs,
        })
    }
}

/// OpenVINO itself: its devices, and what is read and compiled by it.
#[derive(Debug)]
pub(crate) struct Core {
    raw: NonNull<sys::ov_core_t>,
    library: Arc<Library>,
}

// SAFETY: OpenVINO documents its core as thread-safe; nothing here is bound to the thread that made it.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

impl Core {
    /// Starts it; plugins of devices are loaded when they are asked for.
    pub(crate) fn new(library: Arc<Library>) -> Result<Arc<Self>, Error> {
        let (doing, mut raw) = ("starting", null_mut());
        // SAFETY: the library is loaded, and `raw` is written to.
        let status = unsafe { sys::ov_core_create(&mut raw) };
        library.check(doing, status)?;
        let raw = library.made(doing, raw)?;
        Ok(Arc::new(Self { raw, library }))
    }

    /// Who does all this.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// The devices that work here: `CPU`, `GPU.0`, `NPU`.
    pub(crate) fn devices(&self) -> Result<Vec<String>, Error> {
        let mut list = sys::ov_available_devices_t {
            devices: null_mut(),
            size: 0,
        };
        // SAFETY: the core is alive, and `list` is written to.
        let status = unsafe { sys::ov_core_get_available_devices(self.raw.as_ptr(), &mut list) };
        self.library.check("listing devices", status)?;
        let names = (0..list.size).map(|i| {
            // SAFETY: the list has `size` texts, each ending with a zero, until it is freed below.
            unsafe { CStr::from_ptr(*list.devices.add(i)) }
                .to_string_lossy()
                .into_owned()
        });
        let names = names.collect();
        // SAFETY: filled by the library, and freed once.
        unsafe { sys::ov_available_devices_free(&mut list) };
        Ok(names)
    }

    /// A property of a device: `FULL_DEVICE_NAME`, `NPU_DRIVER_VERSION`.
    pub(crate) fn property(&self, device: &str, key: &str) -> Result<String, Error> {
        let doing = format!("reading {key} of {device}");
        let (device, key) = (
            self.library.text(&doing, device)?,
            self.library.text(&doing, key)?,
        );
        let mut value = null_mut();
        // SAFETY: the core and both texts are alive, and `value` is written to.
        let status = unsafe {
            sys::ov_core_get_property(self.raw.as_ptr(), device.as_ptr(), key.as_ptr(), &mut value)
        };
        self.library.check(&doing, status)?;
        // SAFETY: the call has handed its text over.
        Ok(unsafe { take_text(value) }.unwrap_or_default())
    }

    /// Sets properties of a device for all that is compiled or imported there later.
    pub(crate) fn set_properties(
        &self,
        device: &str,
        properties: &[(String, String)],
    ) -> Result<(), Error> {
        let doing = "setting properties";
        if properties.is_empty() {
            return Ok(());
        }
        let properties = Properties::new(&self.library, doing, properties)?;
        let device = self.library.text(doing, device)?;
        let pairs = &properties.pairs;
        // SAFETY: the core, the name and as many pairs as are said are alive during the call, which copies them.
        let status = unsafe {
            sys::ov_core_set_properties(
                self.raw.as_ptr(),
                device.as_ptr(),
                pairs.len(),
                pairs.as_ptr(),
            )
        };
        self.library.check(doing, status)
    }

    /// Reads a model: ONNX, or IR with its weights beside it or named. Weights of IR are mapped, not read.
    pub(crate) fn read(
        self: &Arc<Self>,
        model: &Path,
        weights: Option<&Path>,
    ) -> Result<Model, Error> {
        let (doing, mut raw) = ("reading the model", null_mut());
        let model = self.library.path_text(doing, model)?;
        let weights = weights.map(|path| self.library.path_text(doing, path));
        let weights = weights.transpose()?;
        let weights = weights
            .as_ref()
            .map_or(std::ptr::null(), |path| path.as_ptr());
        // SAFETY: the core and the paths are alive, a null for weights is allowed, and `raw` is written to.
        let status = unsafe {
            sys::ov_core_read_model(self.raw.as_ptr(), model.as_ptr(), weights, &mut raw)
        };
        self.library.check(doing, status)?;
        Ok(Model {
            raw: self.library.made(doing, raw)?,
            core: Arc::clone(self),
        })
    }

    /// Opens what [`CompiledModel::export`] has written, for the same device. What is to hold for it is set with
    /// [`Self::set_properties`] before: the C API takes none here.
    pub(crate) fn import(
        self: &Arc<Self>,
        blob: &[u8],
        device: &str,
    ) -> Result<CompiledModel, Error> {
        let (doing, mut raw) = ("importing what was compiled", null_mut());
        let device = self.library.text(doing, device)?;
        // SAFETY: the core, the bytes and the name are alive during the call, which copies what it keeps, and `raw` is
        // written to.
        let status = unsafe {
            sys::ov_core_import_model(
                self.raw.as_ptr(),
                blob.as_ptr().cast(),
                blob.len(),
                device.as_ptr(),
                &mut raw,
            )
        };
        self.library.check(doing, status)?;
        Ok(CompiledModel {
            raw: self.library.made(doing, raw)?,
            core: Arc::clone(self),
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // SAFETY: made by the library, owned by this value alone; all that it made holds it, and so is gone.
        unsafe { sys::ov_core_free(self.raw.as_ptr()) };
    }
}

/// A model that was read.
#[derive(Debug)]
pub(crate) struct Model {
    raw: NonNull<sys::ov_model_t>,
    core: Arc<Core>,
}

// SAFETY: reading, reshaping and compiling take `&mut self` or are thread-safe, and nothing is bound to a thread.
unsafe impl Send for Model {}

impl Model {
    /// Gives inputs the shapes that they are to have from now on.
    pub(crate) fn reshape(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<(), Error> {
        let (doing, library) = ("setting the shapes of inputs", &self.core.library);
        let names = shapes.iter().map(|(name, _)| library.text(doing, name));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let shapes = shapes.iter().map(|(_, shape)| StaticShape::new(shape));
        let mut shapes: Vec<StaticShape> = shapes.collect();
        let raw_shapes: Vec<_> = shapes.iter_mut().map(StaticShape::raw).collect();
        // SAFETY: the model is alive and not shared; as many names and shapes as are said are alive during the call.
        let status = unsafe {
            sys::ov_model_reshape(
                self.raw.as_ptr(),
                pointers.as_mut_ptr(),
                raw_shapes.as_ptr(),
                raw_shapes.len(),
            )
        };
        library.check(doing, status)
    }

    /// What it asks for, before it is compiled.
    pub(crate) fn inputs(&self) -> Result<Vec<Port>, Error> {
        // SAFETY: the model is alive, and the functions are those of models.
        unsafe {
            ports(
                &self.core.library,
                self.raw.as_ptr().cast_const(),
                sys::ov_model_inputs_size,
                sys::ov_model_const_input_by_index,
            )
        }
    }

    /// Compiles it for a device. May take minutes.
    pub(crate) fn compile(
        &self,
        device: &str,
        properties: &[(String, String)],
    ) -> Result<CompiledModel, Error> {
        let (doing, library, mut raw) = ("compiling", &self.core.library, null_mut());
        let properties = Properties::new(library, doing, properties)?;
        let device = library.text(doing, device)?;
        let pairs = &properties.pairs;
        // SAFETY: the core, the model, the name and as many pairs as are said are alive during the call, which copies
        // them, and `raw` is written to.
        let status = unsafe {
            sys::ov_core_compile_model_props(
                self.core.raw.as_ptr(),
                self.raw.as_ptr(),
                device.as_ptr(),
                pairs.len(),
                pairs.as_ptr(),
                &mut raw,
            )
        };
        library.check(doing, status)?;
        Ok(CompiledModel {
            raw: library.made(doing, raw)?,
            core: Arc::clone(&self.core),
        })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by the library, and owned by this value alone.
        unsafe { sys::ov_model_free(self.raw.as_ptr()) };
    }
}

/// A model that was compiled for a device.
#[derive(Debug)]
pub(crate) struct CompiledModel {
    raw: NonNull<sys::ov_compiled_model_t>,
    core: Arc<Core>,
}

// SAFETY: OpenVINO documents its compiled model as thread-safe; nothing here is bound to the thread that made it.
unsafe impl Send for CompiledModel {}
// SAFETY: as above.
unsafe impl Sync for CompiledModel {}

impl CompiledModel {
    pub(super) fn raw(&self) -> *const sys::ov_compiled_model_t {
        self.raw.as_ptr()
    }

    /// Who does all this.
    pub(crate) fn library(&self) -> &Library {
        &self.core.library
    }

    /// Something that runs it, with a memory of its own.
    pub(crate) fn request(self: &Arc<Self>) -> Result<InferRequest, Error> {
        InferRequest::new(Arc::clone(self))
    }

    /// What it asks for.
    pub(crate) fn inputs(&self) -> Result<Vec<Port>, Error> {
        // SAFETY: the model is alive, and the functions are those of compiled models.
        unsafe {
            ports(
                self.library(),
                self.raw(),
                sys::ov_compiled_model_inputs_size,
                sys::ov_compiled_model_input_by_index,
            )
        }
    }

    /// What it gives.
    pub(crate) fn outputs(&self) -> Result<Vec<Port>, Error> {
        // SAFETY: as for the inputs.
        unsafe {
            ports(
                self.library(),
                self.raw(),
                sys::ov_compiled_model_outputs_size,
                sys::ov_compiled_model_output_by_index,
            )
        }
    }

    /// Writes it to a file, for [`Core::import`].
    pub(crate) fn export(&self, path: &Path) -> Result<(), Error> {
        let doing = "writing what was compiled";
        let path = self.library().path_text(doing, path)?;
        // SAFETY: the model and the path are alive.
        let status = unsafe { sys::ov_compiled_model_export_model(self.raw(), path.as_ptr()) };
        self.library().check(doing, status)
    }
}

impl Drop for CompiledModel {
    fn drop(&mut self) {
        // SAFETY: made by the library, owned by this value alone; the requests that it made hold it, and so are gone.
        unsafe { sys::ov_compiled_model_free(self.raw.as_ptr()) };
    }
}
