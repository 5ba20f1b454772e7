//! `troika config`: the settings of the server, and where each came from.

use serde::Serialize;
use troika_server::Settings;
use troika_server::settings::{FIELDS, example};

use crate::home::Home;
use crate::output::{self, Align, Console};
use crate::settings::SettingsArgs;

/// Show the settings of `troika serve`, and where each came from
///
/// Flags go before TROIKA_* variables, and these before the file. What is shown is what `troika serve` would use if it
/// were given the same flags.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Print a configuration file with every setting and its default, commented out
    #[arg(long)]
    example: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// A setting, for programs.
#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: serde_json::Value,
    from: String,
}

pub(crate) fn run(args: &ConfigArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if args.example {
        return output::answer(example(&Settings::at(home.path())));
    }
    let resolved = args.settings.resolve(&home)?;
    let settings = &resolved.settings;
    let rows = FIELDS.iter().zip(&resolved.origins);
    if console.json {
        let rows = rows.map(|(field, origin)| Row {
            key: field.key,
            value: field.json(settings),
            from: origin.to_string(),
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let heading = ["SETTING", "VALUE", "FROM"].map(str::to_owned);
    let rows = rows.map(|(field, origin)| {
        let value = output::printable(&field.text(settings)).into_owned();
        let value = if value.is_empty() {
            "-".to_owned()
        } else {
            value
        };
        [field.key.to_owned(), value, origin.to_string()]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    output::answer(output::table([Align::Left; 3], &rows))
}
