//! `troika pull`: a model from elsewhere, looked at first, then fetched and verified.

mod fit;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tokio::sync::watch;
use troika_base::Bytes;
use troika_library::Library;
use troika_pull::{Error, Look, Patience, Progress, Puller, Reference, Sites, Stage, Wish};
use troika_server::{Fit, Pulls, Settings, Verdict};

use super::devices;
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console};
use crate::progress::{Progress as Bar, Unit};
use crate::settings::ConfigArgs;

/// How often Ctrl-C is looked for.
const GLANCE: Duration = Duration::from_millis(100);

/// Choices of a repository that are named.
const CHOICES_SHOWN: usize = 12;

const EXAMPLES: &str = "\
Examples:
  troika pull hf:OWNER/REPO                        the usual file of a repository on Hugging Face
  troika pull hf:OWNER/REPO:Q8_0                   the one with these weights; a file's name does as well
  troika pull ollama:NAME:TAG                      a model of Ollama's registry, with its settings
  troika pull https://HOST/FILE.gguf --sha256 HEX  a file by its address
  troika pull hf:OWNER/REPO --look                 what it is, and whether it would run here

What breaks off goes on where it was when the same is pulled again. HF_TOKEN says who you are, to the hub and to nobody
else. HF_ENDPOINT and OLLAMA_REGISTRY name other hosts that speak the same.";

/// Fetch a model from elsewhere, and verify it
///
/// Shows size, licence, and whether and how fast it would run here, before it begins.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PullArgs {
    // No docstring: brackets are links there.
    #[arg(
        value_name = "REF",
        help = "Which: hf:OWNER/REPO[:FILE|:Q4_K_M], ollama:NAME[:TAG], https://HOST/FILE.gguf"
    )]
    from: String,
    /// Call it NAME here [default: as its file or registry calls it]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which file of a repository
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// What its bytes have to be
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Show what it is, and fetch nothing
    #[arg(long)]
    look: bool,
    /// Fetch it even if it does not fit this machine
    #[arg(short, long)]
    yes: bool,
    /// Let plain HTTP go beyond this machine
    #[arg(long)]
    allow_plain_http: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &PullArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let settings = args.config.settings(&home, [])?;
    if settings.offline {
        let message = "the setting `offline` is on: nothing is fetched from elsewhere";
        return Err(WrongUse(message.to_owned()).into());
    }
    let wish = args.wish()?;
    let sites = sites(args.allow_plain_http)?;
    let puller = Puller::new(Arc::new(library(&settings)), sites, Patience::default());
    let interrupt = Interrupt::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let pulled = runtime.block_on(pull(args, &wish, &puller, (&home, console), &interrupt));
    // Whoever is asked for an address by a name may not be waited for.
    runtime.shutdown_background();
    pulled
}

/// What the server pulls with; nothing where it is to be offline.
///
/// # Errors
/// [`WrongUse`] if a variable about hosts makes no sense.
pub(crate) fn for_server(settings: &Settings, home: &Home) -> anyhow::Result<Option<Pulls>> {
    if settings.offline {
        return Ok(None);
    }
    let puller = Puller::new(
        Arc::new(library(settings)),
        sites(false)?,
        Patience::default(),
    );
    let home = home.clone();
    // What is free is read when it is asked for.
    let judge = move |look: &Look| fit::judge(look, &devices::known(&home, &quiet()));
    Ok(Some(Pulls::new(puller, Arc::new(judge))))
}

/// The models, where the settings say that they are.
pub(crate) fn library(settings: &Settings) -> Library {
    Home::library_in(settings.models_dir.clone())
}

fn quiet() -> Console {
    Console {
        quiet: true,
        ..Console::default()
    }
}

fn sites(allow_plain_http: bool) -> Result<Sites, WrongUse> {
    let sites = Sites::from_variables(|name| std::env::var(name).ok(), allow_plain_http);
    sites.map_err(|error| WrongUse(error.to_string()))
}

impl PullArgs {
    fn wish(&self) -> Result<Wish, WrongUse> {
        let from: Result<Reference, _> = self.from.parse();
        Ok(Wish {
            from: from.map_err(|error| WrongUse(error.to_string()))?,
            file: self.file.clone(),
            name: self.name.clone(),
            sha256: self.sha256.clone(),
        })
    }
}

