//! Picks by what a model is run: by wish, else by what is best here.

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use troika_base::DeviceKind;

use crate::exec::{
    Executor, OnnxRuntime, OpenVinoExecutor, Plugin, Provider, Rten, Runtime, Setup, invalid,
};
use crate::found::{Environment, Finding, Libraries, Library as Found};
use crate::openvino::Target;
use crate::{Absent, Error};

/// What runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Intel's.
    OpenVino,
    /// Microsoft's, with the makers' providers for it.
    OnnxRuntime,
    /// Plain Rust: in every build.
    Rten,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenVino => "openvino",
            Self::OnnxRuntime => "onnxruntime",
            Self::Rten => "rten",
        })
    }
}

/// What the caller asks of [`open`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Any if not given; never another than this one.
    pub device: Option<DeviceKind>,
    /// Any if not given; never another than this one.
    pub library: Option<Library>,
    /// Threads on a CPU; as many as its cores if not given.
    pub threads: Option<NonZero<usize>>,
}

impl Wish {
    /// Reads a device (`any`, `npu0`, `gpu0`, `cpu0`) and a library (`any`, `rten`, `onnxruntime`, `openvino`).
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no device or library of this name.
    pub fn parse(device: &str, library: &str) -> Result<Self, Error> {
        let device = match device {
            "any" => None,
            "npu" | "npu0" => Some(DeviceKind::Npu),
            "gpu" | "gpu0" => Some(DeviceKind::Gpu),
            "cpu" | "cpu0" => Some(DeviceKind::Cpu),
            other => {
                return Err(invalid(
                    format!("device `{other}`"),
                    "there are `any`, `npu0`, `gpu0` and `cpu0`",
                ));
            }
        };
        let library = match library {
            "any" => None,
            other => Some(other.parse()?),
        };
        Ok(Self {
            device,
            library,
            threads: None,
        })
    }

    /// The ways that it allows, best first.
    fn ways(self) -> impl Iterator<Item = (DeviceKind, Library)> {
        let device = move |kind| match self.device {
            Some(wished) => wished == kind,
            // A GPU is for those who ask for it: it has larger things to do.
            None => kind != DeviceKind::Gpu,
        };
        let library = move |library| self.library.is_none_or(|wished| wished == library);
        WAYS.into_iter()
            .filter(move |&(of, by)| device(of) && library(by))
    }
}

impl FromStr for Library {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::OpenVino, Self::OnnxRuntime, Self::Rten];
        let library = all.into_iter().find(|library| library.to_string() == text);
        library.ok_or_else(|| {
            invalid(
                format!("library `{text}`"),
                "there are `any`, `rten`, `onnxruntime` and `openvino`",
            )
        })
    }
}

/// A model that is ready, and what else was tried.
pub struct Opened {
    /// The best there is.
    pub executor: Box<dyn Executor>,
    /// What would have been better, and why it was not to be had: `openvino on npu0`, `no device: …`.
    pub lost: Vec<(String, String)>,
}

/// Every way to run a model, best first.
const WAYS: [(DeviceKind, Library); 6] = [
    (DeviceKind::Npu, Library::OpenVino),
    (DeviceKind::Npu, Library::OnnxRuntime),
    (DeviceKind::Gpu, Library::OpenVino),
    (DeviceKind::Cpu, Library::OnnxRuntime),
    (DeviceKind::Cpu, Library::OpenVino),
    (DeviceKind::Cpu, Library::Rten),
];

/// Opens an ONNX model by the best way that the wish allows, with the libraries that this process's environment leads to.
///
/// # Errors
/// As [`open_with`].
pub fn open(path: &Path, wish: &Wish) -> Result<Opened, Error> {
    let home = std::env::var_os("TROIKA_HOME").map(PathBuf::from);
    let libraries = Libraries::search(&Environment::here(home.as_deref()));
    open_with(path, wish, &libraries)
}

