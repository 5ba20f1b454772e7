//! The shared libraries that a program needs, as the system's loader finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::output;

/// The libraries and the loader itself, each where the program looks for it.
pub(super) fn of(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let told = output(Command::new("ldd").arg(program).env("LC_ALL", "C"))?;
    parse(&told).with_context(|| format!("{} cannot run here either", program.display()))
}

/// Lines such as `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)` and `/lib64/ld-linux-x86-64.so.2 (0x00007f)`.
fn parse(told: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in told.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "statically linked" {
            continue;
        }
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        if place == "not found" {
            bail!("a library is not found: {line}");
        }
        let place = place.split(" (").next().unwrap_or(place).trim();
        // What the kernel itself gives to each program has no path.
        if place.starts_with('/') {
            paths.push(PathBuf::from(place));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_tells_is_read() {
        let told = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f01)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f02)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n";
        let paths = parse(told).unwrap();
        let want = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths, want.map(PathBuf::from));
        assert!(parse("\tstatically linked\n").unwrap().is_empty());
        assert!(parse("\tlibx.so => not found\n").is_err());
    }
}
