//! The libraries: where each may be, which of several is taken, and its version.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::chip::Maker;
use super::environment::Environment;
use crate::Absent;

/// How a library came to be where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A variable names its folder.
    Variable(&'static str),
    /// `troika npu setup` has installed it.
    Setup,
    /// The system's loader would find it.
    System,
}

/// A library that was found. Nobody has loaded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// `2026.4.1`, if its name or its package tells.
    pub version: Option<String>,
    /// Why it was looked for there.
    pub origin: Origin,
}

/// A library that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is called: `OpenVINO`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Where it is, or why it is not to be had.
    pub outcome: Result<Library, Absent>,
}

/// All libraries that have to do with NPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Libraries {
    /// Intel's runtime for graphs.
    pub openvino: Finding,
    /// Microsoft's.
    pub onnxruntime: Finding,
    /// What lets ONNX Runtime use Qualcomm's NPUs.
    pub qnn: Finding,
    /// What lets ONNX Runtime use AMD's.
    pub vitisai: Finding,
    /// What OpenVINO reaches Intel's driver by.
    pub level_zero: Finding,
    /// The part of Intel's driver that programs load.
    pub intel_driver: Finding,
    /// The compiler that belongs to it.
    pub intel_compiler: Finding,
}

/// What to look for.
struct Wanted {
    name: &'static str,
    purpose: &'static str,
    /// The library's name without what systems put around it.
    stem: &'static str,
    /// The variable that names its folder.
    variable: Option<&'static str>,
    /// Folders below the ones searched: those of a package, and of the maker's own archive.
    below: &'static [&'static str],
    /// The package whose folder beside it bears the version.
    package: &'static str,
    /// The first version that will do.
    at_least: Option<&'static str>,
    remedy: Remedy,
}

/// Where a library comes from that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// `troika npu setup`.
    Setup,
    /// The maker's driver, of which this is missing.
    Driver(&'static str),
    /// The maker's own installer, and the variable tells where.
    Maker,
}

const OPENVINO: Wanted = Wanted {
    name: "OpenVINO",
    purpose: "language models on Intel's NPUs, GPUs and CPUs",
    stem: "openvino_c",
    variable: Some("TROIKA_OPENVINO_DIR"),
    below: &[
        "",
        "libs",
        "openvino/libs",
        "lib",
        "runtime/lib/intel64",
        "runtime/bin/intel64/Release",
    ],
    package: "openvino",
    // The first whose C interface is the one that we speak.
    at_least: Some("2026.1"),
    remedy: Remedy::Setup,
};

const ONNXRUNTIME: Wanted = Wanted {
    name: "ONNX Runtime",
    purpose: "ONNX models on the CPU, and on the NPUs that it has providers for",
    stem: "onnxruntime",
    variable: Some("TROIKA_ORT_DIR"),
    below: &["", "capi", "onnxruntime/capi", "lib"],
    package: "onnxruntime",
    // The interface that `ort` is built for.
    at_least: Some("1.24"),
    remedy: Remedy::Setup,
};

const QNN: Wanted = Wanted {
    name: "ONNX Runtime's QNN provider",
    purpose: "language models on Qualcomm's NPUs",
    stem: "onnxruntime_providers_qnn",
    variable: Some("TROIKA_QNN_DIR"),
    below: &["", "onnxruntime_qnn", "lib"],
    package: "onnxruntime_qnn",
    // Earlier ones have no products with four-bit weights on the NPU.
    at_least: Some("2.7"),
    remedy: Remedy::Setup,
};

const VITISAI: Wanted = Wanted {
    name: "ONNX Runtime's VitisAI provider",
    purpose: "language models on AMD's NPUs, an experiment",
    stem: "onnxruntime_providers_vitisai",
    variable: Some("TROIKA_VITISAI_DIR"),
    below: &["", "lib", "deployment"],
    package: "onnxruntime_vitisai",
    at_least: None,
    remedy: Remedy::Maker,
};

