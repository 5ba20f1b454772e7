//! Where a page is played: a folder as somebody's home, a shell, and the server that the page starts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The address that the pages name; the server has another port.
const PORT: &str = ":11435";
/// No command of the guide takes that long, on whatever machine.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a server that listens has for the rest of what it says.
const GREETING: Duration = Duration::from_secs(20);
/// How often a process is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// Why no page can be run here, if so.
pub(crate) fn cannot_play() -> Option<String> {
    if cfg!(windows) {
        return Some("the commands are for a shell of Unix".to_owned());
    }
    ["sh", "curl"].into_iter().find_map(|tool| {
        let there = Command::new(tool)
            .arg("--help")
            .stdin(Stdio::null())
            .output();
        there.is_err().then(|| format!("there is no {tool}"))
    })
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it said, on stdout and stderr as they came.
    pub(crate) text: String,
    /// Whether it ended well, or still serves.
    pub(crate) succeeded: bool,
    /// How it ended, in words.
    pub(crate) status: String,
}

/// One page's home.
#[derive(Debug)]
pub(crate) struct Scene {
    home: PathBuf,
    /// Where the server listens, once there is one.
    port: Option<String>,
    server: Option<Child>,
}

impl Scene {
    /// An empty home.
    ///
    /// # Panics
    /// If it cannot be made.
    pub(crate) fn new(name: &str) -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("guide")
            .join(name);
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).expect("the home is made");
        let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stories.gguf");
        std::fs::copy(story, home.join("model.gguf")).expect("there is a model");
        Self {
            home,
            port: None,
            server: None,
        }
    }

    /// Whether the program has a verb, such as `troika pull`.
    pub(crate) fn knows(&self, verb: &str) -> bool {
        let asked = self.shell(&format!("{verb} --help")).output();
        asked.expect("the shell starts").status.success()
    }

    /// Saves a file.
    ///
    /// # Panics
    /// If that fails.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let name = name.replacen('~', &self.home.to_string_lossy(), 1);
        let path = self.home.join(name);
        let folder = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(folder).expect("the folder is made");
        std::fs::write(path, text).expect("the file is written");
    }

    /// Types a command. A server goes on in the background, until the next one or the end of the page, once it has said
    /// what is `enough`; everything else ends by itself.
    ///
    /// # Panics
    /// If a command does not end.
    pub(crate) fn run(&mut self, command: &str, enough: &dyn Fn(&str) -> bool) -> Outcome {
        let command = match &self.port {
            Some(port) => command.replace(PORT, port),
            None => command.to_owned(),
        };
        let serves = command.starts_with("troika serve");
        let log = self.home.join(".log");
        if serves {
            self.stop();
        }
        let mut child = self.start(&command, serves, &log);
        let begin = Instant::now();
        let mut greeted = begin;
        loop {
            if let Some(status) = child.try_wait().expect("the process is ours") {
                return Outcome {
                    text: self.told(&log),
                    succeeded: status.success(),
                    status: status.to_string(),
                };
            }
            let is_late = begin.elapsed() > LIMIT;
            if serves && self.port.is_none() {
                self.port = port(&self.told(&log));
                greeted = Instant::now();
            }
            let is_enough = greeted.elapsed() > GREETING || enough(&self.told(&log));
            if self.port.is_some() && serves && is_enough {
                self.server = Some(child);
                return Outcome {
                    text: self.told(&log),
                    succeeded: true,
                    status: "it serves".to_owned(),
                };
            }
            if is_late {
                let _ = child.kill();
                panic!("`{command}` does not end; it said\n{}", self.told(&log));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn start(&self, command: &str, serves: bool, log: &Path) -> Child {
        let output = File::create(log).expect("the log is made");
        // Without a shell in between, the server itself is what is stopped.
        let mut shell = match serves {
            true => self.shell(&format!("exec {command}")),
            false => self.shell(command),
        };
        if serves {
            shell.env("TROIKA_PORT", "0");
        }
        shell
            .stdout(output.try_clone().expect("a file has many handles"))
            .stderr(output)
            .spawn()
            .expect("the shell starts")
    }

    /// A shell that knows little but the program and this home.
    fn shell(&self, command: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_troika"));
        let folder = program.parent().expect("a program lies in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .envs(std::env::var_os("TROIKA_ISA").map(|set| ("TROIKA_ISA", set)))
            .env("TROIKA_HOME", self.home.join(".local/share/troika"))
            // Drivers of programs that play a GPU talk on stderr.
            .env("TROIKA_GPU", "off")
            .env("TROIKA_LOG_LEVEL", "error")
            .stdin(Stdio::null());
        shell
    }

    /// What was said until now, as a page has it: the home is `~`, and the port the usual one.
    fn told(&self, log: &Path) -> String {
        let text = std::fs::read(log).expect("the log is there");
        let text = String::from_utf8_lossy(&text).replace(&*self.home.to_string_lossy(), "~");
        match &self.port {
            Some(port) => text.replace(port, PORT),
            None => text,
        }
    }

    fn stop(&mut self) {
        self.port = None;
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The port in `Troika listens on http://127.0.0.1:40123 (…`, with its colon.
fn port(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("Troika listens on http://")?;
    let address = rest.split([' ', '\n']).next()?;
    let (_, port) = address.rsplit_once(':')?;
    // The line is whole.
    rest.contains('\n').then(|| format!(":{port}"))
}
