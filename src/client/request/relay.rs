//! The requests of a relay, which serves the state of another daemon with that daemon's history and revisions.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::time::timeout;

use super::client::{cursor_of, prefix_query};
use super::records::linked_rights;
use super::{Client, ClientError, Next, Records};
use crate::model::{Cursor, Key, Revision, Sighting};
use crate::wire::MediaType;

/// How long a daemon may take to begin an answer, beyond the time that it was asked to wait.
const DEADLINE: Duration = Duration::from_secs(4);

/// The same for a whole state, which may have to wait for room in a budget.
const STATE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a daemon may send nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(10);

/// The header that asks for steps.
const STEPS: &str = "crumbd-relay-steps";

/// A client that asks as a relay.
#[derive(Clone, Debug)]
pub(crate) struct RelayClient {
    client: Client,
    /// The id of the relay.
    id: String,
    /// The keys that it follows; `None` for all.
    prefix: Option<Key>,
}

/// Where an answer comes from, which only relays are told.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The ids of the daemons that the data come through: the one that answered first, the root last.
    pub path: Vec<String>,
    /// The newest cursor of the daemon when the request came; `None` without a state.
    pub newest: Option<Cursor>,
    /// A kept cursor at which to begin; only with the answer to [`RelayClient::origin`].
    pub begin: Option<Cursor>,
    /// The time since the daemon heard its own upstream.
    pub age: Duration,
    /// How far the datastore itself is, as the daemon knows it.
    pub(crate) datastore: Option<Sighting>,
}

/// The head of an answer, whose body was not read yet.
#[derive(Debug)]
pub(crate) struct RelayAnswer {
    client: Client,
    response: Response,
    /// When the request was sent.
    asked: Instant,
}

impl RelayClient {
    /// A client that asks as the relay with this id.
    pub(crate) fn new(client: Client, id: &str, prefix: Option<Key>) -> Self {
        Self { client, id: id.to_owned(), prefix }
    }

    /// A request without a body of records, only for the [`Origin`].
    ///
    /// # Errors
    /// [`ClientError`]; not for a refusal.
    pub(crate) async fn origin(&self) -> Result<RelayAnswer, ClientError> {
        self.ask(self.request(&["status"], &[]), DEADLINE).await
    }

    /// The newest state, or a kept one.
    ///
    /// # Errors
    /// As for [`origin`](Self::origin).
    pub(crate) async fn state(&self, at: Option<Cursor>) -> Result<RelayAnswer, ClientError> {
        let at = at.map_or("current".to_owned(), |cursor| cursor.to_string());
        let request = self.request(&["breadcrumbs", &at], &prefix_query(self.prefix.as_ref()));
        self.ask(request, STATE_DEADLINE).await
    }

    /// The steps that lead to a kept state of all keys; an empty answer while the daemon still reads them back.
    ///
    /// # Errors
    /// As for [`origin`](Self::origin).
    pub(crate) async fn past(&self, at: Cursor) -> Result<RelayAnswer, ClientError> {
        let request = self.request(&["breadcrumbs", &at.to_string()], &[]);
        self.ask(request.header(STEPS, "past"), DEADLINE).await
    }

    /// The breadcrumbs after a cursor, of a state that was read under these rights. The daemon waits for one so long.
    ///
    /// # Errors
    /// As for [`origin`](Self::origin).
    pub(crate) async fn next(
        &self,
        cursor: Cursor,
        rights: Option<&str>,
        wait: Duration,
    ) -> Result<RelayAnswer, ClientError> {
        let wait_text = format!("{}ms", wait.as_millis());
        let mut query = vec![("wait", wait_text.as_bytes())];
        query.extend(prefix_query(self.prefix.as_ref()));
        query.extend(rights.map(|rights| ("rights", rights.as_bytes())));
        let request = self.request(&["breadcrumbs", &cursor.to_string(), "next"], &query);
        self.ask(request.header(STEPS, "next"), wait + DEADLINE).await
    }

    fn request(&self, segments: &[&str], query: &[(&str, &[u8])]) -> RequestBuilder {
        let request = self.client.get_request(segments, query);
        let request = request.header(ACCEPT, MediaType::Bincode.as_str()).header(CACHE_CONTROL, "no-cache");
        request.header("crumbd-relay", &self.id)
    }

    async fn ask(&self, request: RequestBuilder, deadline: Duration) -> Result<RelayAnswer, ClientError> {
        let asked = Instant::now();
        let response = timeout(deadline, self.client.send_any(request)).await;
        let response = response.map_err(|_| self.client.silent(deadline))??;
        Ok(RelayAnswer { client: self.client.clone(), response, asked })
    }
}

impl RelayAnswer {
    /// Where the answer comes from; `None` from what is no daemon that relays can follow.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let headers = self.response.headers();
        let path: Vec<String> = text(headers, "crumbd-path")?.split(',').map(str::to_owned).collect();
        let age = Duration::from_millis(text(headers, "crumbd-age-ms")?.parse().ok()?);
        let cursor = |name| text(headers, name)?.parse().ok();
        let datastore = text(headers, "crumbd-upstream").and_then(|text| self.sighting(text));
        Some(Origin { path, newest: cursor("crumbd-newest"), begin: cursor("crumbd-begin"), age, datastore })
    }

    /// A revision of the datastore, and the milliseconds since it was asked. Those are counted from before the request: the
    /// time of the answer is not known.
    fn sighting(&self, text: &str) -> Option<Sighting> {
        let (revision, before) = text.split_once(' ')?;
        let asked = self.asked.checked_sub(Duration::from_millis(before.parse().ok()?))?;
        Some(Sighting { revision: Revision(revision.parse().ok()?), asked })
    }

    /// The records of a state.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn records(self) -> Result<Records, ClientError> {
        let response = self.client.accepted(self.response).await?;
        Ok(Records::new(self.client, response, MediaType::Bincode, SILENCE))
    }

    /// The answer to [`RelayClient::next`]. Its records are any number of bodies, one after the other.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Protocol`].
    pub(crate) async fn next(self) -> Result<Next, ClientError> {
        if self.response.status() == StatusCode::NO_CONTENT {
            let headers = self.response.headers();
            return Ok(Next::Nothing { cursor: cursor_of(headers)?, rights: linked_rights(headers) });
        }
        Ok(Next::Updates(Box::new(self.records().await?)))
    }

    /// The answer to [`RelayClient::past`]; `None` while the daemon reads back itself.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn past(self) -> Result<Option<Records>, ClientError> {
        if self.response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        Ok(Some(self.records().await?))
    }

    /// Whether the daemon refused.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn accepted(self) -> Result<(), ClientError> {
        self.client.accepted(self.response).await.map(drop)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
