//! `troika top`: what a server's devices are doing, in a terminal.
//!
//! `view` is what the server tells, `client` asks for it, `app` is what is on the screen and what keys do, `screen` and
//! `overlay` draw it, and here all of it runs: one thread asks, the other draws and listens to keys.

mod account;
mod app;
mod client;
mod overlay;
mod screen;
mod text;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::{event, terminal};

use self::app::{App, Wish};
use self::client::Client;
use self::text::Theme;
use self::view::{Placement, State};
use crate::exit::{Interrupted, WrongUse};
use crate::output::{self, Console};

/// How often the server is asked.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a key may go unseen while the screen waits for news.
const LISTEN: Duration = Duration::from_millis(50);
/// Columns of a frame for a reader that has none.
const WIDTH: usize = 100;
/// The file of a key holds one line.
const KEY_BYTES_MAX: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  troika top                                       the server on this machine
  troika top --url http://workshop:11435 --key-file key.txt
  troika top --once                                one frame of plain text
  troika top --json                                the state, for programs
  troika top --why req_5f0c2d9e4b7a86310000002a    a request's placement, and what it took

Keys: q quits, p chooses the policy, j and k select a job, enter says why it is where it is;
space and the page keys go to what is below.
The key may also stand in TROIKA_KEY. NO_COLOR leaves out colours.";

/// Watch what a server's devices are doing
///
/// Shows devices, jobs, queues, memory and watts of a running `troika serve`, twice a second.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:11435")]
    url: String,
    /// A file that holds an API key, if the server needs one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print one frame of plain text; the default where nobody watches
    #[arg(long)]
    once: bool,
    /// Print where the jobs of a request were placed and why, and what they took, by its `x-request-id`
    #[arg(long, value_name = "REQUEST", conflicts_with = "once")]
    why: Option<String>,
}

pub(crate) fn run(args: &TopArgs, console: &Console) -> anyhow::Result<()> {
    let client = Client::new(&args.url, key(args.key_file.as_deref())?)?;
    if let Some(request) = &args.why {
        if console.json {
            return output::json(&client.placements_json(request)?);
        }
        return output::answer(screen::told(&client.placements(request)?));
    }
    if console.json {
        return output::json(&client.state_json()?);
    }
    let first = client.state()?;
    let is_watched = io::stdout().is_terminal() && io::stdin().is_terminal();
    if args.once || !is_watched {
        let width = match io::stdout().is_terminal() {
            true => terminal::size().map_or(WIDTH, |(columns, _)| columns.into()),
            false => WIDTH,
        };
        // Speeds are between two states.
        let mut app = App::new(first);
        thread::sleep(PERIOD);
        app.see(client.state()?);
        return output::answer(screen::text(&app, width));
    }
    // https://no-color.org: any text but none.
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    watch(client, first, Theme { colours })
}

/// The key in a file or in the environment.
fn key(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let text = match file {
        Some(path) => Some(read_key(path)?),
        None => std::env::var("TROIKA_KEY").ok(),
    };
    let key = text.map(|text| text.trim().to_owned());
    let key = key.filter(|key| !key.is_empty());
    let is_sane = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
    match key {
        Some(key) if !is_sane(&key) => {
            let from = file.map_or_else(
                || "TROIKA_KEY".to_owned(),
                |path| path.display().to_string(),
            );
            Err(WrongUse(format!(
                "{from} holds no API key: one line of letters and digits that begins with tk-"
            ))
            .into())
        }
        key => Ok(key),
    }
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read the key in {}", path.display()))?;
    Ok(text)
}

/// News for the screen.
enum News {
    State(anyhow::Result<Box<State>>),
    Policy(&'static str, anyhow::Result<()>),
    Placements(anyhow::Result<Vec<Placement>>),
}

/// Shows the server's states until the user has seen enough.
fn watch(client: Client, first: State, theme: Theme) -> anyhow::Result<()> {
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    // It is not waited for: it may be in the middle of asking a server that does not answer.
    thread::spawn(move || follow(&client, &asked, &tell));
    let mut terminal = ratatui::try_init().context("cannot use the terminal; try --once")?;
    let result = attend(&mut terminal, App::new(first), theme, &ask, &told);
    ratatui::restore();
    result
}

/// Asks the server: for its state all the time, for other things when they are wanted. Ends with the screen.
fn follow(client: &Client, asked: &Receiver<Wish>, tell: &Sender<News>) {
    loop {
        let news = match asked.recv_timeout(PERIOD) {
            Ok(Wish::Policy(name)) => News::Policy(name, client.set_policy(name)),
            Ok(Wish::Placements(request)) => News::Placements(client.placements(&request)),
            Err(RecvTimeoutError::Timeout) => News::State(client.state().map(Box::new)),
            Ok(Wish::Quit | Wish::Interrupt) | Err(RecvTimeoutError::Disconnected) => return,
        };
        if tell.send(news).is_err() {
            return;
        }
    }
}

/// Draws, and does what keys say.
fn attend(
    terminal: &mut DefaultTerminal,
    mut app: App,
    theme: Theme,
    ask: &Sender<Wish>,
    told: &Receiver<News>,
) -> anyhow::Result<()> {
    let mut is_stale = true;
    loop {
        if is_stale {
            let drawn = terminal.draw(|frame| {
                screen::draw(&app, theme, frame.area(), frame.buffer_mut());
            });
            drawn.context("cannot draw on the terminal")?;
        }
        is_stale = false;
        while let Ok(news) = told.try_recv() {
            take_in(&mut app, news);
            is_stale = true;
        }
        if !event::poll(LISTEN).context("cannot read keys")? {
            continue;
        }
        is_stale = true;
        let event::Event::Key(key) = event::read().context("cannot read keys")? else {
            continue;
        };
        if !key.is_press() {
            continue;
        }
        match app.press(key) {
            None => {}
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Interrupt) => return Err(Interrupted.into()),
            // The other thread lives as long as the screen.
            Some(wish) => drop(ask.send(wish)),
        }
    }
}

fn take_in(app: &mut App, news: News) {
    match news {
        News::State(Ok(state)) => app.see(*state),
        News::State(Err(error)) => app.lost = Some(error.to_string()),
        News::Policy(name, Ok(())) => app.note = Some(format!("The policy is {name} now.")),
        News::Policy(_, Err(error)) => {
            app.note = Some(format!("The policy stays as it was: {error}"));
        }
        News::Placements(answer) => app.placed(answer.map_err(|error| error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_one_line_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, want) in [
            ("tk-1-2\n", Some(Some("tk-1-2"))),
            ("\n", Some(None)),
            ("tk-1 2", None),
            ("tk-1\r\nx-header: 2", None),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let found = key(Some(file.path())).ok();
            let found = found.as_ref().map(Option::as_deref);
            assert_eq!(found, want, "{text:?}");
        }
        assert!(key(Some(Path::new("no-such-file"))).is_err());
    }
}
