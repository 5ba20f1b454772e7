//! The server's settings as flags, made of the server's own list of them.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use troika_server::Settings;
use troika_server::settings::{FIELDS, Field, Resolved, Sources};

use crate::exit::WrongUse;
use crate::home::Home;

const CONFIG: &str = "config";

/// What the command line says of the settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingsArgs {
    /// The configuration file, if one is named.
    pub(crate) config: Option<PathBuf>,
    /// Keys and values.
    pub(crate) flags: Vec<(String, String)>,
}

impl SettingsArgs {
    /// The settings of file, environment and flags.
    ///
    /// # Errors
    /// [`WrongUse`] if one of them makes no sense.
    pub(crate) fn resolve(&self, home: &Home) -> Result<Resolved, WrongUse> {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // What is not Unicode is told so by whoever reads the setting.
            let value = value.to_string_lossy().into_owned();
            name.starts_with("TROIKA_").then_some((name, value))
        });
        let sources = Sources {
            home: home.path().to_owned(),
            file: self.config.clone(),
            env: env.collect(),
            flags: self.flags.clone(),
        };
        sources.resolve().map_err(|error| {
            let cause = std::error::Error::source(&error);
            WrongUse(match cause {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })
        })
    }
}

/// The configuration, for verbs that need a setting or two of the server's.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: config.toml in TROIKA_HOME, if it is there]
    #[arg(
        long,
        env = "TROIKA_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The settings of file, environment and these flags.
    ///
    /// # Errors
    /// [`WrongUse`] if one of them makes no sense.
    pub(crate) fn settings<'a>(
        &self,
        home: &Home,
        flags: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> Result<Settings, WrongUse> {
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let args = SettingsArgs {
            config: self.config.clone(),
            flags: flags.collect(),
        };
        Ok(args.resolve(home)?.settings)
    }
}

/// The configuration, for verbs about endpoints and rules.
#[derive(Debug, clap::Args)]
pub(crate) struct HybridArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where endpoints and rules are [default: as the configuration says]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) hybrid_file: Option<String>,
}

impl HybridArgs {
    /// As [`ConfigArgs::settings`], with other flags besides.
    ///
    /// # Errors
    /// [`WrongUse`] if one of them makes no sense.
    pub(crate) fn settings<'a>(
        &self,
        home: &Home,
        flags: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> Result<Settings, WrongUse> {
        let own = [("hybrid_file", self.hybrid_file.clone())];
        self.config.settings(home, own.into_iter().chain(flags))
    }
}

fn arg(field: &Field) -> Arg {
    let default = field.text(&Settings::at(Path::new("$TROIKA_HOME")));
    let help = match &*default {
        "" | "false" => field.help.to_owned(),
        default => format!("{} [default: {default}]", field.help),
    };
    let arg = Arg::new(field.key)
        .long(field.flag())
        .value_name(field.value)
        .help(help)
        .help_heading(field.group);
    match (field.key, field.value) {
        ("threads", _) => arg.short('t'),
        (_, "BOOL") => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    }
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .env("TROIKA_CONFIG")
            .hide_env_values(true)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file [default: config.toml in TROIKA_HOME, if it is there]");
        command.arg(config).args(FIELDS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |field: &Field| {
            let value = matches.get_one::<String>(field.key)?;
            Some((field.key.to_owned(), value.clone()))
        };
        Ok(Self {
            config: matches.get_one::<PathBuf>(CONFIG).cloned(),
            flags: FIELDS.iter().filter_map(flag).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
