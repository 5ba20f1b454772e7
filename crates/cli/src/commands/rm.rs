//! `troika rm`: a model and its file go.

use troika_base::Bytes;

use super::pull::library;
use crate::home::Home;
use crate::output::{self, Console};
use crate::settings::ConfigArgs;

/// Delete an installed model, and its file if nothing else needs it
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Installed model; `troika list` shows them
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &RmArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let library = library(&args.config.settings(&home, [])?);
    let mut deleted = Vec::new();
    for name in &args.models {
        let bytes = library.find(name).map_or(0, |entry| entry.file_bytes);
        let name = library.delete(name)?;
        console.note(format_args!(
            "Deleted {} ({}).",
            output::printable(&name),
            Bytes(bytes)
        ));
        deleted.push(name);
    }
    if console.json {
        return output::json(&deleted);
    }
    Ok(())
}
