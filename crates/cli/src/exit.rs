//! How the program ends: 0 done, 1 failed, 2 wrong use, 130 interrupted.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::output;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;
/// 128 and the number of SIGINT, as shells count.
pub(crate) const INTERRUPTED: u8 = 130;

/// The command line asks for something that makes no sense, found out after it was parsed.
#[derive(Debug)]
pub(crate) struct WrongUse(pub(crate) String);

impl fmt::Display for WrongUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

/// The user said stop. What there was to say has been said.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// What was asked for is not so, or not all of it is. The answer has said what.
#[derive(Debug)]
pub(crate) struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer has told it")
    }
}

impl std::error::Error for Told {}

/// Reports how a command ended, once.
pub(crate) fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let (code, tells) = ending(&error);
    if tells {
        output::error(&error);
    }
    ExitCode::from(code)
}

/// The exit code of an error, and whether there is something to say about it.
fn ending(error: &anyhow::Error) -> (u8, bool) {
    if error.is::<Interrupted>() {
        return (INTERRUPTED, false);
    }
    if error.is::<Told>() {
        return (FAILED, false);
    }
    if is_broken_pipe(error) {
        // Whoever read the answer has read enough.
        return (DONE, false);
    }
    match error.is::<WrongUse>() {
        true => (WRONG_USE, true),
        false => (FAILED, true),
    }
}

/// Prints what the parser of the command line has to say: a complaint, or the help that was asked for.
pub(crate) fn refused(error: &clap::Error) -> ExitCode {
    // Nothing can be said about an output that takes nothing.
    let _ = error.print();
    match u8::try_from(error.exit_code()) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::from(WRONG_USE),
    }
}

/// Whether nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn endings_have_their_codes() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        for (error, want) in [
            (anyhow!("on purpose"), (1, true)),
            (WrongUse("on purpose".to_owned()).into(), (2, true)),
            (Interrupted.into(), (130, false)),
            (Told.into(), (1, false)),
            (
                anyhow::Error::new(broken).context("cannot write"),
                (0, false),
            ),
            (
                anyhow::Error::new(WrongUse("on purpose".to_owned())).context("more"),
                (2, true),
            ),
        ] {
            assert_eq!(ending(&error), want, "{error}");
        }
        assert_eq!(code(Ok(())), ExitCode::SUCCESS);
    }
}