const LEVEL_ZERO: Wanted = Wanted {
    name: "Level Zero's loader",
    purpose: "how OpenVINO reaches Intel's driver",
    stem: "ze_loader",
    variable: None,
    below: &[""],
    package: "",
    at_least: None,
    remedy: Remedy::Driver("libze1"),
};

const INTEL_DRIVER: Wanted = Wanted {
    name: "Intel's NPU driver",
    purpose: "the driver's part that programs load",
    stem: "ze_intel_npu",
    variable: None,
    below: &[""],
    package: "",
    at_least: None,
    remedy: Remedy::Driver("intel-level-zero-npu"),
};

const INTEL_COMPILER: Wanted = Wanted {
    name: "Intel's NPU compiler",
    purpose: "graphs to programs for the NPU",
    stem: "npu_driver_compiler",
    variable: None,
    below: &[""],
    package: "",
    at_least: None,
    remedy: Remedy::Driver("intel-driver-compiler-npu"),
};

impl Libraries {
    /// Looks for all of them. A folder that a variable names is the only one that is looked into.
    pub fn search(environment: &Environment) -> Self {
        Self {
            openvino: OPENVINO.find(environment),
            onnxruntime: ONNXRUNTIME.find(environment),
            qnn: QNN.find(environment),
            vitisai: VITISAI.find(environment),
            level_zero: LEVEL_ZERO.find(environment),
            intel_driver: INTEL_DRIVER.find(environment),
            intel_compiler: INTEL_COMPILER.find(environment),
        }
    }

    /// What a maker's NPU needs beside its driver in the kernel.
    pub fn needed_by(&self, maker: Maker) -> Vec<&Finding> {
        match maker {
            Maker::Intel => vec![
                &self.openvino,
                &self.level_zero,
                &self.intel_driver,
                &self.intel_compiler,
            ],
            Maker::Qualcomm => vec![&self.onnxruntime, &self.qnn],
            Maker::Amd => vec![&self.onnxruntime, &self.vitisai],
            Maker::Apple | Maker::Other => Vec::new(),
        }
    }

    /// All of them, those that most people need first.
    pub fn all(&self) -> [&Finding; 7] {
        [
            &self.openvino,
            &self.onnxruntime,
            &self.qnn,
            &self.vitisai,
            &self.level_zero,
            &self.intel_driver,
            &self.intel_compiler,
        ]
    }
}

impl Wanted {
    fn find(&self, environment: &Environment) -> Finding {
        Finding {
            name: self.name,
            purpose: self.purpose,
            outcome: self.outcome(environment),
        }
    }

    fn outcome(&self, environment: &Environment) -> Result<Library, Absent> {
        let mut searched = Vec::new();
        for (base, origin) in self.bases(environment) {
            for below in self.below {
                let folder = match *below {
                    "" => base.clone(),
                    below => base.join(below),
                };
                if let Some((path, version)) = self.in_folder(&folder, environment) {
                    return self.accept(Library {
                        version: version.or_else(|| package_version(&path, self.package)),
                        path,
                        origin,
                    });
                }
            }
            searched.push(base);
        }
        Err(match self.remedy {
            Remedy::Driver(package) => Absent::NoDriver {
                why: format!(
                    "{} is not installed; its package is mostly called {package}",
                    self.name
                ),
            },
            Remedy::Setup | Remedy::Maker => Absent::NoLibrary {
                name: self.name.to_owned(),
                searched,
            },
        })
    }

    /// Where to look, in order.
    fn bases(&self, environment: &Environment) -> Vec<(PathBuf, Origin)> {
        if let Some(variable) = self.variable
            && let Some(folder) = environment.variables.get(variable)
        {
            return vec![(folder.clone(), Origin::Variable(variable))];
        }
        let own = environment.own.iter().map(|own| (own, Origin::Setup));
        let system = environment
            .system
            .iter()
            .map(|folder| (folder, Origin::System));
        own.filter(|_| self.variable.is_some())
            .chain(system)
            .map(|(folder, origin)| (folder.clone(), origin))
            .collect()
    }

