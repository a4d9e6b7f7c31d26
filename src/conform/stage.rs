//! The place where a scene is played: the replicas, the client program, and what it has said so far.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::watch;

use super::daemon::{Crumb, Daemon, Kind, Request, SHORTEST_WAIT, Shared, State, World, plain, state_of};
use super::program::{Line, Program, Said};
use super::rule::Rule;
use super::scene::Transport;
use crate::model::{Digest, Entry, History};

/// How long a scene waits for something that must happen, while the program does anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// How long it waits for that while nothing happens.
const QUIET: Duration = Duration::from_secs(30);

/// The sentences of failures that are kept.
const KEPT_RETRIES: usize = 50;

/// The lines of output that are kept for the report.
const KEPT_LINES: usize = 6;

/// The revision at which every scene begins.
pub(super) const FIRST_REVISION: u64 = 1000;

/// What a client shows: keys and values.
pub(super) type Shown = BTreeMap<Vec<u8>, Vec<u8>>;

/// A broken rule: what was expected, and what came.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// The rule, if it is not the scene's.
    pub(crate) rule: Option<Rule>,
    pub(crate) expected: String,
    pub(crate) came: String,
}

impl Broken {
    pub(super) fn new(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self { rule: None, expected: expected.into(), came: came.into() }
    }

    /// The same for a rule that is not the scene's.
    pub(super) fn of(self, rule: Rule) -> Self {
        Self { rule: Some(rule), ..self }
    }
}

/// An error of this side. It says that nothing is proved.
impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::new("a scene that can be played", format!("an error of this system: {error}"))
    }
}

/// How long a program may take to see that going on does not help.
const TIME_TO_SEE: Duration = Duration::from_secs(30);

/// What the program is given beside its address.
#[derive(Clone, Default)]
pub(super) struct Given {
    pub(super) prefix: Option<&'static str>,
    pub(super) token: Option<&'static str>,
    pub(super) timeout: Option<Duration>,
    pub(super) allow_empty: bool,
}

/// TLS of all scenes: the server's side, and the file that the client trusts.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: tokio_rustls::TlsAcceptor,
    pub(super) authority: PathBuf,
}

pub(super) struct Stage {
    pub(super) transport: Transport,
    tls: Option<Tls>,
    command: Arc<[OsString]>,
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    replicas: Vec<Arc<Daemon>>,
    program: Option<Program>,
    prefix: Option<&'static str>,
    /// What the client shows, by its own changes.
    shown: Shown,
    /// The last line with a cursor.
    last: Option<Line>,
    /// The number of lines with a cursor.
    told: usize,
    held: Option<u64>,
    fatal: Option<String>,
    /// Whether the client may end by itself.
    may_end: bool,
    /// The last sentences of failures.
    retries: VecDeque<String>,
    /// What the client may show at these cursors, where that is not the state.
    instead: HashMap<String, Shown>,
    /// The prefixes of keys that the client may read, or could before.
    readable: Vec<Vec<u8>>,
    /// The requests before this one were looked at.
    looked_at: usize,
    printed: Vec<String>,
}

impl Stage {
    /// A stage with one replica that has a small state.
    pub(super) async fn new(
        transport: Transport,
        tls: Option<Tls>,
        command: Arc<[OsString]>,
    ) -> Result<Self, Broken> {
        let shared = Arc::new(Shared::default());
        let state =
            state_of(FIRST_REVISION, [("a", "1"), ("b", "\"two\""), ("c", "{\"n\":3}"), ("d", "four")]);
        let world = World::new(History::random(), FIRST_REVISION, state);
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        let daemon = Daemon::start(0, world, acceptor, Arc::clone(&shared)).await?;
        let news = shared.news.subscribe();
        Ok(Self {
            transport,
            tls,
            command,
            shared,
            news,
            replicas: vec![daemon],
            program: None,
            prefix: None,
            shown: Shown::new(),
            last: None,
            told: 0,
            held: None,
            fatal: None,
            may_end: false,
            retries: VecDeque::new(),
            instead: HashMap::new(),
            readable: vec![Vec::new()],
            looked_at: 0,
            printed: Vec::new(),
        })
    }

    /// The first replica.
    pub(super) fn daemon(&self) -> Arc<Daemon> {
        self.replica(0)
    }

