//! Follows one upstream after the other.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::{Followed, MAX_PATH, RelayError, RelayFeed};
use crate::client::{ClientError, Next, Origin, Records, RelayAnswer, RelayClient};
use crate::feed::backoff::Backoff;
use crate::feed::sink::GRACE;
use crate::feed::{Activity, FeedError, Sink, Warm};
use crate::ingest;
use crate::model::{
    Change, Cursor, FeedEvent, History, KeyStep, OpaqueCursor, ReplyTo, ResyncClaim, Revision, SyncStatus,
    Update, UpstreamBreadcrumb, Verdict,
};
use crate::wire::{End, Header, Record};

/// How long the upstream is asked to hold a long poll. Its answer, with or without changes, renews the age of the data.
const WAIT: Duration = Duration::from_secs(1);

/// Data that are older make the relay look for a fresher upstream.
const STALE_AGE: Duration = Duration::from_secs(10);

/// So does an upstream that is not in-sync for so long.
const NOT_IN_SYNC: Duration = Duration::from_secs(3);

/// How often the relay looks, and how long an upstream may take to answer then.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_ANSWER: Duration = Duration::from_secs(1);

/// By how much the data of another upstream must be fresher.
const MIN_FRESHER: Duration = Duration::from_secs(5);

/// The place in the upstream's history that the cache is at.
#[derive(Clone, Debug)]
pub(super) struct Position {
    /// The upstream's cursor.
    pub(super) cursor: Cursor,
    /// The rights under which the state was read, if there are any.
    pub(super) rights: Option<String>,
}

/// What follows the upstreams.
pub(super) struct Follower {
    feed: RelayFeed,
    pub(super) sink: Sink,
    /// The upstream that is followed, among the hosts.
    host: usize,
    /// Where to go on; `None` if everything must be read.
    pub(super) position: Option<Position>,
    /// The history and revision of the cache, once it has a state.
    pub(super) applied: Option<(History, Revision)>,
    /// The revision of the oldest restored state, until it is known what led to it.
    needs_past: Option<Revision>,
    /// The upstream's state at which the cache begins, until it is known what led to it.
    pub(super) begins_at: Option<Cursor>,
    /// How often that was asked for.
    pub(super) past_asked: u32,
    /// The status that was reported to clients.
    reported: SyncStatus,
    /// Until then the status needs no other word of the upstream.
    confirmed_until: Instant,
    /// Whether the state has been the upstream's newest one since the connection began.
    caught_up: bool,
    path: Vec<String>,
    /// Since when the upstream is no good one.
    stale_since: Option<Instant>,
    next_probe: Instant,
    /// How often in a row the upstream's changes did not lead to its state.
    mismatches: u32,
}

impl Follower {
    pub(super) fn new(feed: RelayFeed, sink: Sink, warm: Option<Warm>) -> Self {
        let host = fastrand::usize(..feed.clients.len().max(1));
        let needs_past = warm.as_ref().map(|warm| warm.oldest);
        let applied = warm.as_ref().map(|warm| (warm.history, warm.revision));
        // Under a prefix the digest in the cursor is not the upstream's.
        let restored = warm.filter(|_| feed.config.prefix.is_none());
        let position = restored.map(|warm| Position { cursor: warm.cursor, rights: None });
        let now = Instant::now();
        Self {
            feed,
            sink,
            host,
            position,
            applied,
            needs_past,
            begins_at: None,
            past_asked: 0,
            reported: SyncStatus::WaitForDatastore,
            confirmed_until: now + GRACE,
            caught_up: false,
            path: Vec::new(),
            stale_since: None,
            next_probe: now,
            mismatches: 0,
        }
    }

    /// One session after the other, until the cache stops.
    pub(super) async fn run(mut self) -> Result<(), FeedError> {
        let mut backoff = Backoff::default();
        loop {
            self.sink.upstream().does(Activity::Connecting);
            let error = match self.session().await {
                Ok(never) => match never {},
                Err(RelayError::Feed(error)) => return Err(error),
                Err(error) => error,
            };
            let sentence = error.sentence(self.host_name(self.host), &self.feed.config);
            if let RelayError::Fresher { other, .. } = &error {
                info!("crumbd: {sentence}");
                let to = self.feed.config.hosts.iter().position(|host| host == other);
                self.host = to.unwrap_or(self.host);
                self.sink.upstream().reconnects.inc();
                continue;
            }
            self.sink.upstream().has_problem(Some(sentence.clone()));
            let failures = backoff.failed(self.sink.upstream());
            self.host = (self.host + 1) % self.feed.clients.len().max(1);
            let is_wrong = matches!(error, RelayError::Wrong);
            self.mismatches = if is_wrong { self.mismatches.saturating_add(1) } else { 0 };
            if (failures as usize) < self.feed.clients.len() && !is_wrong {
                if let Some(times) = self.sink.upstream().keeps_failing(&sentence) {
                    warn!(times, "crumbd: {sentence}; trying another upstream");
                }
                continue;
            }
            if self.applied.is_some() && error.is_refusal_of_data() {
                self.report_status(SyncStatus::ResyncInProgress).await?;
            }
            let at_least = is_wrong.then(|| Duration::from_secs(1 << self.mismatches.min(6)));
            let sink = self.sink.clone();
            self.timely(backoff.pause(sink.upstream(), "crumbd", &sentence, at_least)).await?;
        }
    }