    /// The newest in a folder, with the version in its name.
    fn in_folder(
        &self,
        folder: &Path,
        environment: &Environment,
    ) -> Option<(PathBuf, Option<String>)> {
        let names = fs::read_dir(folder).ok()?.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let version = environment.platform.version_in(&name, self.stem)?;
            Some((name, version))
        });
        let files = names.filter(|(name, _)| folder.join(name).is_file());
        let mut files: Vec<_> = files.collect();
        files.sort_by_cached_key(|(name, version)| (Reverse(parts(version)), name.clone()));
        let (name, version) = files.into_iter().next()?;
        Some((folder.join(name), self.readable(&version)))
    }

    /// The version that a number in a file's name stands for.
    fn readable(&self, version: &str) -> Option<String> {
        let digits: Vec<char> = version.chars().collect();
        match *digits.as_slice() {
            // OpenVINO 2026.4.1 ends in 2641.
            [a, b, minor, patch] if self.package == "openvino" => {
                Some(format!("20{a}{b}.{minor}.{patch}"))
            }
            // A lone number is that of an interface.
            _ => version.contains('.').then(|| version.to_owned()),
        }
    }

    fn accept(&self, library: Library) -> Result<Library, Absent> {
        match (&library.version, self.at_least) {
            (Some(have), Some(want)) if parts(have) < parts(want) => Err(Absent::TooOld {
                what: self.name.to_owned(),
                have: have.clone(),
                want: want.to_owned(),
            }),
            _ => Ok(library),
        }
    }
}

/// The numbers of a version.
fn parts(version: &str) -> Vec<u64> {
    let numbers = version.split('.').map(str::parse);
    numbers.map_while(Result::ok).collect()
}

/// The version of the package that a file belongs to, by the folder `NAME-VERSION.dist-info` above it.
fn package_version(path: &Path, package: &str) -> Option<String> {
    // site-packages/openvino/libs/libopenvino_c.so
    let above = path.ancestors().skip(1).take(3);
    above.filter(|_| !package.is_empty()).find_map(|folder| {
        let names = fs::read_dir(folder).ok()?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find_map(|name| {
            let version = name
                .strip_prefix(package)?
                .strip_prefix('-')?
                .strip_suffix(".dist-info")?;
            Some(version.to_owned())
        })
    })
}

impl Finding {
    /// What would help where it is absent.
    pub fn remedy(&self) -> Option<String> {
        let absent = self.outcome.as_ref().err()?;
        Some(match (self.name, absent) {
            (name, Absent::NoLibrary { .. }) if name == QNN.name => {
                "`troika npu setup --qnn --accept-qualcomm-licence` installs it".to_owned()
            }
            (name, Absent::NoLibrary { .. }) if name == VITISAI.name => {
                "install AMD's Ryzen AI software, and name the library's folder by TROIKA_VITISAI_DIR"
                    .to_owned()
            }
            (_, absent) => absent.remedy(),
        })
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Finding", 6)?;
        out.serialize_field("name", self.name)?;
        out.serialize_field("purpose", self.purpose)?;
        match &self.outcome {
            Ok(library) => {
                out.serialize_field("state", "found")?;
                out.serialize_field("path", &library.path)?;
                out.serialize_field("version", &library.version)?;
                out.serialize_field("origin", &library.origin)?;
            }
            Err(absent) => {
                out.serialize_field("state", "absent")?;
                out.serialize_field("why", &absent.to_string())?;
                out.serialize_field("remedy", &self.remedy())?;
                if let Absent::NoLibrary { searched, .. } = absent {
                    out.serialize_field("searched", searched)?;
                }
            }
        }
        out.end()
    }
}