    /// A replica.
    pub(super) fn replica(&self, number: usize) -> Arc<Daemon> {
        Arc::clone(&self.replicas[number])
    }

    /// Adds a replica that has what the first one has now.
    pub(super) async fn add_replica(&mut self) -> Result<Arc<Daemon>, Broken> {
        let world = self.daemon().world(|world| world.clone());
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
        let shared = Arc::clone(&self.shared);
        let daemon = Daemon::start(self.replicas.len(), world, acceptor, shared).await?;
        self.replicas.push(Arc::clone(&daemon));
        Ok(daemon)
    }

    /// Starts the program.
    pub(super) fn start(&mut self, given: Given) -> Result<(), Broken> {
        let urls: Vec<_> = self.replicas.iter().map(|daemon| daemon.url()).collect();
        let mut variables: Vec<(&str, OsString)> =
            vec![("CRUMBD_URL", urls.join(",").into()), ("CRUMBD_TRANSPORT", self.transport.as_str().into())];
        if let Some(prefix) = given.prefix {
            variables.push(("CRUMBD_PREFIX", prefix.into()));
            for daemon in &self.replicas {
                daemon.set(|settings| settings.prefix = Some(prefix.as_bytes().to_vec()));
            }
        }
        variables.extend(given.token.map(|token| ("CRUMBD_TOKEN", token.into())));
        if let Some(timeout) = given.timeout {
            for daemon in &self.replicas {
                daemon.set(|settings| settings.shortest_wait = SHORTEST_WAIT.min(timeout / 4));
            }
        }
        let timeout = given.timeout.map(|timeout| timeout.as_millis().to_string());
        variables.extend(timeout.map(|ms| ("CRUMBD_TIMEOUT_MS", ms.into())));
        variables.extend(given.allow_empty.then(|| ("CRUMBD_ALLOW_EMPTY", "1".into())));
        variables.extend(self.tls.as_ref().map(|tls| ("CRUMBD_CA_FILE", tls.authority.clone().into())));
        self.prefix = given.prefix;
        let started = Program::start(&self.command, &variables);
        self.program = Some(started.map_err(|error| {
            let name = self.command.first().map(|name| name.to_string_lossy().into_owned());
            Broken::new("a program that can be started", format!("{}: {error}", name.unwrap_or_default()))
        })?);
        Ok(())
    }

    /// Starts the program, and waits until it shows the state and waits for what comes next.
    pub(super) async fn follows(&mut self, given: Given) -> Result<(), Broken> {
        self.start(given)?;
        self.reaches().await?;
        self.waits().await
    }

    /// Waits until the client waits for what comes after the newest breadcrumb of the first replica.
    pub(super) async fn waits(&mut self) -> Result<(), Broken> {
        self.waits_at(0).await
    }

    /// The same at any replica.
    pub(super) async fn waits_at(&mut self, replica: usize) -> Result<(), Broken> {
        let daemon = self.replica(replica);
        let cursor = daemon.newest().cursor.to_string();
        self.until("the client waits for what comes next", |_| daemon.is_waited_for(&cursor)).await
    }

    /// Waits until the client has said that it is at the newest breadcrumb of the first replica.
    pub(super) async fn reaches(&mut self) -> Result<(), Broken> {
        self.reaches_within(DEADLINE).await
    }

    /// The same within this time.
    pub(super) async fn reaches_within(&mut self, limit: Duration) -> Result<(), Broken> {
        self.reaches_at(0, limit).await
    }

    /// The same for any replica.
    pub(super) async fn reaches_at(&mut self, replica: usize, limit: Duration) -> Result<(), Broken> {
        let daemon = self.replica(replica);
        let goal = daemon.newest();
        let what = format!("a line with the cursor {} (status {})", goal.cursor, goal.cursor.status);
        self.within(limit, &what, |stage| stage.is_at(&goal.cursor.to_string())).await
    }

    fn is_at(&self, cursor: &str) -> bool {
        self.last.as_ref().and_then(|line| line.cursor.as_deref()).is_some_and(|last| bare(last) == cursor)
    }

    /// Waits until this holds.
    pub(super) async fn until(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) -> Result<(), Broken> {
        self.within(DEADLINE, what, holds).await
    }

