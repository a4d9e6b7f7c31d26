//! How the server is reached: a kubeconfig, or the service account of a pod. Files are read, nothing is sent, and no plugin
//! runs.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{AuthInfo, Cluster, Config, ExecConfig, ExecInteractiveMode, Kubeconfig, KubeconfigError};
use rustix::fs::{Access, access};

use super::config::KubeTarget;
use super::error::one_line;
use super::token::{self, bearer};
use crate::feed::error_chain::chain;
use crate::wire::{self, PemError};

/// The files of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A configuration that cannot be used: where it is, what is wrong, and what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error(
        "no cluster is configured: set KUBECONFIG, name a file with kubeconfig=PATH in the feed's URL, or run as a pod with a service account"
    )]
    Missing,
    #[error("kubeconfig {file}: {reason}")]
    Kubeconfig { file: String, reason: Reason },
    #[error("the pod's service account: {0}; a pod with automountServiceAccountToken: false has none")]
    ServiceAccount(Reason),
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("{0}")]
    Unreadable(io::Error),
    #[error("it is no kubeconfig: {0}")]
    Malformed(String),
    #[error("it is no regular file, and would be another one when it is read again")]
    NotRegular,
    #[error("{}: {reason}", path.display())]
    OneOfSeveral { path: PathBuf, reason: Box<Reason> },
    #[error("it has no current-context: set one, or name one with context= in the feed's URL")]
    NoContext,
    #[error("it has no context {name:?}; there is {}", listed(there))]
    UnknownContext { name: String, there: Vec<String> },
    #[error(
        "its context {context:?} names the {kind} {name:?}, which it does not have; there is {}",
        listed(there)
    )]
    Unknown { context: String, kind: &'static str, name: String, there: Vec<String> },
    #[error(
        "the server of its cluster {cluster:?} is {server:?}, which is no URL; one looks like https://HOST:6443"
    )]
    BadServer { cluster: String, server: String },
    #[error("{member} {}: {reason}", path.display())]
    File { member: &'static str, path: PathBuf, reason: FileReason },
    #[error("{member} is not a PEM file in base64: {reason}")]
    Data { member: &'static str, reason: FileReason },
    #[error("the token of its user has characters that no header may have")]
    BadToken,
    #[error("its user has a {there} and no {missing}; TLS needs both")]
    HalfAnIdentity { there: &'static str, missing: &'static str },
    #[error("the `exec` of its user has no command")]
    NoCommand,
    #[error("the credential plugin {command:?} is no program that can be run: {place}{}", install_hint(.hint.as_deref()))]
    NoPlugin { command: String, place: String, hint: Option<String> },
    #[error("the credential plugin {0:?} has interactiveMode: Always, and a daemon has no terminal")]
    Interactive(String),
    #[error(
        "the auth-provider {0:?} runs a command, which Kubernetes has given up; use a credential plugin (`exec`)"
    )]
    Provider(String),
    #[error("{0}")]
    Other(String),
}

/// What is wrong with the content of a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileReason {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Base64(#[from] base64::DecodeError),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("it has no token, or one with characters that no header may have")]
    NoToken,
    #[error("it is no regular file")]
    NotRegular,
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn install_hint(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; its installHint: {}", one_line(hint))).unwrap_or_default()
}

/// Loads the configuration that every client of Kubernetes takes: the file that the feed names, KUBECONFIG,
/// `~/.kube/config`, or the service account of a pod.
///
/// # Errors
/// [`ConfigError`], also for files that it names.
pub(super) fn load(target: &KubeTarget) -> Result<Config, ConfigError> {
    let is_named = target.kubeconfig.is_some() || target.context.is_some();
    let variable = env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    let file = match (&target.kubeconfig, &variable) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(value)) => value.display().to_string(),
        (None, None) => "~/.kube/config".to_owned(),
    };
    match from_kubeconfig(target) {
        Ok(config) => Ok(config),
        Err(_) if !is_named && env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            from_service_account().map_err(ConfigError::ServiceAccount)
        }
        Err(Reason::Unreadable(error))
            if !is_named && variable.is_none() && error.kind() == io::ErrorKind::NotFound =>
        {
            Err(ConfigError::Missing)
        }
        Err(reason) => Err(ConfigError::Kubeconfig { file, reason }),
    }
}

