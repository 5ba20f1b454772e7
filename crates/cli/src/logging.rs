//! The server's log, on stderr.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use troika_server::Settings;
use troika_server::settings::{LogFormat, LogLevel};

/// Begins to log as the settings say.
///
/// # Errors
/// If someone logs already.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<()> {
    let level = match settings.log_level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries at their most talkative quote what they carry, and that may be a prompt or a key.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("troika", level);
    let log = tracing_subscriber::registry().with(filter);
    let to = std::io::stderr;
    match settings.log_format {
        LogFormat::Json => log
            .with(fmt::layer().json().flatten_event(true).with_writer(to))
            .try_init(),
        LogFormat::Text => log
            .with(
                fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(to),
            )
            .try_init(),
    }
    .context("cannot begin to log")
}
