//! Settings of `crumbd serve`. Flags win over `CRUMBD_…` variables, variables over the configuration file, and the file
//! over defaults.
//!
//! ```text
//! flags.rs ─┐
//! variables ├─ raw.rs: text and origin ─ reader.rs, limits.rs: values ─ settings.rs ─ consistency.rs: do they agree?
//! file.rs ──┘                                   └──────────────── error.rs: all errors ────────────────┘
//! ```
//!
//! Values of every origin are read by the same code. All errors are reported, not only the first.

mod base_path;
mod collections;
mod command;
mod consistency;
mod error;
mod etcd_listen;
mod file;
mod flags;
mod limits;
mod nearest;
mod raw;
mod reader;
mod settings;
mod tls;

use std::path::PathBuf;

use clap::Args;

pub(super) use collections::CollectionFeed;
pub(super) use command::Config;
pub(super) use error::{SettingError, SettingErrors, Warning};
pub(super) use nearest::nearest;
pub(super) use raw::RawSettings;
pub(super) use settings::Settings;

/// The flag of the configuration file.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// A TOML file with these settings under the same names, such as `listen = "0.0.0.0:7811"`.
    /// Flags and variables win over it.
    #[arg(long, env = "CRUMBD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// All settings, with their errors and warnings.
pub(super) struct LoadedSettings {
    /// The valid settings; an invalid one has its default.
    pub(super) settings: Settings,
    /// The invalid settings. With any of them a daemon does not start.
    pub(super) errors: Vec<SettingError>,
    /// Settings that work, but may be a mistake.
    pub(super) warnings: Vec<Warning>,
}

impl LoadedSettings {
    /// Reads flags, variables and the file.
    pub(super) fn load(file: &ConfigFile, given: RawSettings) -> Self {
        let (given, mut errors) = given.over_file(file);
        let (settings, mut invalid) = Settings::read(&given);
        errors.append(&mut invalid);
        let mut warnings = consistency::check(&given, &settings, &mut errors);
        warnings.extend(consistency::unknown_variables());
        Self { settings, errors, warnings }
    }
}