fn from_kubeconfig(target: &KubeTarget) -> Result<Config, Reason> {
    let paths = match (&target.kubeconfig, env::var_os("KUBECONFIG").filter(|value| !value.is_empty())) {
        (Some(path), _) => vec![path.clone()],
        (None, Some(value)) => {
            // As for other clients, some of several files may be missing.
            let paths: Vec<PathBuf> = env::split_paths(&value).collect();
            let there = paths.iter().filter(|path| path.exists()).cloned().collect::<Vec<_>>();
            if there.is_empty() { paths } else { there }
        }
        (None, None) => env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let mut file: Option<Kubeconfig> = None;
    for path in &paths {
        let read = read_file(path).map_err(|reason| match reason {
            reason if paths.len() < 2 => reason,
            reason => Reason::OneOfSeveral { path: path.clone(), reason: Box::new(reason) },
        })?;
        let merged = file.take().unwrap_or_default().merge(read);
        file = Some(merged.map_err(|error| Reason::Malformed(malformed(&error)))?);
    }
    let mut file = file.ok_or_else(|| Reason::Unreadable(io::ErrorKind::NotFound.into()))?;
    if target.context.is_some() {
        file.current_context.clone_from(&target.context);
    }
    check(&file)?;
    Config::try_from(file).map_err(|error| Reason::Other(chain(&error)))
}

fn read_file(path: &Path) -> Result<Kubeconfig, Reason> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(Reason::NotRegular),
        Ok(_) => {}
        Err(error) => return Err(Reason::Unreadable(error)),
    }
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, _) => Reason::Unreadable(error),
        error => Reason::Malformed(malformed(&error)),
    })
}

/// Where a file is no kubeconfig. What is there is left out: it may be a secret.
fn malformed(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => yaml_error(error),
        error => one_line(&chain(error)),
    }
}

/// The place of an error in YAML.
pub(super) fn yaml_error(error: &serde_saphyr::Error) -> String {
    match error.location() {
        Some(at) => format!("line {}, column {} is not as it should be", at.line(), at.column()),
        None => "it is empty, or no YAML".to_owned(),
    }
}

/// Checks what the current context names.
fn check(file: &Kubeconfig) -> Result<(), Reason> {
    let name = file.current_context.clone().filter(|name| !name.is_empty()).ok_or(Reason::NoContext)?;
    let context = file.contexts.iter().find(|named| named.name == name);
    let context = context.and_then(|named| named.context.as_ref()).ok_or_else(|| {
        let there = file.contexts.iter().map(|named| named.name.clone()).collect();
        Reason::UnknownContext { name: name.clone(), there }
    })?;
    let cluster = file.clusters.iter().find(|named| named.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref()).ok_or_else(|| Reason::Unknown {
        context: name.clone(),
        kind: "cluster",
        name: context.cluster.clone(),
        there: file.clusters.iter().map(|named| named.name.clone()).collect(),
    })?;
    check_cluster(&context.cluster, cluster)?;
    // Without a name it is nobody, as behind `kubectl proxy`.
    let Some(user) = context.user.as_ref().filter(|user| !user.is_empty()) else { return Ok(()) };
    let named = file.auth_infos.iter().find(|named| named.name == *user);
    let named = named.ok_or_else(|| Reason::Unknown {
        context: name.clone(),
        kind: "user",
        name: user.clone(),
        there: file.auth_infos.iter().map(|named| named.name.clone()).collect(),
    })?;
    named.auth_info.as_ref().map_or(Ok(()), check_user)
}

fn check_cluster(name: &str, cluster: &Cluster) -> Result<(), Reason> {
    let server = cluster.server.clone().unwrap_or_default();
    let url: Option<hyper::Uri> = server.parse().ok();
    if !url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https"))) {
        return Err(Reason::BadServer { cluster: name.to_owned(), server });
    }
    let Cluster { certificate_authority: path, certificate_authority_data: data, .. } = cluster;
    let certificates = |text: &[u8]| Ok(wire::certificates(text).map(drop)?);
    check_pem(["certificate-authority", "certificate-authority-data"], path, data.as_deref(), certificates)?;
    Ok(())
}