    /// Waits until this holds, for at most this time.
    pub(super) async fn within(
        &mut self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<(), Broken> {
        let begin = Instant::now();
        // On a busy machine a program may need long. One that does nothing at all has no need of more time.
        let quiet = if limit == DEADLINE { QUIET } else { limit };
        let mut end = begin + quiet;
        loop {
            self.look()?;
            if holds(self) {
                return Ok(());
            }
            if !self.step(end).await? {
                let waited = begin.elapsed();
                let came =
                    format!("nothing of that within {:.0} s{}", waited.as_secs_f64(), self.last_said());
                return Err(Broken::new(what, came));
            }
            if limit == DEADLINE {
                end = (Instant::now() + quiet).min(begin + limit);
            }
        }
    }

    /// Goes on for this time, whatever comes.
    pub(super) async fn during(&mut self, time: Duration) -> Result<(), Broken> {
        let end = Instant::now() + time;
        while self.step(end).await? {}
        Ok(())
    }

    /// Goes on for this time, in which the client shows nothing new.
    pub(super) async fn shows_nothing_new(&mut self, time: Duration, why: &str) -> Result<(), Broken> {
        let told = self.told;
        self.during(time).await?;
        match self.told == told {
            true => Ok(()),
            false => Err(Broken::new(format!("no line with a cursor: {why}"), self.last_said())),
        }
    }

    fn last_said(&self) -> String {
        match &self.last {
            None => match self.retries.back() {
                Some(retry) => {
                    format!("; there was no line with a cursor yet, and the last failure was {retry:?}")
                }
                None => "; there was no line with a cursor yet".to_owned(),
            },
            Some(line) => {
                let text = |field: &Option<String>| field.clone().unwrap_or_default();
                format!("; the last line has cursor {} and status {}", text(&line.cursor), text(&line.status))
            }
        }
    }

    /// What was found wrong without waiting for it.
    fn look(&mut self) -> Result<(), Broken> {
        self.shared.take_violation().map_or(Ok(()), Err)
    }

    /// Takes the next line or news. `false` when the time is over.
    async fn step(&mut self, until: Instant) -> Result<bool, Broken> {
        let ended_well = self.fatal.is_some();
        let Some(program) = &mut self.program else {
            return Err(Broken::new("a running program", "none"));
        };
        tokio::select! {
            said = program.next_line(), if !ended_well => match said? {
                Said::Line(line) => self.take(&line)?,
                Said::NotText(line) => {
                    self.keep(&line);
                    let came = format!("a line that is not UTF-8: \"{}\"", cut(&line));
                    return Err(Broken::new("lines with one JSON object each, in UTF-8", came));
                }
                Said::Endless(begin) => {
                    self.keep(&begin);
                    let came = format!("a line without end on standard output: {:?}", cut(&begin));
                    return Err(Broken::new("lines with one JSON object each", came));
                }
                Said::End => {
                    let status = program.exit().await;
                    let how = status.map_or_else(|_| "it closed its output".to_owned(), |status| status.to_string());
                    return Err(Broken::new("a program that follows for ever", how));
                }
            },
            _ = self.news.changed() => {}
            () = tokio::time::sleep_until(until.into()) => return Ok(false),
        }
        self.look()?;
        if let Some(sentence) = &self.fatal
            && !self.may_end
        {
            return Err(Broken::new(
                "a program that follows for ever",
                format!("the end: {{\"fatal\":{sentence:?}}}"),
            ));
        }
        Ok(true)
    }

    /// Takes a line of the program.
    fn take(&mut self, text: &str) -> Result<(), Broken> {
        self.keep(text);
        let line: Line = serde_json::from_str(text).map_err(|error| {
            Broken::new("lines with one JSON object each", format!("{:?}: {error}", cut(text)))
        })?;
        if let Some(sentence) = line.fatal {
            self.fatal = Some(sentence);
        } else if let Some(sentence) = line.retry {
            if self.retries.len() == KEPT_RETRIES {
                self.retries.pop_front();
            }
            self.retries.push_back(sentence);
        } else if let Some(count) = line.held {
            self.held = Some(count);
        } else {
            self.take_state(line)?;
        }
        Ok(())
    }

    /// Keeps a line for the report.
    fn keep(&mut self, text: &str) {
        if self.printed.len() == KEPT_LINES {
            self.printed.remove(0);
        }
        self.printed.push(cut(text));
    }

    /// Compares a line with a cursor with the state at that cursor.
    fn take_state(&mut self, line: Line) -> Result<(), Broken> {
        let Some(cursor) = line.cursor.as_deref().map(|cursor| bare(cursor).to_owned()) else {
            return Err(Broken::new("a line with cursor, retry, held or fatal", "none of these members"));
        };
        for change in line.changes.as_deref().unwrap_or_default() {
            let decode = |text: &str| {
                let wrong = |error| Broken::new("keys and values in base64", format!("{text:?}: {error}"));
                BASE64_STANDARD.decode(text).map_err(wrong)
            };
            let key = decode(&change.key)?;
            let shown = key.escape_ascii().to_string();
            let before = self.shown.get(&key);
            let wrong = |expected: &str| {
                let came = format!("type {:?} for the key \"{shown}\"", change.kind);
                Err(Broken::new(format!("true types: {expected}"), came))
            };
            match (change.kind.as_str(), &change.value) {
                ("deleted", _) if before.is_some() => _ = self.shown.remove(&key),
                ("deleted", _) => return wrong("a key that is deleted was there"),
                ("new", Some(_)) if before.is_some() => return wrong("a new key was not there before"),
                ("updated", Some(_)) if before.is_none() => return wrong("an updated key was there before"),
                ("new" | "updated", Some(value)) => {
                    let value = decode(value)?;
                    if before == Some(&value) {
                        return wrong("an updated key has another value than before");
                    }
                    self.shown.insert(key, value);
                }
                _ => return wrong("new, updated (both with a value) or deleted"),
            }
        }
        let (count, digest) = (self.shown.len() as u64, digest_of(&self.shown));
        let (said, said_digest) = (line.count, line.digest.clone().unwrap_or_default());
        if said != Some(count) {
            return Err(Broken::new(
                format!("count {count}, as the changes so far say"),
                format!("count {} at {cursor}", said.map_or("missing".to_owned(), |n| n.to_string())),
            ));
        }
        if said_digest != digest {
            return Err(Broken::new(
                format!("digest {digest}, as the changes so far say"),
                format!("digest {said_digest} at {cursor}"),
            ));
        }
        let Some(crumb) = self.shared.crumb(&cursor) else {
            return Err(Broken::new("a cursor that the daemon gave", format!("cursor {cursor:?}")));
        };
        if line.status.as_deref() != Some(crumb.cursor.status.as_str()) {
            return Err(Broken::new(
                format!("status {} at {cursor}", crumb.cursor.status),
                format!("status {}", line.status.as_deref().unwrap_or("missing")),
            ));
        }
        if !self.may_show(&crumb) {
            return Err(Broken::new(
                format!("the state at {cursor}: {}", describe(&self.states(&crumb).remove(0))),
                describe(&self.shown),
            ));
        }
        self.told += 1;
        self.last = Some(line);
        Ok(())
    }

    /// What the client may show at a breadcrumb.
    fn states(&self, crumb: &Crumb) -> Vec<Shown> {
        if let Some(shown) = self.instead.get(&crumb.cursor.to_string()) {
            return vec![shown.clone()];
        }
        let prefix = self.prefix.unwrap_or_default().as_bytes();
        let below = |readable: &Vec<u8>| {
            let seen = crumb.state.iter().filter(|(key, _)| {
                key.as_bytes().starts_with(prefix) && key.as_bytes().starts_with(readable)
            });
            seen.map(|(key, entry)| (key.as_bytes().to_vec(), entry.value().to_vec())).collect()
        };
        self.readable.iter().rev().map(below).collect()
    }

    fn may_show(&self, crumb: &Crumb) -> bool {
        self.states(crumb).contains(&self.shown)
    }

    /// Says what the client is to show at the newest breadcrumb, where that is not its state.
    pub(super) fn instead_of_the_newest(&mut self, shown: Shown) {
        let cursor = self.daemon().newest().cursor.to_string();
        self.instead.insert(cursor, shown);
    }

    /// Lets the client read the keys with this prefix only.
    pub(super) fn reads_only(&mut self, prefix: &[u8]) {
        self.readable.push(prefix.to_vec());
    }

    /// What the client shows.
    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The number of lines with a cursor.
    pub(super) fn told(&self) -> usize {
        self.told
    }

    /// Waits until the client says that it keeps what it has.
    pub(super) async fn holds(&mut self) -> Result<(), Broken> {
        let count = self.shown.len() as u64;
        self.until(&format!("the line {{\"held\":{count}}}"), |stage| stage.held.is_some()).await?;
        match self.held {
            Some(held) if held == count => Ok(()),
            held => Err(Broken::new(format!("\"held\":{count}"), format!("\"held\":{}", held.unwrap_or(0)))),
        }
    }

    /// Whether the client said that it keeps what it has.
    pub(super) fn has_held(&self) -> bool {
        self.held.is_some()
    }

    /// Waits until the program ends with a sentence that has this text.
    pub(super) async fn ends_with(&mut self, text: &str) -> Result<(), Broken> {
        let what = format!("the line {{\"fatal\":…}} with {text:?} in it");
        self.may_end = true;
        self.within(TIME_TO_SEE, &what, |stage| stage.fatal.is_some()).await?;
        let sentence = self.fatal.clone().unwrap_or_default();
        if !sentence.contains(text) {
            return Err(Broken::new(what, format!("{sentence:?}")));
        }
        let Some(program) = &mut self.program else { return Ok(()) };
        match program.exit().await {
            Ok(status) if status.code() == Some(1) => Ok(()),
            Ok(status) => Err(Broken::new("exit code 1 after \"fatal\"", status.to_string())),
            Err(_) => Err(Broken::new("the end of the program after \"fatal\"", "it goes on")),
        }
    }

    /// Waits until a sentence of a failure has all of these texts.
    pub(super) async fn says_of_a_failure(&mut self, texts: &[&str]) -> Result<(), Broken> {
        let what = format!("a line {{\"retry\":…}} with {} in it", texts.join(" and "));
        let has_all = |sentence: &String| texts.iter().all(|text| sentence.contains(text));
        self.until(&what, |stage| stage.retries.iter().any(has_all)).await
    }

    /// Fails where the requests came over more connections than this.
    pub(super) fn used_connections(&self, at_most: usize) -> Result<(), Broken> {
        let requests = self.requests();
        let used: BTreeSet<_> =
            requests.iter().map(|request| (request.replica, request.connection)).collect();
        match used.len() {
            count if count <= at_most => Ok(()),
            count => Err(Broken::new(
                format!("at most {at_most} connections: the client keeps its connection"),
                format!("{count} connections for {} requests", requests.len()),
            )),
        }
    }

    /// Fails where the client was to follow by streams, and has come to a state without one.
    pub(super) fn used_its_transport(&self) -> Result<(), Broken> {
        match self.transport == Transport::Stream
            && self.told > 0
            && !self.requests().iter().any(Request::is_stream)
        {
            true => Err(Broken::new(
                "at least one request for /v1/stream, because CRUMBD_TRANSPORT is \"stream\"",
                "none",
            )),
            false => Ok(()),
        }
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }

    /// The number of requests of this kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.requests().iter().filter(|request| request.kind == kind).count()
    }

