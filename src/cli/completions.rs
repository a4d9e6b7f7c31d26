//! `crumbd completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Failure, output};

/// Print the completions of a shell
///
/// For bash: `crumbd completions bash > /etc/bash_completion.d/crumbd`
/// For zsh: `crumbd completions zsh > "${fpath[1]}/_crumbd"`
/// For fish: `crumbd completions fish > ~/.config/fish/completions/crumbd.fish`
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "crumbd", &mut script);
        Ok(output::bytes(&script)?)
    }
}
