//! Child processes and all that they start: made, ended, and what their ending was. The one file with a system's ways.

use std::io;
use std::process::{Child, Command, ExitStatus};

/// Makes a child the head of a group of its own: signals of the terminal do not reach it, and it can be ended with all
/// that it has started.
#[cfg(unix)]
pub(super) fn apart(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0)
}

#[cfg(not(unix))]
pub(super) fn apart(command: &mut Command) -> &mut Command {
    command
}

/// Ends a child that was made [`apart`], and its group, at once.
#[cfg(unix)]
#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "other systems' way to end a child changes it"
)]
pub(super) fn kill(child: &mut Child) -> io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process_group};
    // The group outlives its head as long as anything runs in it; nothing may be left.
    match kill_process_group(Pid::from_child(child), Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
pub(super) fn kill(child: &mut Child) -> io::Result<()> {
    child.kill()
}

/// `was killed by signal 9`, `exited with status 3`.
pub(super) fn ending(status: ExitStatus) -> String {
    if let Some(signal) = signal(status) {
        return format!("was killed by signal {signal}");
    }
    match status.code() {
        Some(0) => "ended without a result".to_owned(),
        Some(code) => format!("exited with status {code}"),
        None => "ended for no known reason".to_owned(),
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}
