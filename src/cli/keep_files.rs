//! Keeps files as the daemon's state is: the loop of `crumbd mirror` and `crumbd template`.
//!
//! Files are written only from states that the daemon calls in-sync, a moment after the first change, so that what
//! changes together is written together. While they are written, the daemon is heard on. What cannot be written is
//! tried again, with pauses that double from a second to a minute.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::after_change::{AfterChange, Notice, Runner};
use super::lost_daemon::LostDaemon;
use super::output::say;
use super::signals::Stop;
use super::units::{Span, parse_wait};
use super::{Daemon, Failure};
use crate::client::{Client, ClientError, DEFAULT_SILENCE, Event, Follower, MirrorSnapshot};
use crate::model::{OpaqueCursor, SyncStatus};

/// The pauses after a failure to write.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the end waits for a write that is under way.
const WRITE_END: Duration = Duration::from_secs(10);

/// How old the cursor beside the files may become while nothing changes: long before a daemon forgets it.
const CURSOR_AGE: Duration = Duration::from_secs(60);

/// The flags for what is followed, and when files are written.
#[derive(Args)]
pub(super) struct KeepFlags {
    #[command(flatten)]
    daemon: Daemon,
    /// Only keys with this prefix. It is taken off their names: end it with a slash.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) prefix: String,
    /// How long to wait after a change for others before the files are written. Changes do not prolong it.
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = parse_wait, allow_hyphen_values = true)]
    debounce: Span,
    /// Write the files once, run the command once, and end: for init containers.
    #[arg(long)]
    pub(super) once: bool,
    /// With --once: how long it may take. After that the exit code is 1, and the reason is on standard error
    /// [default: 60s]
    #[arg(long, value_name = "DURATION", requires = "once", value_parser = parse_wait, allow_hyphen_values = true)]
    timeout: Option<Span>,
    /// Remove the files also where the daemon's whole state was read again and is empty. Without it they are kept then,
    /// because a daemon that has lost its state looks the same.
    #[arg(long)]
    allow_empty: bool,
    /// Follow one long response (`/v1/stream`) instead of sending a request for each change. This costs both sides
    /// less when changes are frequent.
    #[arg(long)]
    stream: bool,
    /// With --stream: how long to wait for data or a heartbeat before reconnecting. Set it to a few times the
    /// daemon's --heartbeat [default: 45s]
    #[arg(long, value_name = "DURATION", requires = "stream", value_parser = parse_wait, allow_hyphen_values = true)]
    silence: Option<Span>,
}

/// Files that are kept.
pub(super) trait Files: Send + 'static {
    /// Whether a change of keys may mend a failure, so that it is not waited for long.
    const MENDED_BY_CHANGES: bool;

    /// Whether there are files, which an empty state would empty.
    fn are_there(&self) -> bool;

    /// Brings the files to this state. Blocks.
    fn write(&mut self, state: &MirrorSnapshot) -> Written;

    /// The directory of the files, and the number of the last write.
    fn place(&self) -> (Option<PathBuf>, u64);
}

/// The outcome of a write.
pub(super) struct Written {
    /// What has changed: keys, or files.
    pub(super) changed: usize,
    /// Why not everything could be written.
    pub(super) failure: Option<Failure>,
}

/// What runs after changes, and whether it has yet to run after an earlier one.
pub(super) struct Reaction {
    pub(super) after: AfterChange,
    pub(super) is_due: bool,
    pub(super) done: Box<dyn Fn(u64) + Send>,
}

/// The time of --once is over.
#[derive(Debug, thiserror::Error)]
#[error("not done within {0}: {1}")]
struct TooLate(Span, String);

/// A signal has come before --once was done.
#[derive(Debug, thiserror::Error)]
#[error("ended by a signal before it was done: {0}")]
struct Interrupted(String);

/// A write that is under way: the files, the state that they are brought to, the outcome.
type UnderWay<F> = Option<JoinHandle<(F, MirrorSnapshot, Written)>>;

impl KeepFlags {
    fn follower(&self, client: Client, resume: Option<MirrorSnapshot>) -> Follower {
        let mut builder = Follower::of(client).allow_empty(self.allow_empty);
        if !self.prefix.is_empty() {
            builder = builder.prefix(self.prefix.as_str());
        }
        if self.stream {
            builder = builder.stream(self.silence.map_or(DEFAULT_SILENCE, |span| span.0));
        }
        match resume {
            Some(state) => builder.resume(state).start(),
            None => builder.start(),
        }
    }

    /// The collection that is followed; empty for the one without a name.
    pub(super) fn collection(&self) -> &str {
        self.daemon.collection()
    }

    /// The outcome where a signal has come before the files were looked at.
    pub(super) fn interrupted(&self) -> Result<(), Failure> {
        let reason = || "the files are being read".to_owned();
        if self.once { Err(Interrupted(reason()).into()) } else { Ok(()) }
    }

