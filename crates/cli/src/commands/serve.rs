//! `troika serve`: the APIs that applications already speak.

mod served;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use troika_device::Device;
use troika_scheduler::Limits;
use troika_server::keys::{KeyFile, Keys};
use troika_server::{
    Backend, Chats, Draft, Drain, Host, HostSettings, Hybrid, HybridPaths, Media, Services,
    Settings,
};

use crate::commands::pull;
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::Console;
use crate::settings::SettingsArgs;
use crate::{load, logging, output};

/// Threads that read and write connections. Models compute on threads of their own.
const CONNECTION_THREADS: usize = 2;

/// Files that are open besides connections: models, logs, and what libraries need.
pub(super) const OTHER_FILES: u64 = 256;

const EXAMPLES: &str = "\
Examples:
  troika serve                                     for programs on this machine
  troika keys add phone; troika serve --host 0.0.0.0
                                                   for the network, with a key

Every flag may also stand in config.toml or in the environment (TROIKA_PORT); `troika config` shows
what results. The first Ctrl-C lets running answers finish, the second ends them.";

/// Serve models by the APIs of OpenAI, Anthropic and Ollama
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &ServeArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let settings = args.settings.resolve(&home)?.settings;
    logging::start(&settings)?;
    troika_server::report_panics_by_place();
    raise_file_limit(&settings);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONNECTION_THREADS)
        .enable_all()
        .build()
        .context("cannot start the threads for connections")?
        .block_on(serve(&settings, &home, console))
}

/// Every connection is a file, and systems grant fewer at first than they would on request.
fn raise_file_limit(settings: &Settings) {
    let needed = settings.max_connections as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(needed) {
        Ok(granted) if granted >= needed => {}
        Ok(granted) => tracing::warn!(
            granted,
            needed,
            "the system grants fewer open files than connections may need; raise `ulimit -n`, or lower `max_connections`"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it was"),
    }
}

async fn serve(settings: &Settings, home: &Home, console: &Console) -> anyhow::Result<()> {
    let keys = Keys::open(KeyFile::at(&settings.keys_file))?;
    check_exposure(settings, &keys)?;
    let listener = bind(settings).await?;
    let address = listener.local_addr().context("the socket has no address")?;
    let (backend, media) = models(settings, home, console)?;
    let drain = Drain::default();
    drain
        .on_signals()
        .context("cannot listen for signals to stop")?;
    welcome(address, &*backend, &keys, console).await;
    let services = Services {
        pulls: pull::for_server(settings, home)?,
        chats: Some(chats(settings, console)),
        ..media.into()
    };
    let router = troika_server::app(backend, services, settings, keys, &drain)?;
    troika_server::serve(listener, router, drain, settings).await;
    console.note("Stopped.");
    Ok(())
}

/// The conversations; what became of their file is said.
fn chats(settings: &Settings, console: &Console) -> Chats {
    let chats = Chats::open(settings);
    if let Some(notice) = chats.notice() {
        console.note(notice);
        tracing::warn!("{notice}");
    }
    chats
}

/// The models on this machine, or on the one that it poses as; and those for always-on work.
pub(crate) fn models(
    settings: &Settings,
    home: &Home,
    console: &Console,
) -> anyhow::Result<(Arc<dyn Backend>, Media)> {
    let cpu = Arc::new(load::cpu(settings.threads)?);
    let (devices, pools, around) = match &settings.virtual_machine {
        None => served::real(cpu, settings, home, console)?,
        Some(name) => {
            let cpu: Arc<dyn Device> = cpu;
            served::posing(name, &cpu, settings, home, console)?
        }
    };
    let media = Media::new(settings, around.meters.clone());
    let limits = Limits {
        running: settings.max_streams,
        ..Limits::default()
    };
    let host = HostSettings {
        n_ctx: settings.n_ctx,
        kv_tokens: None,
        kv_type: settings.kv_type,
        scheduler: troika_scheduler::Settings {
            policy: settings.policy,
            limits,
            queue: settings.queue_length,
            models_max: settings.max_loaded_models,
            keep_alive: settings.keep_alive.into(),
            budget_wh: settings.energy_budget_wh,
            ..troika_scheduler::Settings::default()
        },
        around,
        draft: settings.draft.clone(),
    };
    let library = Arc::new(Home::library_in(settings.models_dir.clone()));
    if let Draft::Model { name, only } = &settings.draft {
        for name in only.iter().chain([name]) {
            let found = library.find(name);
            found.map_err(|error| WrongUse(format!("--draft: {error}")))?;
        }
    }
    let host = Host::over(library, devices, pools, host);
    let host = host.context("cannot start the devices' threads")?;
    Ok((beyond(host, settings, home)?, media))
}

/// The same, and the endpoints that the owner lets some jobs go to. Offline there are none, whatever the owner's file says.
fn beyond(host: Host, settings: &Settings, home: &Home) -> anyhow::Result<Arc<dyn Backend>> {
    if settings.offline {
        return Ok(Arc::new(host));
    }
    let paths = HybridPaths {
        rules: settings.hybrid_file.clone(),
        state: home.path().to_owned(),
    };
    Ok(Arc::new(Hybrid::new(host, &paths)?))
}

/// # Errors
/// [`WrongUse`] if everyone on the network could use the machine.
pub(super) fn check_exposure(settings: &Settings, keys: &Keys) -> Result<(), WrongUse> {
    let guarded =
        settings.host.is_loopback() || keys.are_needed() || settings.allow_unauthenticated_network;
    match guarded {
        true => Ok(()),
        false => Err(WrongUse(format!(
            "on {}, everyone who can reach this machine could use it; make a key (`troika keys add NAME`), \
             or say --allow-unauthenticated-network",
            settings.host
        ))),
    }
}

async fn bind(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(settings.host, settings.port);
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; something listens there already, maybe another `troika serve`: stop it, or take another --port"
            }
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            io::ErrorKind::PermissionDenied => "; ports below 1024 are not for everyone, take a higher --port",
            _ => "",
        };
        let message = format!("cannot listen on {address}{hint}");
        anyhow::Error::new(error).context(message)
    })
}

/// Says where the server is, what it has, and how to try it.
async fn welcome(address: SocketAddr, backend: &dyn Backend, keys: &Keys, console: &Console) {
    let names: Vec<_> = match backend.models().await {
        Ok(models) => models.into_iter().map(|model| model.name).collect(),
        Err(error) => {
            // The server may still serve what it can read.
            console.note(format_args!("The models cannot be listed: {error}"));
            Vec::new()
        }
    };
    let shown = names.iter().map(|name| output::printable(name));
    let shown: Vec<_> = shown.collect();
    let key = match keys.are_needed() {
        true => " -H 'Authorization: Bearer tk-...'",
        false => "",
    };
    // An address that stands for all of them is none to call.
    let host = match address.ip().is_unspecified() {
        true => "localhost".to_owned(),
        false => SocketAddr::new(address.ip(), 0)
            .to_string()
            .trim_end_matches(":0")
            .to_owned(),
    };
    let url = format!("http://{host}:{}", address.port());
    let model = names.first().map_or("MODEL", |name| &**name);
    console.note(format_args!(
        "Troika listens on {url} (OpenAI: {url}/v1, Anthropic and Ollama: {url})"
    ));
    console.note(format_args!("Models: {}", shown.join(", ")));
    console.note(format_args!(
        "Try: curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\\n       \
         -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'",
        output::printable(model)
    ));
}