    fn host_name(&self, index: usize) -> &str {
        self.feed.config.hosts.get(index).map_or("", String::as_str)
    }

    /// A client of a host, with the token of now.
    fn client(&self, index: usize) -> Result<RelayClient, RelayError> {
        let config = &self.feed.config;
        let client = self.feed.clients.get(index).ok_or(RelayError::NoRelays)?.clone();
        let client = match config.token()? {
            Some(token) => client.with_token(&token)?,
            None => client,
        };
        Ok(RelayClient::new(client, self.sink.upstream().id(), config.prefix.clone()))
    }

    /// Tells writes what is followed, and how far the cache is.
    pub(super) fn publish_position(&self) {
        let cursor = self.position.as_ref().map(|position| position.cursor);
        let id = self.sink.upstream().id().to_owned();
        self.feed.followed.send_replace(Followed { id, host: self.host, cursor });
    }

    pub(super) fn is_narrowed(&self) -> bool {
        self.feed.config.prefix.is_some()
    }

    /// Our name of the upstream's history. What is read under a prefix or narrow rights has a history of its own.
    pub(super) fn history_of(&self, upstream: History, rights: Option<&str>) -> History {
        let prefix = self.feed.config.prefix.as_ref().map_or(&b""[..], |prefix| prefix.as_bytes());
        let rights = rights.filter(|rights| *rights != "0").unwrap_or_default();
        if prefix.is_empty() && rights.is_empty() {
            return upstream;
        }
        History::derive(&[format!("{upstream}\n{rights}\n").as_bytes(), prefix].concat())
    }

    /// Follows the upstream until it is of no more use.
    async fn session(&mut self) -> Result<Infallible, RelayError> {
        let client = self.client(self.host)?;
        self.caught_up = false;
        self.publish_position();
        // What the session before has left unfinished must not be mixed with what follows.
        self.sink.send(FeedEvent::ResyncAborted).await?;
        loop {
            let Some(position) = self.position.clone() else {
                self.load(&client).await?;
                continue;
            };
            let origin = self.follow(&client, position).await?;
            if self.caught_up
                && let Some(end) = self.needs_past
            {
                self.read_past(&client, end).await?;
                self.needs_past = None;
            }
            if self.caught_up
                && let Some(begin) = self.begins_at
            {
                self.read_steps_to(&client, begin).await?;
            }
            self.probe_for_fresher(&origin).await?;
        }
    }

