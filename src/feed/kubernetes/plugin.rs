//! The credential plugin of a kubeconfig (`exec`): a program that prints a token or a certificate.
//!
//! The library that makes our requests would run it on a thread that nothing ends, again for each request that is given up
//! on. Here it is a process with a deadline, and there is one at a time: a client renews its token before it expires, and
//! is not made without one.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hyper::header::HeaderValue;
use jiff::Timestamp;
use kube::config::{AuthInfo, ExecConfig};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error::one_line;
use super::kubeconfig::yaml_error;
use super::token::bearer;
use crate::value::Recurring;

/// How long it may take, and the most that it may print.
const DEADLINE: Duration = Duration::from_secs(20);
const OUTPUT_BYTES: u64 = 1 << 20;

/// A token is renewed so long before it expires, or halfway if it is shorter; and this is the shortest pause between two runs.
const EARLY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(5);

/// A plugin that gave no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginError {
    #[error("the credential plugin {0:?} does not start: {1}")]
    NotStarted(String, std::io::Error),
    #[error("the credential plugin {command:?} has given nothing within {} s, and was ended", DEADLINE.as_secs())]
    Hung { command: String },
    #[error("the credential plugin {command:?} failed ({status}): {said}")]
    Failed { command: String, status: ExitStatus, said: String },
    #[error("the credential plugin {0:?} has printed no ExecCredential: {1}")]
    Malformed(String, String),
}

/// A plugin.
pub(super) struct Plugin(ExecConfig);

/// What a plugin has given.
pub(super) struct Credentials {
    /// The value of the header `authorization`.
    pub(super) token: Option<HeaderValue>,
    /// A certificate and its key, in PEM.
    pub(super) identity: Option<(String, String)>,
    pub(super) expires: Option<Timestamp>,
}

#[derive(Deserialize)]
struct ExecCredential {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<Timestamp>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// A plugin's process, and those of its group that it starts. Dropping it kills them.
struct Process {
    child: Child,
    /// The process group. It is not used again while a process of it lives.
    group: Option<Pid>,
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Self { child, group }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once the plugin is waited for, its group has been killed, and the number may be another's.
        if let Some(group) = self.group.filter(|_| self.child.id().is_some()) {
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Plugin {
    /// The plugin of a user, unless there are other credentials, which come first.
    pub(super) fn take_from(user: &mut AuthInfo) -> Option<Self> {
        let exec = user.exec.take()?;
        let has_others = user.auth_provider.is_some()
            || user.token.is_some()
            || user.token_file.is_some()
            || user.username.is_some() && user.password.is_some();
        (!has_others).then_some(Self(exec))
    }

    /// Runs it once.
    pub(super) async fn run(&self) -> Result<Credentials, PluginError> {
        let command = self.0.command.clone().unwrap_or_default();
        let started = self.start(&command);
        let mut process =
            Process::from(started.map_err(|error| PluginError::NotStarted(command.clone(), error))?);
        let (printed, said) = (process.child.stdout.take(), process.child.stderr.take());
        let group = process.group;
        let ended = async {
            let status = process.child.wait().await;
            // What it has started may hold its output open.
            group.into_iter().for_each(|group| _ = kill_process_group(group, Signal::KILL));
            status
        };
        let run = async { tokio::try_join!(read(printed), read(said), ended) };
        let ended =
            timeout(DEADLINE, run).await.map_err(|_| PluginError::Hung { command: command.clone() })?;
        let (printed, said, status) =
            ended.map_err(|error| PluginError::NotStarted(command.clone(), error))?;
        if !status.success() {
            let said = one_line(&String::from_utf8_lossy(&said));
            return Err(PluginError::Failed { command, status, said });
        }
        let ExecCredential { status } = serde_saphyr::from_slice(&printed)
            .map_err(|error| PluginError::Malformed(command.clone(), yaml_error(&error)))?;
        status.into_credentials().map_err(|why| PluginError::Malformed(command, why.to_owned()))
    }

    fn start(&self, command: &str) -> std::io::Result<Child> {
        let Self(ExecConfig { args, env, drop_env, api_version, cluster, .. }) = self;
        let spec = match cluster {
            Some(cluster) => json!({"interactive": false, "cluster": cluster}),
            None => json!({"interactive": false}),
        };
        let info = json!({"apiVersion": api_version, "kind": "ExecCredential", "spec": spec});
        let env = env.iter().flatten().filter_map(|one| Some((one.get("name")?, one.get("value")?)));
        let mut plugin = Command::new(command);
        plugin.args(args.iter().flatten()).envs(env).env("KUBERNETES_EXEC_INFO", info.to_string());
        drop_env.iter().flatten().for_each(|name| _ = plugin.env_remove(name));
        plugin
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Renews the token for as long as somebody has a receiver of it.
    pub(super) fn renew(
        self,
        token: HeaderValue,
        expires: Option<Timestamp>,
    ) -> watch::Receiver<HeaderValue> {
        let (sender, token) = watch::channel(token);
        if let Some(expires) = expires {
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.closed() => {}
                    () = self.keep_renewing(&sender, expires) => {}
                }
            });
        }
        token
    }

    async fn keep_renewing(&self, sender: &watch::Sender<HeaderValue>, mut expires: Timestamp) {
        let failing = Recurring::default();
        loop {
            sleep(renewed_after(expires)).await;
            match self.run().await {
                Ok(Credentials { token: Some(token), expires: Some(until), .. }) => {
                    sender.send_replace(token);
                    expires = until;
                    if let Some(end) = failing.ended() {
                        info!(times = end.times, lasted = %end.lasted(), "the credential plugin gives tokens again");
                    }
                }
                Ok(Credentials { token: Some(token), .. }) => {
                    sender.send_replace(token);
                    return;
                }
                Ok(_) => {
                    if let Some(times) = failing.failed("") {
                        warn!(times, "the credential plugin has given no token; using the last one");
                    }
                }
                Err(error) => {
                    if let Some(times) = failing.failed(&error.to_string()) {
                        warn!(times, "the token is not renewed: {error}; using the last one");
                    }
                }
            }
        }
    }
}

impl Status {
    fn into_credentials(self) -> Result<Credentials, &'static str> {
        let token = self.token.filter(|token| !token.is_empty());
        let token = token.map(|token| bearer(&token).ok_or("its token cannot be a header")).transpose()?;
        let identity = self.client_certificate_data.zip(self.client_key_data);
        if token.is_none() && identity.is_none() {
            return Err("it has no token, and no certificate with its key");
        }
        Ok(Credentials { token, identity, expires: self.expiration_timestamp })
    }
}

/// Reads what is printed, up to a limit.
async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(from) = from {
        from.take(OUTPUT_BYTES).read_to_end(&mut read).await?;
    }
    Ok(read)
}

/// The pause before a token that expires then is renewed.
fn renewed_after(expires: Timestamp) -> Duration {
    let left = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
    left.saturating_sub(EARLY).max(left / 2).max(PAUSE)
}
