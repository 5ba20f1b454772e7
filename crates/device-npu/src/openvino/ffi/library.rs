//! The library: found good before it is loaded, loaded once, and what it says when a call fails.

use std::ffi::{CStr, CString, c_char};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use openvino_sys as sys;
use sys::ov_status_e as Status;

use crate::{Absent, Error};

/// What people call the library.
pub(crate) const NAME: &str = "OpenVINO";

/// The first version with all functions that are called here: properties in an array came with it, where they were
/// variadic arguments before.
const OLDEST: &str = "2026.4";

/// A function that older libraries have, and the one that makes a library new enough.
const OF_ANY_VERSION: &[u8] = b"ov_core_create";
const OF_OLDEST: &[u8] = b"ov_core_compile_model_props";

/// The library, loaded.
#[derive(Debug)]
pub(crate) struct Library {
    path: PathBuf,
    version: String,
}

/// `openvino-sys` holds one library per process, for good.
static LOADED: Mutex<Option<Arc<Library>>> = Mutex::new(None);

impl Library {
    /// Loads `libopenvino_c` from its file. A second call with the same file returns what the first one did.
    ///
    /// # Errors
    /// If there is no such file, it is not OpenVINO, it is too old, or this process has loaded another one.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, Absent> {
        let broken = |why: String| Absent::Broken {
            name: NAME.to_owned(),
            why,
        };
        let Ok(real) = path.canonicalize() else {
            return Err(Absent::NoLibrary {
                name: NAME.to_owned(),
                searched: vec![path.to_owned()],
            });
        };
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*loaded {
            return match library.path == real {
                true => Ok(Arc::clone(library)),
                false => Err(broken(format!(
                    "this process has loaded another one already, {}",
                    library.path.display()
                ))),
            };
        }
        // What is loaded stays, and calling what it lacks would panic: so the file is looked at first.
        let code = std::fs::read(&real).map_err(|error| broken(error.to_string()))?;
        let names = |name: &[u8]| code.windows(name.len()).any(|window| window == name);
        if !names(OF_ANY_VERSION) {
            return Err(broken(
                "the file is not the library of its C interface".to_owned(),
            ));
        }
        if !names(OF_OLDEST) {
            return Err(Absent::TooOld {
                what: NAME.to_owned(),
                have: "an earlier version".to_owned(),
                want: OLDEST.to_owned(),
            });
        }
        drop(code);
        let file = real.clone();
        match catch_unwind(move || sys::library::load_from(file)) {
            Ok(loaded) => loaded.map_err(broken)?,
            Err(_) => return Err(broken("it does not say its version".to_owned())),
        }
        let version = version().map_err(broken)?;
        let library = Arc::new(Self {
            path: real,
            version,
        });
        *loaded = Some(Arc::clone(&library));
        Ok(library)
    }

    /// `OpenVINO 2026.4.1`.
    pub(crate) fn name(&self) -> String {
        format!("{NAME} {}", self.version)
    }

    pub(super) fn error(&self, doing: &str, message: String) -> Error {
        Error::Library {
            library: self.name(),
            doing: doing.to_owned(),
            message,
        }
    }

    /// What a call has returned, as a result.
    pub(super) fn check(&self, doing: &str, status: Status) -> Result<(), Error> {
        match status {
            Status::OK => Ok(()),
            status => Err(self.error(doing, what_went_wrong(status))),
        }
    }

    /// A text as C has it.
    pub(super) fn text(&self, doing: &str, text: &str) -> Result<CString, Error> {
        CString::new(text).map_err(|_| self.error(doing, format!("{text:?} has a zero in it")))
    }

    pub(super) fn path_text(&self, doing: &str, path: &Path) -> Result<CString, Error> {
        let text = path.to_str().ok_or_else(|| {
            self.error(doing, format!("the path {} is not UTF-8", path.display()))
        })?;
        self.text(doing, text)
    }

    /// What a call has made.
    pub(super) fn made<T>(&self, doing: &str, made: *mut T) -> Result<NonNull<T>, Error> {
        NonNull::new(made).ok_or_else(|| self.error(doing, "it returned nothing".to_owned()))
    }
}

/// The version without the build that follows it: `2026.4.1-22982-…` is `2026.4.1`.
fn version() -> Result<String, String> {
    let mut version = sys::ov_version_t {
        buildNumber: std::ptr::null(),
        description: std::ptr::null(),
    };
    // SAFETY: the library is loaded, and `version` is written to.
    let status = unsafe { sys::ov_get_openvino_version(&mut version) };
    if status != Status::OK || version.buildNumber.is_null() {
        return Err("it does not say its version".to_owned());
    }
    // SAFETY: the call above has put a text there, which ends with a zero and lives until it is freed below.
    let build = unsafe { CStr::from_ptr(version.buildNumber) }.to_string_lossy();
    let number = build.split('-').next().unwrap_or_default().to_owned();
    // SAFETY: filled by the library, and freed once.
    unsafe { sys::ov_version_free(&mut version) };
    Ok(number)
}

/// The library's own words where it has any for this status, without the lines that name its source files.
fn what_went_wrong(status: Status) -> String {
    // SAFETY: takes nothing; the text, if there is one, is this caller's to free.
    let last = unsafe { sys::ov_get_last_err_msg() };
    // SAFETY: as the call has returned it.
    let last = unsafe { take_text(last) }.unwrap_or_default();
    let lines = last.lines().map(str::trim);
    let told = lines.filter(|line| !line.is_empty() && !line.starts_with("Exception from "));
    let told = told.collect::<Vec<_>>().join(" ");
    // Only exceptions leave a text; what is there of an earlier one would mislead.
    let is_of_this_call = !matches!(
        status,
        Status::INVALID_C_PARAM | Status::RESULT_NOT_READY | Status::NOT_IMPLEMENT_C_METHOD
    );
    match is_of_this_call && !told.is_empty() {
        true => told,
        false => format!("status {status:?}"),
    }
}

/// A text of the library's, copied and freed.
///
/// # Safety
/// `text` is null, or a text that the library has handed over to its caller.
pub(super) unsafe fn take_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and of the library by this function's contract.
    let copy = unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: it was handed over, and is not used after this.
    unsafe { sys::ov_free(text) };
    Some(copy)
}
