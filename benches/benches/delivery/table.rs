//! What is printed of the fan-out: figures, ratios from the same run, and whether the goals are met.

use super::contestant::{BODY_BYTES, Contestant};
use super::fanout::Found;
use super::median;

/// What one contestant's run comes to; medians.
#[derive(Clone, Copy)]
struct Figures {
    cpu_us: f64,
    memory_kib: f64,
    p99_ms: f64,
}

impl Figures {
    fn of(found: &Found) -> Self {
        let m = |values: &Vec<f64>| median(values.clone());
        Self { cpu_us: m(&found.cpu_us), memory_kib: m(&found.memory_kib), p99_ms: m(&found.p99_ms) }
    }
}

/// What crumbd is to reach: not more than so much, or than so many times what another takes in the same run.
struct Goal {
    who: Contestant,
    what: &'static str,
    of: fn(Figures) -> f64,
    most: f64,
    times: Option<Contestant>,
}

/// With few clients the memory of the server itself is what is measured.
const GOALS_FROM: usize = 1000;

const MEMORY: (&str, fn(Figures) -> f64) = ("KiB a client", |figures| figures.memory_kib);
const CPU: (&str, fn(Figures) -> f64) = ("CPU", |figures| figures.cpu_us);
const P99: (&str, fn(Figures) -> f64) = ("p99", |figures| figures.p99_ms);

const GOALS: [Goal; 6] = [
    goal(Contestant::Crumbd, MEMORY, 2.0, None),
    goal(Contestant::Crumbd, CPU, 1.10, Some(Contestant::Tokio)),
    goal(Contestant::Crumbd, P99, 1.15, Some(Contestant::Tokio)),
    goal(Contestant::CrumbdHttp2, MEMORY, 3.0, None),
    goal(Contestant::CrumbdStream, MEMORY, 2.0, None),
    goal(Contestant::CrumbdStream, CPU, 0.9, Some(Contestant::DurableStreams)),
];

const fn goal(
    who: Contestant,
    (what, of): (&'static str, fn(Figures) -> f64),
    most: f64,
    times: Option<Contestant>,
) -> Goal {
    Goal { who, what, of, most, times }
}

pub fn print(clients: usize, all: &[(Contestant, Found)]) {
    println!("\n{clients} clients, {BODY_BYTES} bytes to each");
    println!(
        "{:<18}{:>14}{:>14}{:>12}{:>12}{:>10}{:>10}{:>10}{:>7}",
        "", "CPU µs/event", "of it user", "KiB/client", "at first", "p50 ms", "p99 ms", "max ms", "lost"
    );
    for (contestant, found) in all {
        if let Some(why) = contestant.missing() {
            println!("{:<18}{why}", contestant.name());
            continue;
        }
        let m = |values: &Vec<f64>| median(values.clone());
        println!(
            "{:<18}{:>14.1}{:>14.1}{:>12.2}{:>12.2}{:>10.1}{:>10.1}{:>10.1}{:>7}",
            contestant.name(),
            m(&found.cpu_us),
            m(&found.cpu_us) * m(&found.user_share),
            m(&found.memory_kib),
            m(&found.parked_kib),
            m(&found.p50_ms),
            m(&found.p99_ms),
            m(&found.max_ms),
            found.lost
        );
    }
    let measured: Vec<(Contestant, Figures)> = all
        .iter()
        .filter(|(contestant, _)| contestant.missing().is_none())
        .map(|(contestant, found)| (*contestant, Figures::of(found)))
        .collect();
    for ours in [Contestant::Crumbd, Contestant::CrumbdHttp2, Contestant::CrumbdStream] {
        ratios(ours, &measured);
    }
    if clients >= GOALS_FROM {
        goals(&measured);
    }
}

/// A stream is measured beside the long polls too: they are another way to hear the same.
fn ratios(ours: Contestant, measured: &[(Contestant, Figures)]) {
    let Some(own) = figures(measured, ours) else { return };
    println!("{:<40}{:>10}{:>10}{:>10}", "ratios", "CPU", "memory", "p99");
    for (contestant, other) in measured {
        let is_beside = *contestant != ours && (ours.streams() || !contestant.streams());
        if is_beside {
            println!(
                "{:<40}{:>10.2}{:>10.2}{:>10.2}",
                format!("{} ÷ {}", ours.name(), contestant.name()),
                own.cpu_us / other.cpu_us,
                own.memory_kib / other.memory_kib,
                own.p99_ms / other.p99_ms
            );
        }
    }
}

fn goals(measured: &[(Contestant, Figures)]) {
    println!("{:<40}{:>10}{:>10}", "goals", "found", "at most");
    for Goal { who, what, of, most, times } in &GOALS {
        let beside = times.map_or(String::new(), |other| format!(" ÷ {}", other.name()));
        let name = format!("{}, {what}{beside}", who.name());
        let floor = match times {
            None => Some(1.0),
            Some(other) => figures(measured, *other).map(of),
        };
        match figures(measured, *who).map(of).zip(floor) {
            None => println!("{name:<40}{:>10}{most:>10.2}  not measured", "–"),
            Some((own, floor)) => {
                let found = own / floor;
                let verdict = if found <= *most { "met" } else { "MISSED" };
                println!("{name:<40}{found:>10.2}{most:>10.2}  {verdict}");
            }
        }
    }
}

fn figures(measured: &[(Contestant, Figures)], wanted: Contestant) -> Option<Figures> {
    measured.iter().find(|(contestant, _)| *contestant == wanted).map(|(_, figures)| *figures)
}
