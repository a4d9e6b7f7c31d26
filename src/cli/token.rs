//! `crumbd token`.

use clap::Args;

use super::{Failure, output};
use crate::http::auth::NewToken;

/// Make a token for a daemon that wants one
///
/// The token goes to standard error, this once and never again; its line for the file of
/// `crumbd serve --tokens FILE` goes to standard output and names it by its SHA-256 only:
///
///   crumbd token --name edge --read edge/ --read shared/ >> tokens.jsonl
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Token {
    /// Whose it is; for those who read the file.
    #[arg(long)]
    name: Option<String>,
    /// Keys that begin so may be read; "" is every key. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    read: Vec<String>,
    /// Keys that begin so may be set and deleted; "" is every key. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    write: Vec<String>,
}

impl Token {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.read.is_empty() && self.write.is_empty() {
            return Err("a token without --read and --write may do nothing".into());
        }
        let NewToken { token, line } = NewToken::make(self.name, self.read, self.write)?;
        // First the line: a token that was shown and that no file knows would be lost.
        output::line(line)?;
        let shown = output::line_on_stderr(token);
        Ok(shown.map_err(|error| format!("the token could not be shown ({error}): its line is of no use"))?)
    }
}
