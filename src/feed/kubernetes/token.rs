//! The token of a user: the one in the kubeconfig, or that of a file, which is read again.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderValue;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::kubeconfig::FileReason;
use crate::value::Recurring;

/// How often a token file is read. Kubernetes replaces it long before its token expires.
const READ_EVERY: Duration = Duration::from_secs(10);

/// The value of the header `authorization`; `None` where the text is no token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let token = Some(token.trim()).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token of the kubeconfig itself; `None` where there is none, or credentials that come before it.
///
/// # Errors
/// [`FileReason::NoToken`].
pub(super) fn inline(user: &AuthInfo) -> Result<Option<HeaderValue>, FileReason> {
    let text = user.token.as_ref().map(|token| token.expose_secret()).filter(|token| !token.is_empty());
    text.map(|text| bearer(text).ok_or(FileReason::NoToken)).transpose()
}

/// Takes the token of a user, which the library that makes our requests would not trim. Its receiver has the newest one.
///
/// # Errors
/// [`FileReason`].
pub(super) async fn take_from(
    user: &mut AuthInfo,
) -> Result<Option<watch::Receiver<HeaderValue>>, FileReason> {
    let has_others = user.auth_provider.is_some() || user.username.is_some() && user.password.is_some();
    let inline = inline(user)?;
    user.token = None;
    let file = user.token_file.take();
    match (inline, file.map(PathBuf::from)) {
        _ if has_others => Ok(None),
        (Some(token), _) => Ok(Some(watch::channel(token).1)),
        (None, Some(file)) => Ok(Some(keep_reading(read(&file).await?, file))),
        (None, None) => Ok(None),
    }
}

async fn read(file: &PathBuf) -> Result<HeaderValue, FileReason> {
    bearer(&tokio::fs::read_to_string(file).await?).ok_or(FileReason::NoToken)
}

/// Reads the file for as long as somebody has a receiver of its token. While it cannot be read, the last token stays.
fn keep_reading(token: HeaderValue, file: PathBuf) -> watch::Receiver<HeaderValue> {
    let (sender, token) = watch::channel(token);
    tokio::spawn(async move {
        let unreadable = Recurring::default();
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(READ_EVERY) => {}
            }
            match read(&file).await {
                Ok(token) => {
                    sender.send_replace(token);
                    if let Some(end) = unreadable.ended() {
                        let file = file.display();
                        info!(times = end.times, lasted = %end.lasted(), "token file {file} can be read again");
                    }
                }
                Err(error) => {
                    if let Some(times) = unreadable.failed(&error.to_string()) {
                        let file = file.display();
                        warn!(times, "token file {file}: {error}; using the token that was read last");
                    }
                }
            }
        }
    });
    token
}
