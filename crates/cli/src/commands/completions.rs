//! `troika completions`: what a shell needs to complete the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Args;
use crate::output;

/// Write a shell's completions to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Bash:  troika completions bash > ~/.local/share/bash-completion/completions/troika
Zsh:   troika completions zsh > ~/.zfunc/_troika    (with ~/.zfunc in $fpath)
Fish:  troika completions fish > ~/.config/fish/completions/troika.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    output::answer(script(args.shell))
}

/// The script that a shell reads.
fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "troika", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_knows_the_verbs() {
        for &shell in Shell::value_variants() {
            let script = script(shell);
            for word in ["troika", "run", "bench", "temperature"] {
                assert!(script.contains(word), "{shell} lacks {word}");
            }
        }
    }
}
