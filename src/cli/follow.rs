//! `crumbd follow`.

mod any_follower;

use std::io::{IsTerminal, Write};

use clap::Args;

use self::any_follower::AnyFollower;
use super::escaped::Escaped;
use super::progress::Bar;
use super::units::{Span, parse_wait};
use super::{Daemon, Failure, output};
use crate::client::{DEFAULT_SILENCE, Follower, Gap, Step, StreamFollower};
use crate::model::{Entry, Key};
use crate::wire::{self, PutKind, Record};

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
        let prefix = self.prefix.as_deref().map(Key::from);
        let client = self.daemon.client()?;
        let silence = self.silence.map_or(DEFAULT_SILENCE, |span| span.0);
        let mut follower = match self.stream {
            true => AnyFollower::Stream(Box::new(StreamFollower::new(client, prefix, silence))),
            false => AnyFollower::LongPoll(Box::new(Follower::new(client, prefix))),
        };
        let mut first = true;
        loop {
            let bar = Bar::new(first);
            let step = follower.step(|progress| bar.show(progress.entries, progress.total)).await;
            bar.clear();
            match step {
                Ok(step) => {
                    if first {
                        introduce(&follower, &step);
                    } else if step.snapshot {
                        let reason = gap_reason(step.gap);
                        output::say(format_args!(
                            "{reason}; the state was read again, here is the difference"
                        ));
                    }
                    if !first || self.all {
                        print(&step, human)?;
                    }
                    first = false;
                }
                Err(error) if error.may_pass() || !first => {
                    let pause = follower.pause();
                    output::say(format_args!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn gap_reason(gap: Option<Gap>) -> &'static str {
    match gap {
        Some(Gap::CursorGone) => "the cursor was gone",
        Some(Gap::RightsChanged) => "what this token may read has changed",
        _ => "the last answer could not be used",
    }
}

fn introduce(follower: &AnyFollower, step: &Step) {
    let status = step.header.status.map(|status| status.to_string()).unwrap_or_default();
    let cursor = step.header.cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
    let keys = follower.mirror().len();
    output::say(format_args!("following {keys} keys from cursor {cursor} ({status})"));
}

fn print(step: &Step, human: bool) -> Result<(), Failure> {
    let mut text = Vec::new();
    for record in &step.changes {
        if human {
            write_human(&mut text, record)?;
        } else {
            wire::write_record(&mut text, record);
        }
        text.push(b'\n');
    }
    if step.changes.is_empty()
        && let Some(status) = step.header.status
        && !human
    {
        wire::write_record(&mut text, &Record::Status(status));
        text.push(b'\n');
    } else if step.changes.is_empty()
        && let Some(status) = step.header.status
    {
        writeln!(text, "status {status}")?;
    }
    Ok(output::bytes(&text)?)
}

fn write_human(out: &mut Vec<u8>, record: &Record) -> std::io::Result<()> {
    match record {
        Record::Put { kind, entry } => {
            let sign = if *kind == PutKind::New { '+' } else { '~' };
            let at = entry.revision().unwrap_or_default();
            write!(out, "{at:>8} {sign} {} = {}", entry.to_key(), shown(entry))
        }
        Record::Deleted { key, revision } => {
            write!(out, "{:>8} - {key}", revision.unwrap_or_default())
        }
        _ => Ok(()),
    }
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