fn check_user(user: &AuthInfo) -> Result<(), Reason> {
    let AuthInfo { client_certificate: path, client_certificate_data: data, .. } = user;
    let certificates = |text: &[u8]| Ok(wire::certificates(text).map(drop)?);
    let members = ["client-certificate", "client-certificate-data"];
    let has_certificate = check_pem(members, path, data.as_deref(), certificates)?;
    // A key that is in the kubeconfig itself is parsed by the client alone.
    let has_key = match (&user.client_key_data, &user.client_key) {
        (Some(_), _) => Some("client-key-data"),
        (None, Some(path)) => {
            check_file("client-key", Path::new(path), |text| Ok(wire::private_key(text).map(drop)?))?;
            Some("client-key")
        }
        (None, None) => None,
    };
    match (has_certificate, has_key) {
        (Some(there), None) => return Err(Reason::HalfAnIdentity { there, missing: "client-key" }),
        (None, Some(there)) => return Err(Reason::HalfAnIdentity { there, missing: "client-certificate" }),
        _ => {}
    }
    let inline = token::inline(user).map_err(|_| Reason::BadToken)?;
    if let (None, Some(path)) = (inline, &user.token_file) {
        check_file("tokenFile", Path::new(path), check_token)?;
    }
    // It would run in the library, without a limit of time.
    if let Some(provider) = user.auth_provider.as_ref().filter(|one| one.config.contains_key("cmd-path")) {
        return Err(Reason::Provider(provider.name.clone()));
    }
    user.exec.as_ref().map_or(Ok(()), check_plugin)
}

/// Checks a PEM file that a member names, or that another one holds, which comes first. Gives the member that is there.
fn check_pem(
    [file, inline]: [&'static str; 2],
    path: &Option<String>,
    data: Option<&str>,
    parse: impl Fn(&[u8]) -> Result<(), FileReason>,
) -> Result<Option<&'static str>, Reason> {
    if let Some(data) = data {
        let decoded = BASE64.decode(data).map_err(FileReason::from);
        let parsed = decoded.and_then(|text| parse(&text));
        return match parsed {
            Ok(()) => Ok(Some(inline)),
            Err(reason) => Err(Reason::Data { member: inline, reason }),
        };
    }
    let Some(path) = path else { return Ok(None) };
    check_file(file, Path::new(path), parse)?;
    Ok(Some(file))
}

/// Reads a file. A pipe may never end, and is empty when it is read again.
fn read(path: &Path) -> Result<Vec<u8>, FileReason> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(FileReason::NotRegular);
    }
    Ok(std::fs::read(path)?)
}

fn check_token(text: &[u8]) -> Result<(), FileReason> {
    str::from_utf8(text).ok().and_then(bearer).map(drop).ok_or(FileReason::NoToken)
}

fn check_file(
    member: &'static str,
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<(), FileReason>,
) -> Result<(), Reason> {
    let parsed = read(path).and_then(|text| parse(&text));
    parsed.map_err(|reason| Reason::File { member, path: path.to_owned(), reason })
}

/// Checks that a plugin could be run.
fn check_plugin(plugin: &ExecConfig) -> Result<(), Reason> {
    let command = plugin.command.clone().filter(|command| !command.is_empty()).ok_or(Reason::NoCommand)?;
    if plugin.interactive_mode == Some(ExecInteractiveMode::Always) {
        return Err(Reason::Interactive(command));
    }
    let is_program = |file: &Path| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    let (is_there, place) = if command.contains('/') {
        (is_program(Path::new(&command)), "there is no such file, or this user may not execute it".to_owned())
    } else {
        let mut own =
            plugin.env.iter().flatten().filter(|one| one.get("name").is_some_and(|name| name == "PATH"));
        let own = own.next_back().and_then(|one| one.get("value")).map(OsString::from);
        let path = own.or_else(|| env::var_os("PATH")).unwrap_or_default();
        let is_there = env::split_paths(&path).any(|dir| is_program(&dir.join(&command)));
        (is_there, format!("it is not in PATH, which is {}", path.display()))
    };
    if is_there {
        return Ok(());
    }
    Err(Reason::NoPlugin { command, place, hint: plugin.install_hint.clone() })
}

fn from_service_account() -> Result<Config, Reason> {
    let file = |name| Path::new(SERVICE_ACCOUNT).join(name);
    check_file("token", &file("token"), check_token)?;
    check_file("certificate authority", &file("ca.crt"), |text| Ok(wire::certificates(text).map(drop)?))?;
    Config::incluster().map_err(|error| Reason::Other(chain(&error)))
}