    /// Fails where the whole state was read more often than this.
    pub(super) fn read_the_state(&self, at_most: usize) -> Result<(), Broken> {
        match self.count(Kind::State) {
            count if count <= at_most => Ok(()),
            count => Err(Broken::new(
                format!("{at_most} request(s) for the whole state: the client continues from its cursor"),
                format!("{count} of them"),
            )
            .of(Rule::Resume)),
        }
    }

    /// Waits for the next request whose answer was this (a status, or a part of its description), and for the one after
    /// it.
    pub(super) async fn asks_again(&mut self, answer: &str) -> Result<(Request, Request), Broken> {
        let mut found = None;
        let begin = self.looked_at;
        // A status is at the beginning: a cursor further on may have the same digits.
        let is_status = answer.bytes().all(|byte| byte.is_ascii_digit());
        let matches = |what: &str| if is_status { what.starts_with(answer) } else { what.contains(answer) };
        let find = |requests: &[Request]| {
            let is_it = |r: &Request| r.answer.as_ref().is_some_and(|(_, what)| matches(what));
            let at = begin + requests.get(begin..)?.iter().position(is_it)?;
            Some((at, requests[at].clone(), requests.get(at + 1)?.clone()))
        };
        let what = match is_status {
            true => format!("the next request after the answer {answer}"),
            false => format!(
                "the next request after an answer that is noted as \"… {answer} …\" among the requests"
            ),
        };
        let again = |stage: &Self| {
            found = find(&stage.requests());
            found.is_some()
        };
        self.until(&what, again).await?;
        let (at, met, next) = found.ok_or_else(|| Broken::new(what, "none"))?;
        self.looked_at = at + 1;
        Ok((met, next))
    }

