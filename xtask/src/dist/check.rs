//! Takes the package and the image apart again, and tries what is in them.
//!
//! What needs something that is not on this machine is skipped and says so; nothing is installed here.

mod deb;
mod image;

use std::process::Command;

use super::Made;

pub(super) fn run(made: &Made) -> anyhow::Result<()> {
    let work = made.root.join("target/dist/check");
    let version = super::output(Command::new(&made.program).arg("--version"))?;
    if let Some(package) = &made.deb {
        deb::check(package, &work.join("deb"), &version)?;
    }
    image::check(&made.image, &work.join("image"), &version)
}

/// Whether a command is here and does nothing wrong when it is asked for this; else the reason why what needs it is skipped.
fn can(what: &str, command: &mut Command) -> bool {
    match super::output(command) {
        Ok(_) => true,
        Err(why) => {
            println!("skipped: {what}: {why}");
            false
        }
    }
}

fn passed(what: &str) {
    println!("ok: {what}");
}
