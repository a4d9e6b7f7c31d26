//! The server's answers, as bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{Request, Response, StatusCode};
use kube::client::{Body, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::config::KubeTarget;
use super::error::{KubeError, chain};

/// How long a server may take to accept a connection, to begin an answer, and to go on with one.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(30);

/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The most bytes of an error that are read.
const ERROR_BYTES: usize = 64 << 10;

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    kube: kube::Client,
    server: String,
}

impl Client {
    /// A client with the credentials as they are now. Nothing is sent yet, but a plugin may run.
    pub(super) async fn new(target: &KubeTarget) -> Result<Self, KubeError> {
        let mut config = config(target).await?;
        let server = config.cluster_url.to_string();
        config.connect_timeout = Some(CONNECT);
        // The feed decides itself when to try again.
        config.default_retry = false;
        let kube = ClientBuilder::try_from(config).map_err(|error| KubeError::of_request(&server, &error))?;
        Ok(Self { kube: kube.build(), server: server.trim_end_matches('/').to_owned() })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The whole answer to a GET. `what` names it in errors.
    pub(super) async fn get(&self, path: &str, what: &str) -> Result<Bytes, KubeError> {
        self.get_as(path, "application/json", what).await
    }

    /// The same in another representation.
    pub(super) async fn get_as(&self, path: &str, accept: &str, what: &str) -> Result<Bytes, KubeError> {
        let mut answer = self.open_as(path, accept, what).await?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = answer.next(what).await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The answer to a GET that goes on for long.
    pub(super) async fn open(&self, path: &str, what: &str) -> Result<Answer, KubeError> {
        self.open_as(path, "application/json", what).await
    }

    async fn open_as(&self, path: &str, accept: &str, what: &str) -> Result<Answer, KubeError> {
        let request = Request::get(path).header("accept", accept).body(Body::empty());
        let request = request.map_err(|error| KubeError::BadConfig(error.to_string()))?;
        let sent = tokio::time::timeout(ANSWER, self.kube.send(request)).await;
        let sent = sent.map_err(|_| KubeError::NoAnswer { what: what.to_owned(), after: ANSWER })?;
        let response = sent.map_err(|error| KubeError::of_request(&self.server, &error))?;
        let status = response.status();
        let pause = retry_after(&response);
        let mut answer = Answer { body: response.into_body() };
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let mut said = BytesMut::new();
        while said.len() < ERROR_BYTES
            && let Some(chunk) = answer.next(what).await?
        {
            said.extend_from_slice(&chunk);
        }
        Err(KubeError::of_answer(what, status, pause, &said))
    }
}

/// The rest of an answer.
pub(super) struct Answer {
    body: Body,
}

impl Answer {
    /// The next bytes of an answer that should not pause; `None` at its end.
    async fn next(&mut self, what: &str) -> Result<Option<Bytes>, KubeError> {
        match tokio::time::timeout(SILENCE, self.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) => Err(KubeError::NoAnswer { what: what.to_owned(), after: SILENCE }),
        }
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, KubeError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(KubeError::broken(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The configuration that every client of Kubernetes takes: the file that the feed names, KUBECONFIG, `~/.kube/config`,
/// or that of a pod.
async fn config(target: &KubeTarget) -> Result<Config, KubeError> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let bad = |error: kube::config::KubeconfigError| KubeError::BadConfig(chain(&error));
    match &target.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(bad)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(bad)
        }
        None if target.context.is_some() => Config::from_kubeconfig(&options).await.map_err(bad),
        None => Config::infer().await.map_err(|error| KubeError::NoConfig(error.to_string())),
    }
}
