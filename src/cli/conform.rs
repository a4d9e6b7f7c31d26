//! `crumbd conform`.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::escaped::Escaped;
use super::{Failure, output};
use crate::conform::{Broken, Outcome, Suite, Transport, kill_all, scenes};

/// The most scenes at the same time.
const MAX_JOBS: u16 = 16;

/// Prove a client library: play every fault of a daemon and compare what the client does
///
/// Serves a scripted daemon on a free loopback port, starts COMMAND anew for each scene, and reads what it prints. The
/// page "How to write a client" says what the program is given, what it prints, and which rule each scene proves. The
/// exit code is 0 when all scenes pass.
#[derive(Args)]
pub(super) struct Conform {
    /// Only scenes of this transport [default: both]
    #[arg(long)]
    transport: Option<TransportChoice>,
    /// Serve over TLS; the program trusts the authority in CRUMBD_CA_FILE.
    #[arg(long)]
    tls: bool,
    /// Only this scene; may be given several times.
    #[arg(long, value_name = "NAME")]
    scene: Vec<String>,
    /// Print the scenes with their rules, and play none.
    #[arg(long)]
    list: bool,
    /// Scenes that are played at the same time. Most of them wait most of the time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_JOBS)))]
    jobs: u16,
    /// Print requests and output of scenes that pass, too.
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object for each scene, and one at the end.
    #[arg(long)]
    json: bool,
    /// The client program and its arguments.
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "list")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TransportChoice {
    /// Long polls.
    Poll,
    /// `/v1/stream`.
    Stream,
}

/// The client breaks rules.
#[derive(Debug, thiserror::Error)]
#[error("{broken} of {played} scenes are broken")]
struct RulesBroken {
    broken: usize,
    played: usize,
}

/// A signal ended the suite, and it has ended the programs.
#[derive(Debug, thiserror::Error)]
#[error("ended by signal {0}")]
pub(super) struct EndedBySignal(u8);

impl EndedBySignal {
    /// The exit code that a shell has for a process that a signal ended.
    pub(super) fn exit_code(&self) -> u8 {
        128 + self.0
    }
}

/// The signals that end the suite, each with its number.
struct Signals([(Signal, u8); 3]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self([
            (signal(SignalKind::interrupt())?, 2),
            (signal(SignalKind::terminate())?, 15),
            (signal(SignalKind::hangup())?, 1),
        ]))
    }

    async fn next(&mut self) -> EndedBySignal {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.0;
        EndedBySignal(tokio::select! {
            _ = interrupt.recv() => *a,
            _ = terminate.recv() => *b,
            _ = hangup.recv() => *c,
        })
    }
}

impl Conform {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.list {
            return list();
        }
        let transports = match self.transport {
            None => Transport::ALL.to_vec(),
            Some(TransportChoice::Poll) => vec![Transport::Poll],
            Some(TransportChoice::Stream) => vec![Transport::Stream],
        };
        let (verbose, json) = (self.verbose, self.json);
        let suite = Suite {
            command: self.command,
            transports,
            tls: self.tls,
            scenes: self.scene,
            jobs: self.jobs.into(),
        };
        let mut signals = Signals::listen()?;
        let mut printed = Ok(());
        let played = suite.play(|outcome| {
            let text = if json { as_json(outcome) } else { as_text(outcome, verbose) };
            if printed.is_ok() {
                printed = output::bytes(text.as_bytes());
            }
        });
        let outcomes = tokio::select! {
            played = played => played?,
            // The programs are in process groups of their own, which no terminal ends.
            gone = output::reader_gone() => {
                kill_all();
                return Err(gone.into());
            }
            ended = signals.next() => {
                kill_all();
                return Err(ended.into());
            }
        };
        printed?;
        let rules: BTreeSet<_> = outcomes.iter().filter_map(Outcome::broken_rule).collect();
        let rules: Vec<_> = rules.into_iter().map(|rule| rule.as_str()).collect();
        let broken = outcomes.iter().filter(|outcome| outcome.broken.is_some()).count();
        let played = outcomes.len();
        if json {
            let summary =
                serde_json::json!({ "ok": played - broken, "broken": broken, "broken_rules": rules });
            output::line(summary)?;
        } else {
            output::line(format_args!("{} ok, {broken} broken", played - broken))?;
            if !rules.is_empty() {
                output::line(format_args!("broken rules: {}", rules.join(", ")))?;
            }
        }
        if broken > 0 { Err(RulesBroken { broken, played }.into()) } else { Ok(()) }
    }
}

fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for scene in scenes() {
        let transports: Vec<_> = scene.transports.iter().map(|transport| transport.as_str()).collect();
        let (name, rule, transports) = (scene.name, scene.rule, transports.join(","));
        text.push_str(&format!("{name:<28} {rule:<11} {transports:<12} {}\n", scene.sentence));
    }
    Ok(output::bytes(text.as_bytes())?)
}

fn as_text(outcome: &Outcome, verbose: bool) -> String {
    let Outcome { scene, transport, took, .. } = outcome;
    let word = if outcome.broken.is_some() { "BROKEN" } else { "ok" };
    let mut text = format!("{word:<6} {:<28} {transport:<6} {:>6.1} s\n", scene.name, took.as_secs_f64());
    let mut add = |title: &str, lines: &[String]| {
        for (n, line) in lines.iter().enumerate() {
            let title = if n == 0 { title } else { "" };
            text.push_str(&format!("       {title:<9} {}\n", Escaped::in_one_line(line)));
        }
    };
    if let Some(Broken { expected, came, .. }) = &outcome.broken {
        let rule = outcome.broken_rule().unwrap_or(scene.rule);
        add("rule", &[format!("{rule}: {}", scene.sentence)]);
        add("expected", std::slice::from_ref(expected));
        add("came", std::slice::from_ref(came));
    }
    if outcome.broken.is_some() || verbose {
        add("requests", &outcome.requests);
        add("output", &outcome.output);
        add("stderr", &outcome.complaints);
    }
    text
}

fn as_json(outcome: &Outcome) -> String {
    let broken = outcome.broken.as_ref().map(|broken| {
        serde_json::json!({
            "rule": outcome.broken_rule().map(|rule| rule.as_str()),
            "expected": broken.expected,
            "came": broken.came,
            "requests": outcome.requests,
            "output": outcome.output,
            "stderr": outcome.complaints,
        })
    });
    let line = serde_json::json!({
        "scene": outcome.scene.name,
        "transport": outcome.transport.as_str(),
        "ok": broken.is_none(),
        "seconds": outcome.took.as_secs_f64(),
        "broken": broken,
    });
    format!("{line}\n")
}