    /// Keeps the files until a signal ends this, or once. `resume` is the state of the files, where it is proved.
    pub(super) async fn keep(
        &self,
        files: impl Files,
        resume: Option<MirrorSnapshot>,
        reaction: Option<Reaction>,
        stop: Stop,
    ) -> Result<(), Failure> {
        // Once must know that the files are those of now, and a long poll with nothing new does not say it.
        let resume = resume.filter(|_| !self.once);
        let client = self.daemon.client()?;
        let is_resumed = resume.is_some();
        let resumed_at = resume.as_ref().and_then(MirrorSnapshot::cursor);
        let follower = self.follower(client.clone(), resume);
        let keeper = Keeper {
            flags: self,
            may_empty: is_resumed || self.allow_empty,
            files: Some(files),
            under_way: None,
            unwritten: false,
            written: Instant::now(),
            written_cursor: resumed_at,
            write_at: None,
            pause: Duration::ZERO,
            lost: LostDaemon::new(client),
            is_heard: is_resumed,
            holds: false,
            waits_for: "the daemon has not answered yet".to_owned(),
        };
        keeper.run(follower, reaction, stop).await
    }
}

/// The files, and what is to be done to them.
struct Keeper<'a, F> {
    flags: &'a KeepFlags,
    /// `None` while they are written.
    files: Option<F>,
    under_way: UnderWay<F>,
    /// Whether the state is another one than that of the files.
    unwritten: bool,
    /// When they were written last, and the cursor of their state.
    written: Instant,
    written_cursor: Option<OpaqueCursor>,
    /// When they are written next.
    write_at: Option<Instant>,
    /// The last pause after a failure.
    pause: Duration,
    lost: LostDaemon,
    /// Whether the daemon has given a state.
    is_heard: bool,
    /// Whether an empty state may empty the files: it has come about by deletions, or was agreed to.
    may_empty: bool,
    /// Whether it was said that an empty state is held.
    holds: bool,
    /// What --once still waits for.
    waits_for: String,
}

