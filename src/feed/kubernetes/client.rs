//! The server's answers, as bytes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use kube::client::{Body, ClientBuilder};
use kube::config::Config;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::config::KubeTarget;
use super::error::KubeError;
use super::kubeconfig;
use super::plugin::{Credentials, Plugin};
use super::token;

/// How long a server may take to accept a connection, to begin an answer, and to go on with one.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(15);

/// How slow an answer may be: so many bytes in such a time.
const PACE_BYTES: usize = 60 << 10;
const PACE: Duration = Duration::from_secs(60);

/// The most bytes of an answer that is no page of a list, and of one that is.
const ANSWER_BYTES: usize = 16 << 20;
const PAGE_BYTES: usize = 256 << 20;

/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The most bytes of an error that are read.
const ERROR_BYTES: usize = 64 << 10;

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    kube: kube::Client,
    server: String,
    /// The newest token, if there is any.
    token: Option<watch::Receiver<HeaderValue>>,
}

impl Client {
    /// A client with the credentials as they are now. Nothing is sent yet, but a plugin may run.
    pub(super) async fn new(target: &KubeTarget) -> Result<Self, KubeError> {
        let target = target.clone();
        // Its files may be on a file system that hangs.
        let loaded = spawn_blocking(move || kubeconfig::load(&target)).await;
        let mut config = loaded.map_err(|_| KubeError::Crashed)??;
        let plugin = Plugin::take_from(&mut config.auth_info);
        let token = token::take_from(&mut config.auth_info).await.map_err(KubeError::Token)?;
        let Some(plugin) = plugin else { return Ok(Self { token, ..Self::make(config)? }) };
        let Credentials { token, identity, expires } = plugin.run().await?;
        if let Some((certificate, key)) = identity {
            config.auth_info.client_certificate_data = Some(BASE64.encode(certificate));
            config.auth_info.client_key_data = Some(BASE64.encode(key).into());
        }
        let client = Self::make(config)?;
        Ok(Self { token: token.map(|token| plugin.renew(token, expires)), ..client })
    }

    fn make(mut config: Config) -> Result<Self, KubeError> {
        let server = config.cluster_url.to_string();
        config.connect_timeout = Some(CONNECT);
        // The feed decides itself when to try again.
        config.default_retry = false;
        let kube = ClientBuilder::try_from(config).map_err(|error| KubeError::of_request(&server, &error))?;
        Ok(Self { kube: kube.build(), server: server.trim_end_matches('/').to_owned(), token: None })
    }

    /// Checks the configuration, and the files that it names. Nothing is sent, and no plugin runs.
    pub(super) fn check(target: &KubeTarget) -> Result<(), KubeError> {
        let mut config = kubeconfig::load(target)?;
        // Their content has been checked.
        let user = &mut config.auth_info;
        (user.exec, user.token, user.token_file) = (None, None, None);
        Self::make(config).map(drop)
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The whole answer to a GET. `what` names it in errors.
    pub(super) async fn get(&self, path: &str, what: &str) -> Result<Bytes, KubeError> {
        self.whole(path, "application/json", what, ANSWER_BYTES).await
    }

    /// The same for a page of a list, in some representation.
    pub(super) async fn get_page(&self, path: &str, accept: &str) -> Result<Bytes, KubeError> {
        self.whole(path, accept, "a list", PAGE_BYTES).await
    }

    async fn whole(&self, path: &str, accept: &str, what: &str, most: usize) -> Result<Bytes, KubeError> {
        let mut answer = self.open_as(path, accept, what).await?;
        let mut whole = BytesMut::new();
        let (mut since, mut bytes) = (Instant::now(), 0);
        while let Some(chunk) = answer.next(what).await? {
            if whole.len() + chunk.len() > most {
                return Err(KubeError::TooLarge { what: what.to_owned(), most });
            }
            whole.extend_from_slice(&chunk);
            bytes += chunk.len();
            if since.elapsed() >= PACE {
                if bytes < PACE_BYTES {
                    return Err(KubeError::TooSlow { what: what.to_owned(), bytes, within: PACE });
                }
                (since, bytes) = (Instant::now(), 0);
            }
        }
        Ok(whole.freeze())
    }

    /// The answer to a GET that goes on for long.
    pub(super) async fn open(&self, path: &str, what: &str) -> Result<Answer, KubeError> {
        self.open_as(path, "application/json", what).await
    }

    async fn open_as(&self, path: &str, accept: &str, what: &str) -> Result<Answer, KubeError> {
        let mut request = Request::get(path).header("accept", accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.borrow().clone());
        }
        let request = request.body(Body::empty());
        let request = request.map_err(|error| KubeError::BadConfig(error.to_string()))?;
        let sent = tokio::time::timeout(ANSWER, self.kube.send(request)).await;
        let sent = sent.map_err(|_| KubeError::NoAnswer { what: what.to_owned(), after: ANSWER })?;
        let response = sent.map_err(|error| KubeError::of_request(&self.server, &error))?;
        let status = response.status();
        let pause = retry_after(&response);
        if status.is_redirection() {
            let to = response.headers().get("location").and_then(|to| to.to_str().ok());
            let to = to.unwrap_or("nowhere").to_owned();
            return Err(KubeError::Redirected { what: what.to_owned(), code: status.as_u16(), to });
        }
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
