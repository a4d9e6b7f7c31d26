//! A real kube-apiserver before a real etcd, its objects over its own HTTP interface, and daemons that follow them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::etcd::{Etcd, free_port};
use super::state::State;
use super::tls::{Authority, Identity, client_config};
use super::tools;

/// How long a server may take to start: it makes its roles and namespaces first.
const START: Duration = Duration::from_secs(240);

/// The token of a user who may do everything.
const ADMIN: &str = "token-of-the-administrator";

/// An API server and its etcd. Dropping it kills both processes, by their ids.
pub struct Cluster {
    pub etcd: Etcd,
    port: u16,
    dir: TempDir,
    authority: Authority,
    identity: Identity,
    /// Token and user, beside the administrator's.
    tokens: Vec<(String, String)>,
    child: Option<Child>,
}

/// The server's objects, with the rights of one token.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Cluster {
    /// A running cluster.
    pub async fn start() -> Cluster {
        Cluster::start_with(&[]).await
    }

    /// A running cluster that knows these tokens, each of the user beside it.
    pub async fn start_with(tokens: &[(&str, &str)]) -> Cluster {
        let authority = Authority::new("the cluster's authority");
        let identity = authority.server();
        let tokens = tokens.iter().map(|&(token, user)| (token.to_owned(), user.to_owned())).collect();
        let mut cluster = Cluster {
            etcd: Etcd::start().await,
            port: free_port(),
            dir: tempfile::tempdir().unwrap(),
            authority,
            identity,
            tokens,
            child: None,
        };
        cluster.restart().await;
        cluster
    }

    /// Starts the API server, after a [`Cluster::kill`], and waits until it is ready.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut tokens = format!("{ADMIN},administrator,1,\"system:masters\"\n");
        for (number, (token, user)) in self.tokens.iter().enumerate() {
            tokens += &format!("{token},{user},{}\n", number + 2);
        }
        let file = self.dir.path().join("tokens.csv");
        std::fs::write(&file, tokens).unwrap();
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let Identity { cert, key } = &self.identity;
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let child = Command::new(tools::kube_apiserver())
            .args([
                option("etcd-servers", &format!("http://{}", self.etcd.endpoint())),
                // Tests compact when they want to.
                option("etcd-compaction-interval", "0"),
                option("secure-port", &self.port.to_string()),
                option("bind-address", "127.0.0.1"),
                option("tls-cert-file", cert),
                option("tls-private-key-file", key),
                option("token-auth-file", file.to_str().unwrap()),
                option("authorization-mode", "RBAC"),
                option("service-account-issuer", "https://kubernetes.default.svc"),
                option("service-account-key-file", cert),
                option("service-account-signing-key-file", key),
                option("service-cluster-ip-range", "10.0.0.0/24"),
                option("disable-admission-plugins", "ServiceAccount"),
                option("max-requests-inflight", "0"),
                option("max-mutating-requests-inflight", "0"),
                option("enable-priority-and-fairness", "false"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let api = self.api();
        let end = Instant::now() + START;
        loop {
            let ready = api.try_call("GET", "/readyz", None).await.is_ok_and(|(status, _)| status == 200);
            if ready && api.has_namespace("kube-system").await && api.has_namespace("default").await {
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(!ended && Instant::now() < end, "kube-apiserver does not get ready:\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Kills the API server; etcd goes on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Kills the API server and starts it with other tokens.
    pub async fn restart_with(&mut self, tokens: &[(&str, &str)]) {
        self.kill();
        self.tokens = tokens.iter().map(|&(token, user)| (token.to_owned(), user.to_owned())).collect();
        self.restart().await;
    }

    /// The objects as the administrator sees them.
    pub fn api(&self) -> Api {
        Api::new(&format!("https://127.0.0.1:{}", self.port), ADMIN, &[&self.authority.ca])
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_with(&format!("token: {ADMIN}"))
    }

    /// A kubeconfig with this `user`, in YAML.
    pub fn kubeconfig_with(&self, user: &str) -> String {
        let cluster = format!("certificate-authority: {}", self.authority.ca);
        self.kubeconfig_of(&format!("server: https://127.0.0.1:{}, {cluster}", self.port), user)
    }

    /// A kubeconfig that trusts another authority.
    pub fn kubeconfig_of_a_stranger(&self, authority: &Authority) -> String {
        let cluster = format!("certificate-authority: {}", authority.ca);
        let cluster = format!("server: https://127.0.0.1:{}, {cluster}", self.port);
        self.kubeconfig_of(&cluster, &format!("token: {ADMIN}"))
    }

    fn kubeconfig_of(&self, cluster: &str, user: &str) -> String {
        kubeconfig(self.dir.path(), cluster, user)
    }

    /// A daemon with the administrator's rights and these options of the feed.
    pub fn follow(&self, options: &str) -> Daemon {
        Daemon::serve(&["--feed", &self.feed(options)])
    }

    pub fn feed(&self, options: &str) -> String {
        feed(options, &self.kubeconfig())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last words of the kube-apiserver:");
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A feed's text with these options and this kubeconfig.
pub fn feed(options: &str, kubeconfig: &str) -> String {
    format!("kubernetes:?{options}&kubeconfig={kubeconfig}")
}

/// A kubeconfig in this directory, of one cluster and one user in YAML.
pub fn kubeconfig(dir: &std::path::Path, cluster: &str, user: &str) -> String {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    let file = tempfile::Builder::new().prefix("kubeconfig").tempfile_in(dir).unwrap();
    std::fs::write(file.path(), text).unwrap();
    file.into_temp_path().keep().unwrap().to_str().unwrap().to_owned()
}

impl Api {
    fn new(base: &str, token: &str, authorities: &[&str]) -> Api {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(authorities, None))
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Api { client, base: base.to_owned(), token: token.to_owned() }
    }

    /// Sends one request; the connection's error is text.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What a GET answers.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.try_call("GET", path, None).await.unwrap()
    }

    /// A change that must succeed. Gives the object.
    pub async fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_call(method, path, Some(body)).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    async fn has_namespace(&self, name: &str) -> bool {
        self.get(&format!("/api/v1/namespaces/{name}")).await.0 == 200
    }

    pub async fn create_namespace(&self, name: &str) {
        self.must("POST", "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await;
    }

    /// Creates or replaces a config map.
    pub async fn put_config_map(&self, namespace: &str, name: &str, text: &str) -> Value {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let object = json!({"metadata": {"name": name}, "data": {"text": text}});
        let (status, answer) = self.try_call("PUT", &format!("{path}/{name}"), Some(&object)).await.unwrap();
        match status {
            200 => answer,
            _ => self.must("POST", &path, &object).await,
        }
    }

    pub async fn delete(&self, path: &str) {
        let (status, answer) = self.try_call("DELETE", path, None).await.unwrap();
        assert!((200..300).contains(&status), "DELETE {path}: {status} {answer}");
    }

    /// A plain list of these objects, as the daemon is to have them, and its revision. `more` is further parameters, each
    /// after a `&`. `None` when the server no longer has the revision.
    pub async fn list(&self, path: &str, more: &str) -> Option<(u64, State)> {
        let (status, list) = self.get(&format!("{path}?limit=0{more}")).await;
        if status == 410 {
            return None;
        }
        assert_eq!(status, 200, "{path}{more}: {list}");
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let kind = list["kind"].as_str().unwrap().trim_end_matches("List");
        let state = list["items"].as_array().unwrap().iter().map(|item| {
            let mut object = item.clone();
            object["kind"] = kind.into();
            object["apiVersion"] = list["apiVersion"].clone();
            let (key, value) = plain(object);
            (key.into_bytes(), Arc::from(value.to_string().into_bytes()))
        });
        Some((revision, state.collect()))
    }
}

/// An object's key, and the object less what the feed leaves out.
fn plain(mut object: Value) -> (String, Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let name = metadata["name"].as_str().unwrap();
    let key = match metadata.get("namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    (key, object)
}

/// The daemon's values, decoded and written as [`Api::list`] writes them. Nothing is left out: what the feed should leave
/// out would show.
pub fn decoded(state: &State) -> State {
    let value = |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap().to_string().into_bytes();
    state.iter().map(|(key, bytes)| (key.clone(), Arc::from(value(bytes)))).collect()
}