async fn pull(
    args: &PullArgs,
    wish: &Wish,
    puller: &Puller,
    (home, console): (&Home, &Console),
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let look = unless(interrupt, puller.look(wish), || {}).await?;
    let look = look.with_context(|| format!("cannot look at {}", args.from))?;
    let fit = fit::judge(&look, &devices::known(home, console));
    if args.look && console.json {
        return output::json(&look_json(&look, &fit));
    }
    if args.look {
        return output::answer(page(&look, &fit));
    }
    console.note(page(&look, &fit).trim_end());
    if fit.verdict == Verdict::DoesNotFit && !args.yes {
        return Err(anyhow!(
            "{} would not run here: it {}; --yes pulls it all the same",
            look.name,
            fit.why
        ));
    }
    let (tell, mut watched) = watch::channel(Progress::default());
    let mut bar = Bar::new(console, "pulling", Unit::Bytes);
    let pulled = unless(interrupt, puller.pull(&look, &tell), || {
        let now = *watched.borrow_and_update();
        bar.update(now.done_bytes, now.bytes);
        bar.remark(&match now.stage {
            Stage::Verifying | Stage::Done => "(verifying)".to_owned(),
            Stage::Looking | Stage::Downloading => {
                format!("({}/s)", Bytes(now.bytes_per_second as u64))
            }
        });
    });
    let pulled = pulled.await;
    bar.clear();
    match pulled {
        Ok(Ok(name)) => done(&name, &look, console),
        Ok(Err(error)) => {
            rest(&error, console);
            Err(error).with_context(|| format!("cannot pull {}", look.from))
        }
        Err(interrupted) => {
            console.note("Stopped; what is here stays, and the same command goes on from there.");
            Err(interrupted.into())
        }
    }
}

/// Waits for work unless Ctrl-C is pressed, and does something meanwhile.
async fn unless<T>(
    interrupt: &Interrupt,
    work: impl Future<Output = T>,
    mut meanwhile: impl FnMut(),
) -> Result<T, Interrupted> {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(GLANCE);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = ticks.tick() => {
                meanwhile();
                if interrupt.is_set() {
                    return Err(Interrupted);
                }
            }
        }
    }
}

/// Says that what is here stays, where that is so.
fn rest(error: &Error, console: &Console) {
    let nothing = matches!(
        error,
        Error::WrongDigest { .. } | Error::Busy | Error::Library(_) | Error::DiskFull { .. }
    );
    if !nothing {
        console.note("What is here stays, and the same command goes on from there.");
    }
}

fn done(name: &str, look: &Look, console: &Console) -> anyhow::Result<()> {
    if console.json {
        return output::json(&json!({"name": name, "from": look.from, "bytes": look.bytes}));
    }
    let checked = match look.digest {
        Some(_) => "its digest is right",
        None => "nobody says what its digest must be",
    };
    let name = output::line(name, 200);
    output::answer(format_args!(
        "{name} is installed; {checked}. Try: troika run {name}\n"
    ))
}

/// What it is, for people.
fn page(look: &Look, fit: &Fit) -> String {
    let rest = match look.have_bytes {
        0 => String::new(),
        have if have >= look.bytes => ", here already".to_owned(),
        have => format!(", {} of it here already", Bytes(have)),
    };
    let free = look
        .disk_free_bytes
        .map(|free| format!(" ({} free on the disk)", Bytes(free)));
    let verdict = match fit.verdict {
        Verdict::Fits => "fits",
        Verdict::Tight => "tight",
        Verdict::DoesNotFit => "does not fit",
        Verdict::Unknown => "not known",
    };
    let more = match look.files().len() {
        1 => String::new(),
        files => format!(" and {} more", files - 1),
    };
    let mut rows = vec![
        ["name", &look.name].map(str::to_owned),
        [
            "from".to_owned(),
            format!("{}: {}{more}", look.source, look.file),
        ],
        [
            "size".to_owned(),
            format!("{}{rest}{}", Bytes(look.bytes), free.unwrap_or_default()),
        ],
    ];
    if let Some(quantization) = &look.quantization {
        rows.push(["weights".to_owned(), quantization.clone()]);
    }
    let licence = look.licence.as_deref().unwrap_or("not told");
    rows.push(["licence".to_owned(), licence.to_owned()]);
    rows.push(["here".to_owned(), format!("{verdict}: {}", fit.why)]);
    let others = look
        .choices
        .iter()
        .filter(|choice| choice.name != look.file);
    let others: Vec<_> = others
        .map(|choice| choice.quantization.as_deref().unwrap_or(&choice.name))
        .take(CHOICES_SHOWN)
        .collect();
    if !others.is_empty() {
        rows.push(["instead".to_owned(), others.join(", ")]);
    }
    for note in &look.notes {
        rows.push(["note".to_owned(), note.clone()]);
    }
    // They come from elsewhere, and go to a terminal.
    let rows = rows
        .into_iter()
        .map(|row| row.map(|cell| output::line(&cell, 300)));
    let rows: Vec<_> = rows.collect();
    output::table([output::Align::Left, output::Align::Left], &rows)
}

fn look_json(look: &Look, fit: &Fit) -> serde_json::Value {
    json!({
        "from": look.from,
        "name": look.name,
        "file": look.file,
        "files": look.files().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect::<Vec<_>>(),
        "bytes": look.bytes,
        "have_bytes": look.have_bytes,
        "licence": look.licence,
        "quantization": look.quantization,
        "sha256": look.digest.as_ref().map(ToString::to_string),
        "disk_free_bytes": look.disk_free_bytes,
        "fit": fit,
        "notes": look.notes,
    })
}
