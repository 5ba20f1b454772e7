//! `troika` alone: the machine, what is installed, what to type next.

use serde::Serialize;
use troika_base::Bytes;
use troika_device::Device as _;
use troika_engine::CpuDevice;

use crate::home::Home;
use crate::output::{self, Console};
use crate::{load, machine};

#[derive(Serialize)]
struct Greeting {
    version: &'static str,
    device: String,
    processor: String,
    kernels: &'static str,
    threads: usize,
    memory_bytes: Option<u64>,
    memory_bytes_available: Option<u64>,
    models_dir: String,
    models: usize,
}

pub(crate) fn run(console: &Console) -> anyhow::Result<()> {
    let device = load::cpu(None)?;
    let home = Home::from_env()?;
    let greeting = greeting(&device, &home)?;
    if console.json {
        return output::json(&greeting);
    }
    output::answer(text(&greeting))
}

fn greeting(device: &CpuDevice, home: &Home) -> anyhow::Result<Greeting> {
    let memory = machine::memory();
    Ok(Greeting {
        version: env!("CARGO_PKG_VERSION"),
        device: device.name().to_owned(),
        processor: device.description(),
        kernels: device.kernels().name,
        threads: device.threads(),
        memory_bytes: memory.map(|memory| memory.total.0),
        memory_bytes_available: memory.map(|memory| memory.available.0),
        models_dir: home.models_dir().display().to_string(),
        models: home.library().list()?.len().saturating_sub(1),
    })
}

fn text(greeting: &Greeting) -> String {
    let memory = match (greeting.memory_bytes, greeting.memory_bytes_available) {
        (Some(total), Some(available)) => {
            format!("{}, {} free", Bytes(total), Bytes(available))
        }
        _ => "unknown".to_owned(),
    };
    let models = match greeting.models {
        0 => "the story model inside; yours go to".to_owned(),
        n => format!("the story model inside, and {n} in"),
    };
    let next = match greeting.models {
        0 => "  troika run model.gguf           chat with a model that you have",
        _ => "  troika list                     the models that can be named without a path",
    };
    format!(
        "Troika {}: language models on the computer you own.\n\n\
         {:<7} {}\n\
         memory  {memory}\n\
         models  {models} {}\n\n\
         Type next:\n\
         \x20 troika run \"Once upon a time\"   a story by the model inside\n\
         {next}\n\
         \x20 troika bench                    how fast this computer is\n\
         \x20 troika help                     the rest\n",
        greeting.version, greeting.device, greeting.processor, greeting.models_dir,
    )
}