    /// Waits as [`Stage::asks_again`], and fails where the next request is not for this cursor.
    pub(super) async fn continues(
        &mut self,
        answer: &str,
        cursor: &str,
    ) -> Result<(Request, Request), Broken> {
        let (met, next) = self.asks_again(answer).await?;
        match next.kind == Kind::Follow && next.cursor.as_deref() == Some(cursor) {
            true => Ok((met, next)),
            false => Err(Broken::new(
                format!("the same request again, for what comes after {cursor}"),
                format!("{} {}", next.method, next.target),
            )),
        }
    }

    /// Ends the program. A program that has ended by itself is no error here.
    pub(super) async fn finish(&mut self) -> Result<(), Broken> {
        let by_transport = self.used_its_transport();
        let Some(program) = &mut self.program else { return Ok(()) };
        if self.fatal.is_some() {
            return by_transport;
        }
        let expected = "exit code 0 within 10 s after standard input was closed";
        match program.stop().await {
            Ok(status) if status.success() => by_transport,
            Ok(status) => Err(Broken::new(expected, status.to_string())),
            Err(_) => Err(Broken::new(expected, "it went on, and was killed")),
        }
    }

    /// The last requests, for the report.
    pub(super) fn request_lines(&self) -> Vec<String> {
        let requests = self.requests();
        let Some(begin) = requests.first().map(|request| request.at) else { return Vec::new() };
        let last = requests.iter().skip(requests.len().saturating_sub(10));
        last.map(|request| {
            let seconds = request.at.duration_since(begin).as_secs_f64();
            let what = request.answer.as_ref().map_or("(not answered yet)", |(_, what)| what);
            let replica =
                if self.replicas.len() > 1 { format!(" [{}]", request.replica) } else { String::new() };
            format!("{seconds:8.3} s{replica} {} {} → {what}", request.method, request.target)
        })
        .collect()
    }

