//! Compilers of many tempers, a model for them, and the child process that runs them.

use std::fs::{self, OpenOptions};
use std::io::{BufReader, Write as _};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use troika_base::{Bytes, DType, ModelSpec};
use troika_device::{
    Batch, Cancelled, Device, KvShape, LoadOptions, Outputs, PAGE_TOKENS, Resident, f16,
};
use troika_gguf::{Metadata, ModelFile, Writer};

use crate::compile::{Compare, Loss, Worker, serve};
use crate::{Backend, CompileOptions, CompileProgress, Error, Phase};

/// Where [`Temper::Good`] notes that it has compiled.
pub(super) const LOG: &str = "TROIKA_TEST_LOG";
/// That this process is a child.
const CHILD: &str = "TROIKA_TEST_CHILD";

/// What a compiler does instead of its work, or beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    Good,
    /// Good, and writes its banner where nobody wants it.
    Noisy,
    /// Good, and loses nearly all.
    Lossy,
    /// Good, and its model gives no numbers.
    Nonsense,
    /// Calls `abort`, as a failed assertion in C++ does.
    Crash,
    Panic,
    Exit,
    /// Works for ever, and has started another process that does too.
    Hang,
    /// Writes until the disk is full.
    Full,
    /// Says no.
    Refuse,
    /// Does its work, and crashes on the way out.
    BadEnd,
}

const ALL: [Temper; 11] = [
    Temper::Good,
    Temper::Noisy,
    Temper::Lossy,
    Temper::Nonsense,
    Temper::Crash,
    Temper::Panic,
    Temper::Exit,
    Temper::Hang,
    Temper::Full,
    Temper::Refuse,
    Temper::BadEnd,
];

/// A backend that compiles a model to two small files.
#[derive(Debug)]
pub(super) struct Fake(pub(super) Temper);

impl Backend for Fake {
    fn name(&self) -> String {
        format!("fake-{:?}", self.0).to_lowercase()
    }

    fn version(&self) -> String {
        "driver 1, compiler 2".to_owned()
    }

    fn description(&self) -> String {
        "an NPU of paper".to_owned()
    }

    fn slots(&self) -> usize {
        1
    }

