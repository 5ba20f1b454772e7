//! The flags that give an answer its form.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use troika_engine::constraint::Grammar;

use crate::exit::WrongUse;

/// The form that the answer must have.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Form of the answer")]
#[group(multiple = false)]
pub(super) struct FormArgs {
    /// Answer in JSON that a JSON schema describes: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON")]
    schema: Option<String>,
    /// Answer in text that a regular expression matches as a whole
    #[arg(long, value_name = "RE")]
    regex: Option<String>,
    /// Answer in text of a Lark grammar
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
}

/// Bytes of a file; the engine takes less.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl FormArgs {
    /// The grammar, if one is asked for. Whether it can be followed shows when it is compiled.
    ///
    /// # Errors
    /// If a file cannot be read, or a schema is not JSON.
    pub(super) fn grammar(&self) -> anyhow::Result<Option<Grammar>> {
        if let Some(schema) = &self.schema {
            let is_json = schema.trim_start().starts_with(['{', '[', '"']);
            let (text, name) = match is_json {
                true => (schema.clone(), "the schema".to_owned()),
                false => (read(Path::new(schema))?, schema.clone()),
            };
            let value = serde_json::from_str(&text)
                .map_err(|error| WrongUse(format!("--schema: {name} is not JSON: {error}")))?;
            return Ok(Some(Grammar::JsonSchema(value)));
        }
        if let Some(regex) = &self.regex {
            return Ok(Some(Grammar::Regex(regex.clone())));
        }
        let lark = self.lark.as_deref().map(read).transpose()?;
        Ok(lark.map(Grammar::Lark))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(WrongUse(format!("{name} is longer than 1 MiB")).into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> anyhow::Result<Option<Grammar>> {
        let schema = Some(text.to_owned());
        FormArgs {
            schema,
            ..FormArgs::default()
        }
        .grammar()
    }

    #[test]
    fn a_schema_is_json_or_a_file() {
        let want = Grammar::JsonSchema(serde_json::json!({"type": "object"}));
        let have = schema(r#" {"type": "object"}"#).expect("is JSON");
        assert_eq!(have, Some(want));
        let error = schema(r#"{"type": "#).expect_err("is half of it");
        assert!(error.is::<WrongUse>() && error.to_string().contains("line 1"));
        let error = schema("no-such-file.json").expect_err("is not there");
        assert_eq!(error.to_string(), "cannot read no-such-file.json");
    }

    #[test]
    fn no_flag_is_no_form() {
        assert_eq!(FormArgs::default().grammar().expect("is fine"), None);
    }
}
