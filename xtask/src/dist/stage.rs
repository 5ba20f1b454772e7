//! What goes into the package: the program without what a debugger would want, manuals, completions, the unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{fresh, output};

/// Where the unit in the sources has the program, and where the package has it.
const PATHS: [&str; 2] = ["/usr/local/bin/troika", "/usr/bin/troika"];

/// The shells whose completions are packed, with the names that they look for.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "troika.bash"),
    ("zsh", "_troika"),
    ("fish", "troika.fish"),
];

/// What has been laid out.
pub(super) struct Stage {
    pub(super) program: PathBuf,
}

/// Lays it out in a directory, which is emptied before.
pub(super) fn lay_out(root: &Path, binary: &Path, directory: &Path) -> anyhow::Result<Stage> {
    fresh(directory)?;
    let program = directory.join("troika");
    fs::copy(binary, &program).with_context(|| format!("cannot copy {}", binary.display()))?;
    strip(&program);
    let manuals = directory.join("man");
    output(Command::new(&program).args(["man", "--dir"]).arg(&manuals))?;
    let completions = directory.join("completions");
    fresh(&completions)?;
    for (shell, file) in SHELLS {
        let script = output(Command::new(&program).args(["completions", shell]))?;
        write(&completions.join(file), &script)?;
    }
    let source = root.join("dist/troika.service");
    let source = fs::read_to_string(&source).context("dist/troika.service cannot be read")?;
    write(&directory.join("troika.service"), &unit(&source)?)?;
    Ok(Stage { program })
}

/// The unit, for a program where packages put it.
fn unit(source: &str) -> anyhow::Result<String> {
    let [local, packed] = PATHS;
    ensure!(
        source.contains(&format!("ExecStart={local} ")),
        "dist/troika.service does not start {local}"
    );
    Ok(source.replace(local, packed))
}

/// Panics are told by their places, which are in the program itself; the rest is three quarters of the file.
fn strip(program: &Path) {
    let stripped = output(Command::new("strip").arg("--strip-unneeded").arg(program));
    if let Err(why) = stripped {
        println!("the program is packed as it was built: {why}");
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_what_the_package_has() {
        let source = include_str!("../../../dist/troika.service");
        let unit = unit(source).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/troika serve\n"), "{unit}");
        assert!(!unit.contains("/usr/local"), "{unit}");
        // The profile is the same: nothing else differs.
        assert_eq!(unit.lines().count(), source.lines().count());
        assert!(super::unit("ExecStart=/opt/troika serve\n").is_err());
    }
}
