//! `crumbd serve --check`: what a start would trip over, without one.
//!
//! Looks at everything that a start would look at, in the same order and with the same code where that does not start
//! anything, and goes on after each fault. Nothing is written or connected to, and nobody is listened to. A state directory
//! is locked while it is read, if nobody uses it.

mod files;

use std::net::SocketAddr;
use std::path::Path;

use rustix::fs::{Access, access};

use super::super::config::{Read, Settings};
use super::super::{Failure, output};
use crate::cache::CacheConfig;
use crate::cli::log::{self, Filter, LogFormat};
use crate::feed::FeedSpec;
use crate::http::tls::Tls;
use crate::state::{FeedIdentity, StateDir, StateError};

/// What is wrong with what the settings name: files, directories, addresses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Wrong(String);

/// That something is wrong, after all of it has been said.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the above would keep a daemon from starting")]
pub(in crate::cli) struct CheckFailed(usize);

/// Says everything that is wrong with the settings and with what they name.
///
/// # Errors
/// [`CheckFailed`] when anything is, or that the summary cannot be printed.
pub(super) async fn run(read: Read) -> Result<(), Failure> {
    let Read { mut settings, faults, remarks } = read;
    // What the parts only warn of, such as a certificate that expires, is to be seen.
    let (_, _) = settings.log();
    log::start(LogFormat::Text, Filter::warnings())?;
    let mut wrong: Vec<String> = faults.iter().map(ToString::to_string).collect();
    wrong.extend(of_files(&settings).into_iter().map(|wrong| wrong.0));
    if let (Some((path, _)), Some(feed)) = (settings.state(), settings.feed()) {
        match state(&path, feed) {
            Ok(()) => {}
            Err(fault) if matches!(feed, FeedSpec::Push) => wrong.push(fault),
            // Such a feed is served all the same.
            Err(fault) => output::say(format_args!("note: no state is kept: {fault}")),
        }
    }
    wrong.extend(not_bindable(settings.server().listen).map(|wrong| wrong.0));
    remarks.iter().for_each(|remark| output::say(format_args!("note: {remark}")));
    wrong.iter().for_each(output::say);
    if !wrong.is_empty() {
        return Err(CheckFailed(wrong.len()).into());
    }
    Ok(output::line(summary(&settings))?)
}

fn of_files(settings: &Settings) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut add = |found: Result<(), String>| wrong.extend(found.err().map(Wrong));
    if let Some(FeedSpec::File { path, follow }) = settings.feed() {
        add(files::feed(path, *follow));
    }
    if let Some(FeedSpec::Etcd { tls, .. }) = settings.feed() {
        match settings.etcd_access() {
            Ok(access) if *tls => files::etcd(&access).into_iter().for_each(|fault| add(Err(fault))),
            Ok(_) => {}
            Err(error) => add(Err(error.to_string())),
        }
    }
    add(settings.tokens().map(drop).map_err(|error| error.to_string()));
    add(settings.tls().map(Tls::open).transpose().map(drop).map_err(|error| error.to_string()));
    wrong
}

/// What keeps a state directory from being used.
fn state(path: &Path, feed: &FeedSpec) -> Result<(), String> {
    let fault = |reason: String| Err(format!("state directory {}: {reason}", path.display()));
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return fault("it is not a directory".to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.ancestors().skip(1).find(|parent| parent.exists() || *parent == Path::new(""));
            let parent = match parent {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            return match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) if is_kernels_own(parent) => fault("the kernel takes no directory there".to_owned()),
                Ok(()) if parent.is_dir() => Ok(()),
                Ok(()) => fault(format!("{} is not a directory", parent.display())),
                Err(error) => fault(format!("it cannot be made in {}: {error}", parent.display())),
            };
        }
        Err(error) => return fault(error.to_string()),
    }
    if is_kernels_own(path) {
        return fault("the kernel takes no files there".to_owned());
    }
    if let Err(error) = access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return fault(format!("it is not for this user to read and write: {error}"));
    }
    let identity = FeedIdentity { name: feed.identity(), history: None };
    match StateDir::new(path.to_owned(), identity, CacheConfig::default().window).check() {
        Err(error @ StateError::InUse(_)) => {
            output::say(format_args!("note: {error}; what it holds was not looked at"));
            Ok(())
        }
        checked => checked.map_err(|error| error.to_string()),
    }
}

/// Whether no file can be made there, whatever its permissions say.
fn is_kernels_own(path: &Path) -> bool {
    let path = path.canonicalize();
    path.is_ok_and(|path| path.starts_with("/proc") || path.starts_with("/sys"))
}

/// Why the address cannot be served on. It is bound for a moment and never listened on.
fn not_bindable(listen: SocketAddr) -> Option<Wrong> {
    let bound = match listen {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }
    .and_then(|socket| socket.set_reuseaddr(true).and_then(|()| socket.bind(listen)));
    let error = bound.err()?;
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; if that is a daemon of yours with the same settings, check with --listen 127.0.0.1:0"
        }
        _ => "",
    };
    Some(Wrong(format!("cannot listen on {listen}: {error}{advice}")))
}

fn summary(settings: &Settings) -> String {
    let feed = settings.feed().map(ToString::to_string).unwrap_or_default();
    let scheme = if settings.tls().is_some() { "https" } else { "http" };
    let state = settings.state().map(|(path, _)| format!(", state in {}", path.display()));
    let listen = settings.server().listen;
    format!("all is well: feed {feed}, {scheme}://{listen}{}", state.unwrap_or_default())
}
