//! `crumbd token`.

use clap::Args;

use super::{Failure, output};
use crate::http::auth::{CollectionPattern, NewRights, NewToken};

/// Make a token for a daemon with --tokens
///
/// The token goes to standard error, once: it cannot be shown again. Its line for the file of
/// `crumbd serve --tokens FILE` goes to standard output, and holds only the token's SHA-256:
///
///   crumbd token --name edge --read edge/ --read shared/ >> tokens.jsonl
///
/// The rights are for the default collection, or for those of --collection. A token that has different rights in
/// several collections gets one line with several members in "collections".
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Token {
    /// The token's owner; a note for readers of the file.
    #[arg(long)]
    name: Option<String>,
    /// Keys with this prefix may be read; "" is every key. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    read: Vec<String>,
    /// Keys with this prefix may be set and deleted; "" is every key. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    write: Vec<String>,
    /// The named collection in which the rights are given, and in no other; "*" is every named collection that the line does
    /// not name. May be given several times.
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<CollectionPattern>,
    /// A token for administration: it may see sizes, metrics and the list of clients, whatever it may read.
    #[arg(long)]
    admin: bool,
}

/// A token that was not made, or was lost.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("a token needs --read, --write or --admin: without them it permits nothing")]
    NoRights,
    #[error("--collection says where keys may be read or written: it needs --read or --write")]
    NoKeys,
    #[error("the token could not be shown ({0}): its line is of no use")]
    NotShown(std::io::Error),
}

impl Token {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { name, read, write, collections, admin } = self;
        if read.is_empty() && write.is_empty() {
            if !collections.is_empty() {
                return Err(TokenError::NoKeys.into());
            }
            if !admin {
                return Err(TokenError::NoRights.into());
            }
        }
        let NewToken { token, line } = NewToken::make(NewRights { name, read, write, collections, admin })?;
        // The line comes first: without it a token that was shown is of no use.
        output::line(line)?;
        Ok(output::line_on_stderr(token).map_err(TokenError::NotShown)?)
    }
}