impl<F: Files> Keeper<'_, F> {
    async fn run(
        mut self,
        mut follower: Follower,
        reaction: Option<Reaction>,
        mut stop: Stop,
    ) -> Result<(), Failure> {
        let limit = self.flags.timeout.unwrap_or(Span(Duration::from_secs(60)));
        let end = self.flags.once.then(|| Instant::now() + limit.0);
        if self.flags.once {
            let ended = tokio::select! {
                written = self.once(&mut follower, reaction) => written,
                () = until(end) => Err(TooLate(limit, self.waits_for.clone()).into()),
                () = stop.requested() => Err(Interrupted(self.waits_for.clone()).into()),
            };
            self.end_write().await;
            return ended;
        }
        let is_due = reaction.as_ref().is_some_and(|reaction| reaction.is_due);
        let runner = reaction.map(|reaction| Runner::start(reaction.after, reaction.done));
        if let Some(runner) = runner.as_ref().filter(|_| is_due && self.is_heard) {
            runner.notify(self.notice(follower.state(), 0));
        }
        let mut is_due = is_due && !self.is_heard;
        let ended = loop {
            tokio::select! {
                event = follower.next() => if let Err(failure) = self.heard(event, &follower) {
                    break Err(failure);
                },
                () = until(self.write_at), if self.under_way.is_none() => self.begin_write(&follower),
                (files, state, written) = finished(&mut self.under_way), if self.under_way.is_some() => {
                    let changed = self.finish_write(files, &written);
                    if changed > 0 || is_due && written.failure.is_none() {
                        is_due = false;
                        runner.iter().for_each(|runner| runner.notify(self.notice(&state, changed)));
                    }
                    if let Some(failure) = written.failure {
                        say(format_args!("{failure}; trying again in {}", Span(self.pause)));
                    }
                }
                () = self.lost.back() => {}
                () = stop.requested() => break Ok(()),
            }
        };
        self.end_write().await;
        if let Some(runner) = runner {
            runner.stop().await;
        }
        ended
    }

    /// Waits for the write that is under way, but not for ever: a next start mends what it finds.
    async fn end_write(&mut self) {
        if self.under_way.is_some() && timeout(WRITE_END, finished(&mut self.under_way)).await.is_err() {
            say(format_args!(
                "the write that is under way has not ended within {}; it is left, and the next start mends the files",
                Span(WRITE_END)
            ));
        }
    }

    /// Writes the files and runs the command, once.
    async fn once(&mut self, follower: &mut Follower, reaction: Option<Reaction>) -> Result<(), Failure> {
        while self.write_at.is_none() {
            tokio::select! {
                event = follower.next() => self.heard(event, follower)?,
                () = self.lost.back() => {}
            }
        }
        self.waits_for = "the files are being written".to_owned();
        self.begin_write(follower);
        let (files, state, written) = finished(&mut self.under_way).await;
        let changed = self.finish_write(files, &written);
        if let Some(failure) = written.failure {
            return Err(failure);
        }
        if let Some(reaction) = reaction {
            self.waits_for = "the command has not ended".to_owned();
            let notice = self.notice(&state, changed);
            reaction.after.run(&notice).await?;
            (reaction.done)(notice.generation);
        }
        Ok(())
    }

    fn heard(&mut self, event: Result<Event, ClientError>, follower: &Follower) -> Result<(), Failure> {
        match event {
            Ok(Event::Changed(_)) => self.changed(follower.state()),
            Ok(Event::Unchanged) => self.unchanged(follower.state()),
            Ok(Event::Retry(retry)) => {
                self.waits_for = retry.error.to_string();
                self.lost.failed(&retry.error, retry.pause);
            }
            Ok(Event::Held { .. }) => self.hold(),
            // A wrong flag is better said at once.
            Err(error) if !self.is_heard => return Err(error.into()),
            Err(error) => self.lost.failed(&error, LONGEST_PAUSE),
        }
        Ok(())
    }

    fn changed(&mut self, state: &MirrorSnapshot) {
        self.lost.answered();
        self.is_heard = true;
        if !is_in_sync(state) {
            let status = state.status().map(|status| status.to_string()).unwrap_or_default();
            self.waits_for = format!("the daemon's status is {status}, not in-sync");
        } else if state.is_empty() && !self.may_empty && self.files.as_ref().is_some_and(F::are_there) {
            self.hold();
        } else {
            self.holds = false;
            self.may_empty = true;
        }
        // A change of status alone has a cursor to keep.
        self.unwritten = true;
        self.schedule(state);
    }

    /// The cursor alone has moved on. It is kept now and then, so that a restart does not need one that is gone.
    fn unchanged(&mut self, state: &MirrorSnapshot) {
        self.lost.answered();
        if self.written.elapsed() >= CURSOR_AGE && self.written_cursor != state.cursor() {
            self.unwritten = true;
            self.schedule(state);
        }
    }

    fn hold(&mut self) {
        self.lost.answered();
        self.waits_for =
            "the daemon has no keys, and the files are kept (--allow-empty takes the empty state)".to_owned();
        if !std::mem::replace(&mut self.holds, true) {
            say(
                "the daemon has no keys; perhaps it has lost its state, so the files are kept until it has some \
                 (--allow-empty takes the empty state)",
            );
        }
    }

    /// Says when files are written: only from a state that the daemon calls in-sync.
    fn schedule(&mut self, state: &MirrorSnapshot) {
        if !self.unwritten || !is_in_sync(state) || self.holds {
            self.write_at = None;
        } else {
            let pause = if F::MENDED_BY_CHANGES { self.pause.min(FIRST_PAUSE) } else { self.pause };
            let soonest = Instant::now() + self.flags.debounce.0.max(pause);
            self.write_at = Some(self.write_at.map_or(soonest, |at| at.min(soonest)));
        }
    }

    fn begin_write(&mut self, follower: &Follower) {
        let state = follower.state().clone();
        self.write_at = None;
        if !is_in_sync(&state) {
            return;
        }
        let Some(mut files) = self.files.take() else { return };
        self.unwritten = false;
        (self.written, self.written_cursor) = (Instant::now(), state.cursor());
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            let written = files.write(&state);
            (files, state, written)
        }));
    }

    /// Returns what has changed.
    fn finish_write(&mut self, files: F, written: &Written) -> usize {
        self.files = Some(files);
        self.under_way = None;
        if written.failure.is_some() {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.unwritten = true;
            // Later than what a change has scheduled meanwhile.
            self.write_at = Some(Instant::now() + self.pause);
        } else if !std::mem::take(&mut self.pause).is_zero() {
            say("the files can be written again");
        }
        written.changed
    }

    fn notice(&self, state: &MirrorSnapshot, changed: usize) -> Notice {
        let (directory, generation) = self.files.as_ref().map_or((None, 0), F::place);
        let cursor = state.cursor();
        Notice {
            cursor: cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
            status: state.status().map(|status| status.to_string()).unwrap_or_default(),
            changed,
            directory,
            generation,
        }
    }
}

fn is_in_sync(state: &MirrorSnapshot) -> bool {
    state.status() == Some(SyncStatus::InSync)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The outcome of the write that is under way.
async fn finished<F>(under_way: &mut UnderWay<F>) -> (F, MirrorSnapshot, Written) {
    match under_way {
        Some(task) => match task.await {
            Ok(done) => done,
            // Nothing aborts it, so it has panicked.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        None => std::future::pending().await,
    }
}