    /// Asks for what follows the position, and applies it.
    async fn follow(&mut self, client: &RelayClient, position: Position) -> Result<Origin, RelayError> {
        // Nothing to wait for before the first word on whether this is the newest state.
        let wait = if self.caught_up { WAIT } else { Duration::ZERO };
        let answer = client.next(position.cursor, position.rights.as_deref(), wait);
        let answer = self.timely(answer).await??;
        let (origin, answer) = self.known_origin(answer).await?;
        let same_rights =
            |rights: Option<&str>| position.rights.as_deref().unwrap_or("0") == rights.unwrap_or("0");
        match answer.next().await {
            Ok(Next::Nothing { cursor, rights }) if same_rights(rights.as_deref()) => {
                self.position = Some(Position { cursor: read(cursor)?, ..position });
                self.publish_position();
                self.confirmed(&origin, false).await?;
            }
            Ok(Next::Updates(records)) if same_rights(records.rights()) => {
                self.take(*records, &origin).await?;
                self.confirmed(&origin, true).await?;
            }
            Ok(_) => {
                info!("the rights of the token are others than before: reading everything again");
                self.position = None;
            }
            Err(error) if error.gap().is_some() => {
                info!("{error}: reading everything again");
                self.position = None;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(origin)
    }

    /// The origin of an answer, if it is one from which data may be taken.
    pub(super) async fn known_origin(
        &mut self,
        answer: RelayAnswer,
    ) -> Result<(Origin, RelayAnswer), RelayError> {
        let Some(origin) = answer.origin() else {
            answer.accepted().await?;
            return Err(RelayError::NoRelays);
        };
        check_path(&origin.path, self.sink.upstream().id())?;
        if self.path != origin.path {
            self.path.clone_from(&origin.path);
            self.sink.upstream().comes_by(origin.path.clone());
        }
        self.sink.upstream().heard_with_age(origin.age);
        if let Some(datastore) = origin.datastore {
            self.sink.upstream().is_at(datastore.revision, datastore.asked);
        }
        Ok((origin, answer))
    }

    /// Applies the bodies of an answer, one after the other.
    async fn take(&mut self, mut records: Records, origin: &Origin) -> Result<(), RelayError> {
        let mut open: Option<(Header, Vec<Update>, Vec<KeyStep>)> = None;
        while let Some(record) = self.timely(records.next()).await?? {
            match (record, &mut open) {
                (Record::Breadcrumb(header), None) => open = Some((header, Vec::new(), Vec::new())),
                (Record::Put { entry, .. }, Some((_, updates, _))) => {
                    let revision = entry.revision();
                    updates.push(Update { change: Change::Put(entry), revision });
                }
                (Record::Deleted { key, revision }, Some((_, updates, _))) => {
                    updates.push(Update { change: Change::Delete(key), revision });
                }
                (Record::Step(step), Some((_, _, steps))) => steps.push(step),
                (Record::End(end), Some(_)) => {
                    if let Some((header, updates, steps)) = open.take() {
                        self.apply(&header, (updates, steps), &end, origin).await?;
                    }
                }
                _ => return Err(unexpected("a record is out of place")),
            }
        }
        if open.is_some() { Err(RelayError::CutOff) } else { Ok(()) }
    }

    /// Applies one breadcrumb.
    async fn apply(
        &mut self,
        header: &Header,
        changes: (Vec<Update>, Vec<KeyStep>),
        end: &End,
        origin: &Origin,
    ) -> Result<(), RelayError> {
        let (Some(position), Some(cursor), Some(revision)) =
            (self.position.as_mut(), end.cursor.or(header.cursor).map(read).transpose()?, header.revision)
        else {
            return Err(unexpected("a breadcrumb has no cursor or revision"));
        };
        let is_whole = end.digest.is_some() && end.count.is_some();
        if is_whole && header.from != Some(position.cursor.into()) {
            return Err(unexpected("a breadcrumb does not begin at the cursor that was asked for"));
        }
        let is_newest = origin.newest.is_none_or(|newest| is_at_or_after(cursor, newest));
        let status = (self.caught_up || is_newest).then_some(cursor.status);
        position.cursor = cursor;
        let claim = ResyncClaim { count: end.count, digest: end.digest };
        self.verified(changes, revision, status, claim).await?;
        self.reported = status.unwrap_or(self.reported);
        self.applied = self.applied.map(|(history, _)| (history, revision));
        self.publish_position();
        Ok(())
    }

    /// Sends a breadcrumb to the cache, which checks that it leads to the claimed state.
    pub(super) async fn verified(
        &mut self,
        (updates, steps): (Vec<Update>, Vec<KeyStep>),
        revision: Revision,
        status: Option<SyncStatus>,
        claim: ResyncClaim,
    ) -> Result<(), RelayError> {
        let (reply, verdict) = ingest::reply_channel();
        let reply = ReplyTo::new(reply);
        let breadcrumb = UpstreamBreadcrumb { updates, steps, revision, status, claim, reply };
        self.sink.send(FeedEvent::Breadcrumb(breadcrumb)).await?;
        match verdict.await.map_err(|_| FeedError::Stopped)? {
            Verdict::Right | Verdict::Unknown => {
                self.mismatches = 0;
                Ok(())
            }
            Verdict::Wrong => {
                self.position = None;
                Err(RelayError::Wrong)
            }
        }
    }

    /// Tells the status that the upstream has confirmed. It has named its newest state when the request came, which is before
    /// any changes in the answer (`has_changes`).
    async fn confirmed(&mut self, origin: &Origin, has_changes: bool) -> Result<(), RelayError> {
        let (Some(newest), Some(position)) = (origin.newest, &self.position) else { return Ok(()) };
        let is_newest = is_at_or_after(position.cursor, newest);
        if is_newest {
            if !std::mem::replace(&mut self.caught_up, true) {
                info!(host = self.host_name(self.host), revision = newest.revision.0, "following");
            }
            // It may have read the whole state again meanwhile.
            self.sink.upstream().does(Activity::Watching);
        }
        if !is_newest && !self.caught_up {
            return Ok(());
        }
        if !has_changes && position.cursor.revision > newest.revision {
            // It lags behind, or its datastore was set back. Only when it has come here it confirms the state.
            let (ours, theirs) = (position.cursor.revision, newest.revision);
            let problem = format!("{}: it is at revision {theirs}, behind {ours}", self.host_name(self.host));
            self.sink.upstream().has_problem(Some(problem));
            return Ok(());
        }
        // An answer with changes has reported the status after them.
        if is_newest {
            self.report_status(position.cursor.status).await?;
        }
        self.confirmed_until = Instant::now() + WAIT + GRACE;
        let problem = (self.reported != SyncStatus::InSync)
            .then(|| format!("{}: it is itself {}", self.host_name(self.host), self.reported));
        self.sink.upstream().has_problem(problem);
        Ok(())
    }

    pub(super) async fn report_status(&mut self, status: SyncStatus) -> Result<(), FeedError> {
        if std::mem::replace(&mut self.reported, status) != status {
            self.sink.send(FeedEvent::Status(status)).await?;
        }
        Ok(())
    }

    /// Awaits what decides whether we are in-sync. If it takes long, clients are told that they may not be.
    pub(super) async fn timely<T>(&mut self, deciding: impl Future<Output = T>) -> Result<T, FeedError> {
        // Before anything is served there is no status to report.
        if self.applied.is_none() || self.reported == SyncStatus::ResyncInProgress {
            return Ok(deciding.await);
        }
        let mut deciding = pin!(deciding);
        if let Ok(decided) = timeout_at(self.confirmed_until, &mut deciding).await {
            return Ok(decided);
        }
        self.report_status(SyncStatus::ResyncInProgress).await?;
        let upstream = self.sink.upstream();
        if upstream.problem().is_none() {
            let host = self.host_name(self.host);
            upstream.has_problem(Some(format!("{host}: no answer yet, though one comes every second")));
        }
        Ok(deciding.await)
    }

    /// Ends the session if the upstream's data are old, or it is not in-sync, and another one is better.
    async fn probe_for_fresher(&mut self, origin: &Origin) -> Result<(), RelayError> {
        let status = origin.newest.map_or(SyncStatus::WaitForDatastore, |newest| newest.status);
        let in_sync = status == SyncStatus::InSync;
        if in_sync && origin.age < STALE_AGE {
            self.stale_since = None;
            return Ok(());
        }
        let now = Instant::now();
        let stale_since = *self.stale_since.get_or_insert(now);
        let is_due = origin.age >= STALE_AGE || now - stale_since >= NOT_IN_SYNC;
        if !is_due || now < self.next_probe {
            return Ok(());
        }
        self.next_probe = now + PROBE_EVERY;
        let followed = self.host;
        for index in (0..self.feed.clients.len()).filter(|index| *index != followed) {
            let client = self.client(index)?;
            let Ok(Ok(answer)) = self.timely(timeout(PROBE_ANSWER, client.origin())).await? else { continue };
            let Some(other) = answer.origin() else { continue };
            let other_in_sync = other.newest.is_some_and(|newest| newest.status == SyncStatus::InSync);
            let is_fresher = other.age + MIN_FRESHER < origin.age || !in_sync;
            let may_be_followed = check_path(&other.path, self.sink.upstream().id()).is_ok();
            if other_in_sync && is_fresher && may_be_followed {
                let (age, other) = (origin.age.as_secs(), self.host_name(index).to_owned());
                self.stale_since = None;
                return Err(RelayError::Fresher { status, age, other });
            }
        }
        Ok(())
    }
}

/// Whether a state is the other one or a later one of its history.
/// The cursor of an upstream, which a relay has to understand.
pub(super) fn read(cursor: OpaqueCursor) -> Result<Cursor, RelayError> {
    cursor.read().map_err(|error| ClientError::Protocol(error.to_string()).into())
}

fn is_at_or_after(cursor: Cursor, other: Cursor) -> bool {
    cursor.revision > other.revision || (cursor.revision == other.revision && cursor.status == other.status)
}

fn check_path(path: &[String], own: &str) -> Result<(), RelayError> {
    if let Some(others) = path.iter().position(|id| id == own) {
        return Err(RelayError::Loop(others + 1));
    }
    if path.len() > MAX_PATH { Err(RelayError::TooFar(path.len())) } else { Ok(()) }
}

pub(super) fn unexpected(what: &str) -> RelayError {
    ClientError::Protocol(what.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_the_root_and_does_not_come_by_here() {
        let path = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert!(check_path(&path(MAX_PATH), "own").is_ok());
        assert!(matches!(check_path(&path(MAX_PATH + 1), "own"), Err(RelayError::TooFar(17))));
        assert!(matches!(check_path(&path(3), "0"), Err(RelayError::Loop(1))));
        assert!(matches!(check_path(&path(3), "2"), Err(RelayError::Loop(3))));
    }
}