    fn compile(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error> {
        for done in 0..=4 {
            let (phase, total) = (Phase::Lower, 4);
            if progress(CompileProgress { phase, done, total }).is_break() {
                return Err(Error::Cancelled);
            }
        }
        self.misbehave(directory)?;
        let failed = |source| Error::Io {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir(directory.join("weights")).map_err(failed)?;
        fs::write(directory.join("weights/0.bin"), vec![7; 3000]).map_err(failed)?;
        let graph = format!("{} {options:?}", file.tensors().len());
        fs::write(directory.join("graph.xml"), graph).map_err(failed)?;
        if let Some(log) = std::env::var_os(LOG) {
            // Long enough for another process to come in between.
            thread::sleep(Duration::from_millis(300));
            let mut log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .map_err(failed)?;
            log.write_all(b"compiled\n").map_err(failed)?;
        }
        Ok(())
    }

    fn open(
        &self,
        _: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<Box<dyn Resident>, Error> {
        let graph = fs::read_to_string(directory.join("graph.xml"));
        graph.map_err(|source| Error::Io {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Box::new(Paper {
            spec: spec(),
            n_page: options.n_ctx.div_ceil(PAGE_TOKENS),
        }))
    }
}

impl Fake {
    fn misbehave(&self, directory: &Path) -> Result<(), Error> {
        match self.0 {
            Temper::Good | Temper::Lossy | Temper::Nonsense | Temper::BadEnd => Ok(()),
            Temper::Noisy => {
                let mut out = std::io::stdout();
                let _ =
                    out.write_all(b"Vendor compiler 1.0\n{\"done\":1}\n100 % without a line's end");
                let _ = out.flush();
                Ok(())
            }
            Temper::Crash => {
                let _ = std::io::stderr().write_all(b"terminate called after throwing 'x'\n");
                std::process::abort()
            }
            Temper::Panic => panic!("a paper jam"),
            Temper::Exit => std::process::exit(3),
            Temper::Hang => {
                let _child = Command::new("sleep").arg("600").spawn();
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Temper::Full => {
                let path = directory.join("weights.bin");
                let mut file = fs::File::create(&path).map_err(|source| Error::Io {
                    path: path.clone(),
                    source,
                })?;
                // More than the disk of the test has; the device file says the same on any disk.
                let written = file
                    .write_all(&vec![1; 4 << 20])
                    .and_then(|()| fs::write("/dev/full", b"x"));
                written.map_err(|source| Error::Io { path, source })
            }
            Temper::Refuse => Err(Error::Unsupported {
                model: "paper".to_owned(),
                reason: "its attention has a window".to_owned(),
            }),
        }
    }
}

fn spec() -> ModelSpec {
    ModelSpec {
        architecture: "llama".to_owned(),
        name: None,
        norm_eps: 1e-5,
        experts: None,
        window: None,
        is_causal: true,
        n_layer: 1,
        n_head: 1,
        n_head_kv: 1,
        head_dim: 2,
        n_embd: 2,
        n_ff: 2,
        n_vocab: 4,
        n_ctx: 512,
    }
}

/// A model that computes nothing.
struct Paper {
    spec: ModelSpec,
    n_page: usize,
}

impl Resident for Paper {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn n_page(&self) -> usize {
        self.n_page
    }

    fn weights_bytes(&self) -> Bytes {
        Bytes(3000)
    }

    fn kv_shape(&self) -> KvShape {
        KvShape {
            n_layer: 1,
            n_head_kv: 1,
            head_dim: 2,
            kv_type: troika_base::KvType::F16,
        }
    }

    fn step(&mut self, _: &Batch<'_>) -> Result<Outputs, troika_device::Error> {
        Ok(Outputs::default())
    }

    fn copy_page(&mut self, _: usize, _: usize) {}

    fn read_kv(
        &mut self,
        _: &[usize],
        _: Range<usize>,
        _: &mut [f16],
    ) -> Result<(), troika_device::Error> {
        Ok(())
    }

    fn write_kv(
        &mut self,
        _: &[usize],
        _: Range<usize>,
        _: &[f16],
    ) -> Result<(), troika_device::Error> {
        Ok(())
    }
}

/// Opens what was compiled, and knows what the temper says of it.
struct Judge;

impl Compare for Judge {
    fn compare(
        &self,
        file: &ModelFile,
        compiled: &dyn Device,
        options: &CompileOptions,
        _: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Loss, Error> {
        let n_ctx = options.n_ctx;
        compiled.load(file, LoadOptions::new(n_ctx), &mut |_| {
            ControlFlow::Continue(())
        })?;
        if compiled.name() == Fake(Temper::Nonsense).name() {
            return Err(Error::Library {
                library: compiled.name().to_owned(),
                doing: "running".to_owned(),
                message: "its logits are no numbers".to_owned(),
            });
        }
        let lossy = compiled.name() == Fake(Temper::Lossy).name();
        Ok(Loss {
            kl_mean: if lossy { 3.5 } else { 0.01 },
            kl_max: 4.0,
            agreement: 0.9,
            tokens: 100,
        })
    }
}

/// A model file with a tensor.
pub(super) fn model(directory: &Path, name: &str) -> ModelFile {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.context_length", 512u32);
    metadata.insert("llama.seed", name);
    // Without it nobody could read it a text to compare.
    metadata.insert("tokenizer.ggml.model", "llama");
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes("a", DType::F32, &[4], &[1; 16]);
    let path = directory.join(format!("{name}.gguf"));
    writer.write_file(&path).expect("is written");
    ModelFile::open(&path).expect("opens")
}

pub(super) fn options() -> CompileOptions {
    CompileOptions {
        weights: crate::WeightFormat::Int8,
        n_ctx: 256,
        chunk: 64,
    }
}

/// This program as the compiling process.
pub(super) fn worker() -> Worker {
    let args = ["--exact", "compile::tests::fake::child", "--nocapture"];
    Worker {
        program: std::env::current_exe().expect("is known"),
        args: args.iter().map(Into::into).collect(),
        env: vec![(CHILD.into(), "1".into())],
        timeout: None,
    }
}

/// What a compiling process does; nothing in a test's own process.
#[expect(
    clippy::exit,
    reason = "what follows in a test program is none of its parent's affair"
)]
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let backends: Vec<Arc<dyn Backend>> = ALL
        .iter()
        .map(|&temper| Arc::new(Fake(temper)) as Arc<dyn Backend>)
        .collect();
    let input = BufReader::new(std::io::stdin());
    let ended = serve(input, &mut std::io::stdout(), &backends, &Judge, || {
        std::process::exit(0)
    });
    ended.expect("the parent listens");
    if std::env::var_os("TROIKA_TEST_BAD_END").is_some() {
        std::process::abort();
    }
    std::process::exit(0);
}
