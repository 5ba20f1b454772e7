//! Pages that need nothing else: no script, no font, no address. Dark and light by the reader's own setting.
//!
//! Every text that is not ours is escaped: names come from files and flags.

pub(crate) mod plot;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1a1c20; --paper: #fdfdfc; --line: #d4d6da; --soft: #5d636e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e7ea; --paper: #15171b; --line: #363a42; --soft: #9aa1ac; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { min-width: 15rem; }
svg { width: 100%; height: auto; color: var(--ink); } .soft { color: var(--soft); } details { margin: .5rem 0; } .key { white-space: nowrap; margin-right: 1rem; }";

/// A page of a body.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// Writes a page under a temporary name beside its own, which it gets when it is whole.
pub(crate) fn write(path: &Path, page: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // A pipe or a terminal has no name to give.
    let is_special = fs::metadata(path).is_ok_and(|there| !there.is_file());
    if is_special {
        return fs::write(path, page).with_context(cannot);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    if written.is_err() {
        // What is half done is of no use; that it could not be written is what counts.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(cannot)
}

/// What the colours of a plot mean.
pub(crate) fn key<'n>(out: &mut String, names: impl Iterator<Item = &'n str>) {
    out.push_str("<p>");
    for (at, name) in names.enumerate() {
        let colour = plot::hex(at);
        let _ = write!(
            out,
            "<span class=\"key\"><span style=\"color:{colour}\">■</span> {}</span> ",
            escape(name)
        );
    }
    out.push_str("</p>\n");
}

/// Text as HTML shows it, whatever is in it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_becomes_markup() {
        assert_eq!(
            escape("<script>\"x\" & 'y'\u{7}"),
            "&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;\u{fffd}"
        );
    }
}