/// Opens an ONNX model by the best way that the wish allows, with libraries that were found.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. If no way that the wish allows leads anywhere: the error of the only one,
/// or [`Error::NoWay`] with what each of them lacks.
pub fn open_with(path: &Path, wish: &Wish, libraries: &Libraries) -> Result<Opened, Error> {
    std::fs::File::open(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut failures = Vec::new();
    for (device, library) in wish.ways() {
        match attempt(path, device, library, wish.threads, libraries) {
            Ok(executor) => {
                let lost = failures
                    .iter()
                    .map(|(way, error): &(_, Error)| (String::clone(way), error.to_string()));
                return Ok(Opened {
                    executor,
                    lost: lost.collect(),
                });
            }
            Err(error) => failures.push((format!("{library} on {}", name(device)), error)),
        }
    }
    if failures.len() == 1 {
        return Err(failures.remove(0).1);
    }
    Err(Error::NoWay {
        model: path.display().to_string(),
        lost: failures
            .into_iter()
            .map(|(way, error)| (way, error.to_string()))
            .collect(),
    })
}

fn attempt(
    path: &Path,
    device: DeviceKind,
    library: Library,
    threads: Option<NonZero<usize>>,
    libraries: &Libraries,
) -> Result<Box<dyn Executor>, Error> {
    match library {
        // Of the ways above, this one leads to the CPU alone.
        Library::Rten => Ok(Box::new(Rten::from_file(path, threads)?)),
        Library::OnnxRuntime => {
            let library = found(&libraries.onnxruntime)?;
            let provider = match device {
                DeviceKind::Npu => Provider::Plugin(Plugin::qualcomm(found(&libraries.qnn)?)),
                _ => Provider::Cpu,
            };
            let runtime = Runtime::load(&library.path, library.version.as_deref())?;
            let setup = Setup {
                threads,
                ..Setup::new(provider)
            };
            Ok(Box::new(OnnxRuntime::from_file(&runtime, path, &setup)?))
        }
        Library::OpenVino => {
            let library = &found(&libraries.openvino)?.path;
            let target = match device {
                DeviceKind::Npu => Target::Npu,
                DeviceKind::Gpu => Target::Gpu,
                _ => Target::Cpu,
            };
            let threads = threads.map(NonZero::get);
            let opened = OpenVinoExecutor::open(library, target, path, &[], threads)?;
            Ok(Box::new(opened))
        }
    }
}

fn found(finding: &Finding) -> Result<&Found, Absent> {
    finding.outcome.as_ref().map_err(Absent::clone)
}

fn name(device: DeviceKind) -> &'static str {
    match device {
        DeviceKind::Cpu => "cpu0",
        DeviceKind::Gpu => "gpu0",
        DeviceKind::Npu => "npu0",
        DeviceKind::Accelerator => "acc0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Tensor;
    use crate::exec::rten::tests::IDENTITY;

    fn file(bytes: &[u8]) -> tempfile::TempPath {
        let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file.into_temp_path()
    }

    #[test]
    fn what_is_required_and_absent_is_an_error() {
        let model = file(IDENTITY);
        for (device, library) in [("npu0", "rten"), ("gpu0", "onnxruntime")] {
            let wish = Wish::parse(device, library).unwrap();
            let error = open(&model, &wish).err().unwrap();
            assert!(matches!(error, Error::NoWay { .. }), "{error}");
        }
        assert!(Wish::parse("npu7", "any").is_err() && Wish::parse("any", "torch").is_err());
    }

    #[test]
    fn what_was_better_and_is_lacking_is_told() {
        let opened = open(&file(IDENTITY), &Wish::parse("any", "any").unwrap()).unwrap();
        let ways: Vec<_> = opened.lost.iter().map(|(way, _)| way.as_str()).collect();
        let best = [
            "openvino on npu0",
            "onnxruntime on npu0",
            "onnxruntime on cpu0",
            "openvino on cpu0",
        ];
        assert_eq!(ways, best[..ways.len()]);
        assert!(
            opened.lost.iter().all(|(_, why)| !why.is_empty()),
            "{:?}",
            opened.lost
        );

        let wish = Wish::parse("cpu0", "rten").unwrap();
        let opened = open(&file(IDENTITY), &wish).unwrap();
        assert!(opened.lost.is_empty());
        assert_eq!(
            (opened.executor.device(), opened.executor.library()),
            ("cpu0", "rten 0.27")
        );
    }

    #[test]
    fn every_library_that_is_installed_runs_a_model() {
        let model = file(IDENTITY);
        for (library, name) in [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")] {
            let wish = Wish::parse("cpu0", library).unwrap();
            match open(&model, &wish) {
                Ok(Opened { mut executor, lost }) => {
                    let x = Tensor::f32([2], vec![0.5, -3.0]);
                    assert_eq!(executor.run(vec![("x", x.clone())]).unwrap(), [x]);
                    assert!(executor.library().starts_with(name) && lost.is_empty());
                    println!("ran {} on {}", executor.library(), executor.device());
                }
                Err(Error::Absent(absent)) => println!("skipped: {absent}"),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_no_model_is_an_error() {
        let wish = Wish::parse("cpu0", "rten").unwrap();
        assert!(matches!(
            open(Path::new("no/such.onnx"), &wish),
            Err(Error::Io { .. })
        ));
        assert!(matches!(
            open(&file(b"no model"), &wish),
            Err(Error::Invalid { .. })
        ));
    }
}
