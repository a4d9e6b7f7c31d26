//! Settings of `crumbd serve`: flags over `CRUMBD_…` variables over the configuration file over defaults.
//!
//! ```text
//! flags.rs ─┐
//! variables ├─ given.rs: text and place ─ reader.rs, limits.rs: values ─ settings.rs ─ combine.rs: do they agree?
//! file.rs ──┘                                     └──────── fault.rs: everything that is wrong ────────┘
//! ```
//!
//! A value goes the same way wherever it was written, and no fault hides another.

mod combine;
mod fault;
mod file;
mod flags;
mod given;
mod limits;
mod nearest;
mod reader;
mod settings;
mod tls;

use std::path::PathBuf;

use clap::Args;

pub(super) use fault::{Faults, Remark};
pub(super) use given::Given;
pub(super) use nearest::nearest;
pub(super) use settings::Settings;

use fault::Fault;

/// Where the file is.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// A TOML file with these settings under the same names, such as `listen = "0.0.0.0:7811"`.
    /// Flags and variables win over it.
    #[arg(long, env = "CRUMBD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// All settings, and what is to be said of them.
pub(super) struct Read {
    /// Those that make sense; the others are as if they had not been given.
    pub(super) settings: Settings,
    /// What is wrong: with any of it a daemon does not start.
    pub(super) faults: Vec<Fault>,
    /// What works and may not be meant.
    pub(super) remarks: Vec<Remark>,
}

impl Read {
    /// Reads what was given, and the file.
    pub(super) fn all(file: &ConfigFile, given: Given) -> Self {
        let (from_file, mut faults) = match &file.config {
            Some(path) => file::read(path),
            None => (Given::default(), Vec::new()),
        };
        let given = given.over(from_file);
        let (settings, mut wrong) = Settings::read(&given);
        faults.append(&mut wrong);
        let mut remarks = combine::check(&given, &settings, &mut faults);
        remarks.extend(combine::unknown_variables());
        Self { settings, faults, remarks }
    }
}
