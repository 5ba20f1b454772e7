//! Changes of `hybrid.toml` that leave the owner's own words as they are: comments, order, blank lines.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};
use troika_remote::Loaded;
use troika_remote::config::{Api, Remote};

use crate::exit::WrongUse;
use crate::home::folder_of;

/// The file with an endpoint more, behind those that are there.
///
/// # Errors
/// If the file makes no sense, or would not with it.
pub(super) fn added(path: &Path, remote: &Remote) -> anyhow::Result<String> {
    let mut document = read(path)?;
    let remotes = document
        .entry("remote")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(remotes) = remotes.as_array_of_tables_mut() else {
        let path = path.display();
        let message = format!(
            "{path}: `remote` is not written as `[[remote]]`, so it cannot be added to; edit it by hand"
        );
        return Err(WrongUse(message).into());
    };
    let mut table = table(remote)?;
    if !remotes.is_empty()
        || !fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .is_empty()
    {
        table.decor_mut().set_prefix("\n");
    }
    remotes.push(table);
    let text = document.to_string();
    Loaded::parse(&text).map_err(|error| WrongUse(error.to_string()))?;
    Ok(text)
}

/// Removes an endpoint.
///
/// # Errors
/// If it is not there, or a rule goes on naming it.
pub(super) fn remove(path: &Path, name: &str) -> anyhow::Result<()> {
    let mut document = read(path)?;
    let remotes = document
        .get_mut("remote")
        .and_then(Item::as_array_of_tables_mut);
    let found = remotes.and_then(|remotes| {
        let named = |it: &Table| it.get("name").and_then(Item::as_str) == Some(name);
        let at = remotes.iter().position(named)?;
        remotes.remove(at);
        Some(())
    });
    if found.is_none() {
        let path = path.display();
        return Err(WrongUse(format!(
            "there is no `[[remote]]` called `{name}` in {path}"
        ))
        .into());
    }
    let text = document.to_string();
    Loaded::parse(&text).map_err(|error| {
        WrongUse(format!(
            "`{name}` is still needed; change the rules first: {error}"
        ))
    })?;
    write(path, &text)
}

/// Replaces the file, in one step, with the rights that it had.
///
/// # Errors
/// The system's.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        // A link leads to the file that is meant.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(folder))?;
        file.write_all(text.as_bytes())?;
        if let Ok(before) = fs::metadata(&path) {
            file.as_file().set_permissions(before.permissions())?;
        }
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<DocumentMut> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    // In the words of those who know the fields; the other parser knows only TOML.
    Loaded::parse(&text).map_err(|error| error.in_file(path))?;
    Ok(text.parse()?)
}

/// An endpoint as people write it: what is not said is not there.
fn table(remote: &Remote) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.insert(name, Item::Value(value));
        }
    };
    set("name", Some(remote.name.as_str().into()));
    set("url", Some(remote.url.as_str().into()));
    let api = match remote.api {
        Api::Openai => "openai",
        Api::Anthropic => "anthropic",
        Api::Ollama => "ollama",
    };
    set("api", Some(api.into()));
    set("key", remote.key.as_deref().map(Into::into));
    let models: InlineTable = remote
        .models
        .iter()
        .map(|(here, there)| (here, there.as_str()))
        .collect();
    set("models", Some(models.into()));
    set("price", inline(&remote.price)?);
    set("limits", inline(&remote.limits)?);
    set("region", remote.region.as_deref().map(Into::into));
    set("data", remote.data.as_deref().map(Into::into));
    set(
        "allow_plain_http",
        remote.allow_plain_http.then(|| true.into()),
    );
    Ok(table)
}

/// A small table on one line, as its own type writes it; `None` if nothing is in it.
fn inline(fields: &impl serde::Serialize) -> anyhow::Result<Option<Value>> {
    let fields = serde_json::to_value(fields)?;
    let fields = fields.as_object().into_iter().flatten();
    let fields = fields.filter(|(_, value)| !value.is_null());
    let table: InlineTable = fields
        .map(|(name, value)| Ok((name.as_str(), number(value)?)))
        .collect::<anyhow::Result<_>>()?;
    Ok((!table.is_empty()).then(|| table.into()))
}

/// Prices are decimals, which a type may write as text.
fn number(value: &serde_json::Value) -> anyhow::Result<Value> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.parse::<Value>()
        .ok()
        .filter(|it| !matches!(it, Value::Array(Array { .. }) | Value::InlineTable(_)))
        .with_context(|| format!("{text} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# Mine.
[hybrid] # of course
budget_per_day = 5

[[remote]] # the first
name = \"first\"   # its name
url = \"https://one.example.com/v1\"
api = \"openai\"
models = { \"here\" = \"there\" }
price = { input = 1, output = 2 }

[[rule]]
name = \"all\"
action = \"remote\"
to = [\"first\"]
";

    fn remote(name: &str) -> Remote {
        let text = format!(
            "[[remote]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1/v1\"\napi = \"ollama\"\nkey = \"env:KEY\"\n\
             models = {{ \"a\" = \"b:c\" }}\nprice = {{ input = 0.25, output = 1.5 }}\nlimits = {{ concurrent = 2 }}\n\
             region = \"eu\"\n"
        );
        Loaded::parse(&text).unwrap().config.remote.remove(0)
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hybrid.toml");
        fs::write(&path, FILE).unwrap();
        let text = added(&path, &remote("second")).unwrap();
        let loaded = Loaded::parse(&text).unwrap();
        assert_eq!(loaded.config.remote[1], remote("second"));
        for line in FILE.lines() {
            assert!(text.contains(line), "{line}\n{text}");
        }
        write(&path, &text).unwrap();
        remove(&path, "second").unwrap();
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(
            after.lines().collect::<Vec<_>>(),
            FILE.lines().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_file_is_made_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("hybrid.toml");
        let text = added(&path, &remote("one")).unwrap();
        assert!(text.starts_with("[[remote]]\n"), "{text}");
        write(&path, &text).unwrap();
        let again = Loaded::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(again.config.remote, [remote("one")]);
    }

    #[test]
    fn what_makes_no_sense_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hybrid.toml");
        fs::write(&path, FILE).unwrap();
        let twice = added(&path, &remote("first")).unwrap_err();
        assert!(
            twice.is::<WrongUse>() && twice.to_string().contains("already"),
            "{twice}"
        );
        let plain = Remote {
            url: "http://192.168.0.9/v1".to_owned(),
            ..remote("second")
        };
        assert!(
            added(&path, &plain)
                .unwrap_err()
                .to_string()
                .contains("allow_plain_http")
        );
        let needed = remove(&path, "first").unwrap_err();
        assert!(
            needed.is::<WrongUse>() && needed.to_string().contains("still needed"),
            "{needed}"
        );
        assert!(remove(&path, "third").unwrap_err().is::<WrongUse>());
        assert_eq!(fs::read_to_string(&path).unwrap(), FILE);
    }
}
