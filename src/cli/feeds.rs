//! `crumbd feeds`.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, output};
use crate::feed::{Kind, kinds};

/// List the feeds that --feed can name
///
/// Each is listed with the form of its URL, an example and its options. Options follow a question mark in the URL, with
/// an & between them; special characters in their values are percent-encoded: a space is %20, and + is a plus.
#[derive(Args)]
pub(super) struct Feeds {}

impl Feeds {
    pub(super) fn run(self) -> Result<(), Failure> {
        let all: Vec<String> = kinds().iter().map(|kind| described(kind)).collect();
        Ok(output::line(all.join("\n").trim_end())?)
    }
}

fn described(kind: &Kind) -> String {
    let mut text =
        format!("{}\n    {}\n    crumbd serve --feed '{}'\n", kind.form, kind.summary, kind.example);
    let width = kind.options.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, meaning) in kind.options {
        // Writing to a string never fails.
        _ = writeln!(text, "      {name:<width$}  {meaning}");
    }
    text
}
