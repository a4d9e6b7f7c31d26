//! 10,000 watches of 10,000 keys beside 100 of 100.

use crumbd_bench::load::Process;

use crate::contestant::{daemon, watch_key};
use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::watches::Watches;
use crate::writer::Writer;
use crate::{Effort, median, micros};

const PREFIX: &str = "keys/";
/// So many watches have a daemon's clients for each of the other's.
const TIMES: usize = 100;
/// Watches of a stream of the daemon with many.
const A_STREAM: usize = 100;

struct Watched {
    process: Process,
    watches: Watches,
    cpu: Vec<f64>,
    _daemon: Daemon,
}

impl Watched {
    /// A daemon, with a watch of each of these keys.
    async fn start(etcd: &Etcd, keys: impl Iterator<Item = usize>, a_stream: usize) -> Watched {
        let (daemon, address) = daemon(etcd, PREFIX).await;
        let creates: Vec<_> = keys.map(|key| watch_key(&key_of(key))).collect();
        let streams = creates.chunks(a_stream).map(<[_]>::to_vec).collect();
        let watches = Watches::open(&address, streams).await;
        Watched {
            process: Process::with_pid(daemon.pid()).unwrap(),
            watches,
            cpu: Vec::new(),
            _daemon: daemon,
        }
    }
}

fn key_of(number: usize) -> String {
    format!("{PREFIX}{number:05}")
}

pub async fn measure(effort: &Effort) {
    let etcd = Etcd::start().await;
    let writer = Writer::connect(&etcd.endpoint()).await;
    for key in 0..effort.keys {
        writer.put(&key_of(key)).await;
    }
    // The few watches are one to a stream: as many streams, as many connections that may be the one to wake.
    let few = Watched::start(&etcd, (0..effort.keys).step_by(TIMES), 1).await;
    let many = Watched::start(&etcd, 0..effort.keys, A_STREAM).await;
    let mut both = [few, many];
    for turn in 0..=effort.turns {
        let before = both.each_mut().map(|one| one.process.cpu().total);
        for _ in 0..effort.key_rounds {
            let revision = writer.put(&key_of(fastrand::usize(..effort.keys / TIMES) * TIMES)).await;
            for one in &mut both {
                one.watches.hear(1, revision).await;
            }
        }
        for (one, before) in both.iter_mut().zip(before) {
            let spent = micros(one.process.cpu().total - before) / effort.key_rounds as f64;
            // The first turn warms up.
            if turn > 0 {
                one.cpu.push(spent);
            }
        }
    }
    println!("\n| watches, each of a key of its own | CPU an event | beside the fewest |");
    println!("|---|---|---|");
    let [few, many] = both.map(|one| (one.watches.count(), median(one.cpu)));
    for (watches, cpu) in [few, many] {
        println!("| {watches} | {cpu:.0} µs | {:.2} |", cpu / few.1);
    }
}
