//! `crumbd follow`.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use clap::Args;

use super::escaped::Escaped;
use super::progress::Bar;
use super::units::{Span, parse_wait};
use super::{Daemon, Failure, output};
use crate::client::{Changed, DEFAULT_SILENCE, EntryChange, Event, Follower, FollowerBuilder, Gap, Retry};
use crate::model::Entry;
use crate::wire::{self, Record};

/// The characters of a value that are shown on a terminal.
const SHOWN_VALUE_CHARS: usize = 100;

/// Print changes as they come, for ever
///
/// Holds a copy of the state and checks it against the daemon's digest at every step. Prints each change: as a
/// line on a terminal, as an NDJSON record elsewhere. When the connection breaks, it reconnects and goes on
/// from its cursor. After a gap it fetches the state again and prints the difference. So nothing is missed, and
/// nothing is printed twice.
#[derive(Args)]
pub(super) struct Follow {
    #[command(flatten)]
    daemon: Daemon,
    /// Only keys with this prefix.
    #[arg(long)]
    prefix: Option<String>,
    /// First print the current state.
    #[arg(long)]
    all: bool,
    /// Print NDJSON records on a terminal too.
    #[arg(long)]
    json: bool,
    /// Follow one long response (`/v1/stream`) instead of sending a request for each change. This costs both sides
    /// less when changes are frequent.
    #[arg(long)]
    stream: bool,
    /// With --stream: how long to wait for data or a heartbeat before reconnecting. Set it to a few times the
    /// daemon's --heartbeat [default: 45s]
    #[arg(long, value_name = "DURATION", requires = "stream", value_parser = parse_wait, allow_hyphen_values = true)]
    silence: Option<Span>,
    /// Print deletions also where the daemon's whole state was read again and is empty. Without it the keys are kept
    /// then, because a daemon that has lost its state looks the same.
    #[arg(long)]
    allow_empty: bool,
}

impl Follow {
    pub(super) async fn run(self) -> Result<(), Failure> {
        tokio::select! {
            ended = self.follow() => ended,
            gone = output::reader_gone() => Err(gone.into()),
        }
    }

    async fn follow(self) -> Result<(), Failure> {
        let human = std::io::stdout().is_terminal() && !self.json;
        let bar = Arc::new(Bar::new(true));
        let mut follower = self.follower(Arc::clone(&bar))?.start();
        let mut first = true;
        loop {
            let event = follower.next().await;
            bar.clear();
            match event {
                Ok(Event::Changed(changed)) => {
                    if first {
                        introduce(follower.state().len(), &changed);
                    } else if changed.snapshot {
                        let reason = gap_reason(changed.gap);
                        output::say(format_args!(
                            "{reason}; the state was read again, here is the difference"
                        ));
                    }
                    if !first || self.all {
                        print(&changed, human)?;
                    }
                    first = false;
                }
                Ok(Event::Retry(Retry { error, pause })) if error.may_pass() || !first => {
                    output::say(format_args!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
                }
                Ok(Event::Unchanged) => {}
                Ok(Event::Held { keys }) => output::say(format_args!(
                    "the daemon has no keys; perhaps it has lost its state, so the {keys} known ones are kept until it \
                     has some (--allow-empty takes the empty state)"
                )),
                Err(error) if !first => output::say(format_args!("{error}; trying again")),
                Err(error) | Ok(Event::Retry(Retry { error, .. })) => return Err(error.into()),
            }
        }
    }

    fn follower(&self, bar: Arc<Bar>) -> Result<FollowerBuilder, Failure> {
        let mut builder = Follower::of(self.daemon.client()?).allow_empty(self.allow_empty);
        if let Some(prefix) = self.prefix.as_deref() {
            builder = builder.prefix(prefix);
        }
        if self.stream {
            builder = builder.stream(self.silence.map_or(DEFAULT_SILENCE, |span| span.0));
        }
        Ok(builder.on_progress(move |progress| bar.show(progress.entries, progress.total)))
    }
}

fn gap_reason(gap: Option<Gap>) -> &'static str {
    match gap {
        Some(Gap::CursorGone) => "the cursor was gone",
        Some(Gap::RightsChanged) => "what this token may read has changed",
        _ => "the last answer could not be used",
    }
}

fn introduce(keys: usize, changed: &Changed) {
    let status = changed.header.status.map(|status| status.to_string()).unwrap_or_default();
    let cursor = changed.header.cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
    output::say(format_args!("following {keys} keys from cursor {cursor} ({status})"));
}

fn print(changed: &Changed, human: bool) -> Result<(), Failure> {
    let mut text = Vec::new();
    for change in &changed.changes {
        if human {
            write_human(&mut text, change)?;
        } else {
            wire::write_record(&mut text, &change.to_record());
        }
        text.push(b'\n');
    }
    if changed.changes.is_empty()
        && let Some(status) = changed.header.status
        && !human
    {
        wire::write_record(&mut text, &Record::Status(status));
        text.push(b'\n');
    } else if changed.changes.is_empty()
        && let Some(status) = changed.header.status
    {
        writeln!(text, "status {status}")?;
    }
    Ok(output::bytes(&text)?)
}

fn write_human(out: &mut Vec<u8>, change: &EntryChange) -> std::io::Result<()> {
    let (sign, entry) = match change {
        EntryChange::New(new) => ('+', new),
        EntryChange::Updated { new, .. } => ('~', new),
        EntryChange::Deleted { old, revision } => {
            return write!(out, "{:>8} - {}", revision.unwrap_or_default(), old.to_key());
        }
    };
    let at = entry.revision().unwrap_or_default();
    write!(out, "{at:>8} {sign} {} = {}", entry.to_key(), shown(entry))
}

/// The value on one line, cut to a readable length.
fn shown(entry: &Entry) -> String {
    let text = String::from_utf8_lossy(entry.value());
    let beginning: String = text.chars().take(SHOWN_VALUE_CHARS).collect();
    let mut shown = Escaped::in_one_line(beginning).to_string();
    if text.chars().count() > SHOWN_VALUE_CHARS {
        shown.push('…');
    }
    shown
}