    /// The last lines of the program's output, for the report.
    pub(super) fn output_lines(&self) -> Vec<String> {
        let half = self.program.as_ref().and_then(Program::half_line);
        let half = half.map(|half| format!("{} (without a line break)", cut(&half)));
        self.printed.iter().cloned().chain(half).collect()
    }

    /// The last lines of the program's standard error, for the report.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.program.as_ref().map(Program::complaints).unwrap_or_default()
    }
}

/// A state as a client shows it.
pub(super) fn shown_of(state: &State) -> Shown {
    state.iter().map(|(key, entry)| (key.as_bytes().to_vec(), entry.value().to_vec())).collect()
}

/// A cursor without the rights that an event stream adds.
fn bare(cursor: &str) -> &str {
    plain(cursor).split('~').next().unwrap_or_default()
}

fn digest_of(shown: &Shown) -> String {
    let entries: Vec<_> = shown.iter().map(|(key, value)| Entry::new(key, value, None)).collect();
    entries.iter().collect::<Digest>().to_string()
}

/// The most characters of a line, a key or a value in a report.
const SHOWN_CHARS: usize = 300;

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn describe(shown: &Shown) -> String {
    let one = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        format!("\"{}\"={}", key.escape_ascii(), cut_to(&value.escape_ascii().to_string(), 40))
    };
    let first: Vec<_> = shown.iter().take(8).map(one).collect();
    let more = if shown.len() > 8 { ", …" } else { "" };
    format!("{} keys: {}{more}", shown.len(), first.join(", "))
}

fn cut_to(text: &str, chars: usize) -> impl fmt::Display {
    text.chars().take(chars).collect::<String>()
}
