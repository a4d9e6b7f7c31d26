//! The commands, one file each, what they share, and how their figures are shown. The clients are those of
//! [`crumbd_bench::load`].

mod bar;
mod daemon;
mod fanout;
mod ingest;
mod join;
mod limits;
mod mixed;
pub(crate) mod output;
mod report;
mod text;

use clap::{Parser, Subcommand};
use crumbd::cli::Failure;

/// Measure a running daemon: what does it cost to serve so many?
///
/// Drives the daemon at --url with clients of its own and says how fast it was, whether anybody missed
/// anything, and, for a daemon on this machine, what each client cost it in CPU and memory. The clients share the
/// machine's cores with such a daemon, so latencies under full load are an upper bound; CPU and memory are
/// the daemon's own.
///
/// Writes go below the key prefix bench/ and need a daemon with a push: feed: use one of your own for it, as in
/// `crumbd serve --feed push: --listen 127.0.0.1:7822`.
#[derive(Parser)]
#[command(name = "crumbd-bench", version)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ingest(ingest::Ingest),
    Fanout(fanout::Fanout),
    Join(join::Join),
    Mixed(mixed::Mixed),
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Ingest(ingest) => ingest.run().await,
            What::Fanout(fanout) => fanout.run().await,
            What::Join(join) => join.run().await,
            What::Mixed(mixed) => mixed.run().await,
        }
    }
}
