//! `crumbd serve --check`: reports what would keep a daemon from starting, and starts nothing.
//!
//! It checks what a start would check, in the same order and by the same code where that code starts nothing. It goes on
//! after each error. It writes nothing, connects to nothing and listens on nothing. It locks an unused state directory
//! while it reads it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::super::config::{CollectionFeed, LoadedSettings, SettingError, Settings};
use super::super::{Failure, output};
use super::cursor_key::{self, KeyFileError};
use crate::cache::CacheConfig;
use crate::cli::log::{self, Filter, LogFormat};
use crate::feed::{FeedError, FeedSpec, Storage};
use crate::http::auth::TokensError;
use crate::http::tls::{Tls, TlsError};
use crate::http::{ServeError, check_address};
use crate::state::{FeedIdentity, StateDir, StateError};

/// One reason why a daemon would not start.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    CursorKey(#[from] KeyFileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error("{}{}", .0, advice(.0))]
    Listen(#[from] ServeError),
}

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
enum StateDirError {
    #[error("state directory {}: {reason}", path.display())]
    Path { path: PathBuf, reason: PathError },
    #[error(transparent)]
    Content(#[from] StateError),
}

/// The reason why a path cannot be a state directory.
#[derive(Debug, thiserror::Error)]
enum PathError {
    #[error("it is not a directory")]
    NotADirectory,
    #[error("{} is not a directory", .0.display())]
    ParentNotADirectory(PathBuf),
    #[error("it cannot be made in {}: {source}", parent.display())]
    NotCreatable { parent: PathBuf, source: Errno },
    #[error("the kernel allows no directory there")]
    KernelParent,
    #[error("the kernel allows no files there")]
    Kernel,
    #[error("this user may not read and write it: {0}")]
    Forbidden(Errno),
    #[error("{0}")]
    Unreadable(io::Error),
}

/// The last message of a check that found problems.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the above would keep a daemon from starting")]
pub(in crate::cli) struct CheckFailed(usize);

/// Reports everything that is wrong with the settings, and with the files and addresses that they name.
///
/// # Errors
/// [`CheckFailed`] if there is a problem, or an error of standard output.
pub(super) async fn run(loaded: LoadedSettings) -> Result<(), Failure> {
    let LoadedSettings { mut settings, errors, warnings } = loaded;
    // Parts that only warn, of a certificate that expires for example, do so in the log.
    let (_, _) = settings.log();
    log::start(LogFormat::Text, Filter::warnings())?;
    let mut problems: Vec<Problem> = errors.into_iter().map(Problem::from).collect();
    check_files(&settings, &mut problems);
    for CollectionFeed { name, feed } in settings.collections() {
        let Some((path, _)) = settings.state_of(name.as_ref()) else { continue };
        match check_state_dir(&path, feed) {
            Ok(()) => {}
            Err(error) if feed.kind().storage == Storage::Datastore => problems.push(error.into()),
            // Other feeds are served without a state directory.
            Err(error) => output::say(format_args!("note: no state is kept: {error}")),
        }
    }
    for (_, address) in settings.addresses() {
        problems.extend(check_address(&address).err().map(Problem::from));
    }
    warnings.iter().for_each(|warning| output::say(format_args!("note: {warning}")));
    problems.iter().for_each(output::say);
    if !problems.is_empty() {
        return Err(CheckFailed(problems.len()).into());
    }
    Ok(output::line(summary(&settings))?)
}

fn check_files(settings: &Settings, problems: &mut Vec<Problem>) {
    for collection in settings.collections() {
        problems.extend(collection.feed.check(settings.feeds()).into_iter().map(Problem::from));
    }
    match settings.tokens() {
        Ok(tokens) => {
            let warning = tokens.and_then(|tokens| settings.tokens_without_feed(&tokens));
            warning.iter().for_each(|warning| output::say(format_args!("note: {warning}")));
        }
        Err(error) => problems.push(error.into()),
    }
    problems.extend(cursor_key::given(settings).err().map(Problem::from));
    problems.extend(settings.tls().map(Tls::open).transpose().err().map(Problem::from));
}

fn check_state_dir(path: &Path, feed: &FeedSpec) -> Result<(), StateDirError> {
    let exists = check_path(path).map_err(|reason| StateDirError::Path { path: path.to_owned(), reason })?;
    if !exists {
        return Ok(());
    }
    let identity = FeedIdentity { name: feed.identity(), history: None };
    match StateDir::new(path.to_owned(), identity, CacheConfig::default().window).check() {
        Err(error @ StateError::InUse(_)) => {
            output::say(format_args!("note: {error}; its content was not checked"));
            Ok(())
        }
        checked => Ok(checked?),
    }
}

/// Checks that the path is a usable directory, or that one can be made there. Returns whether it exists.
fn check_path(path: &Path) -> Result<bool, PathError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(PathError::NotADirectory),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.ancestors().skip(1).find(|parent| parent.exists() || *parent == Path::new(""));
            let parent = match parent {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            return match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) if is_kernels(parent) => Err(PathError::KernelParent),
                Ok(()) if parent.is_dir() => Ok(false),
                Ok(()) => Err(PathError::ParentNotADirectory(parent.to_owned())),
                Err(source) => Err(PathError::NotCreatable { parent: parent.to_owned(), source }),
            };
        }
        Err(error) => return Err(PathError::Unreadable(error)),
    }
    if is_kernels(path) {
        return Err(PathError::Kernel);
    }
    access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(PathError::Forbidden)?;
    Ok(true)
}

/// Whether the path is in a file system of the kernel. No file can be made there, whatever its permissions say.
fn is_kernels(path: &Path) -> bool {
    let path = path.canonicalize();
    path.is_ok_and(|path| path.starts_with("/proc") || path.starts_with("/sys"))
}

fn advice(error: &ServeError) -> &'static str {
    match error {
        ServeError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            "; if a daemon of yours with the same settings runs there, check with --listen 127.0.0.1:0"
        }
        _ => "",
    }
}

fn summary(settings: &Settings) -> String {
    let feeds = settings.collections().iter().map(|CollectionFeed { name, feed }| match name {
        Some(name) => format!("{name}={feed}"),
        None => feed.to_string(),
    });
    let feeds: Vec<String> = feeds.collect();
    let feeds = match &feeds[..] {
        [one] => format!("feed {one}"),
        several => format!("feeds {}", several.join(" ")),
    };
    let scheme = if settings.tls().is_some() { "https" } else { "http" };
    let state = settings.state().map(|(path, _)| format!(", state in {}", path.display()));
    let listen: Vec<String> = settings.listen().iter().map(|address| address.url(scheme)).collect();
    format!("all is well: {feeds}, {}{}", listen.join(" "), state.unwrap_or_default())
}
