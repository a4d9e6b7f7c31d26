//! `crumbd-bench mixed`.

mod clients;
mod figures;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crumbd::cli::Failure;
use crumbd::cli::units::{Bytes, Span, parse_wait};
use crumbd::model::Revision;
use crumbd_bench::load::{Board, Clock, Crowd, CrumbdPoll, Joiner, LoadError, Mirrors, Publisher, Writer};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bar::Bar;
use super::daemon::{Measured, Options};
use super::fanout::Accept;
use super::limits;
use super::report::{self, Server};
use super::text::Text;
use clients::{Pace, join_again_and_again, publish, write};
use figures::{Figures, Tally};

/// How long the waiters may take to connect, and the mirrors to read the state.
const CONNECTING: Duration = Duration::from_secs(120);

/// Every so many updates deletes its key.
const DELETES: u64 = 16;

/// Everything at once: is anybody told something wrong?
///
/// Waiters follow, joiners fetch the state again and again, slow readers take it a few bytes at a time, and
/// writers write, with deletions among it. Mirrors hold copies of the state and compare count and digest at
/// every cursor. At the end all writing stops, and everybody must arrive at the same state.
#[derive(Args)]
pub(super) struct Mixed {
    #[command(flatten)]
    options: Options,
    /// How many follow every change.
    #[arg(long, default_value_t = 500, value_parser = limits::clients_if_any::<usize>(), allow_hyphen_values = true)]
    waiters: usize,
    /// How many fetch the whole state, again and again.
    #[arg(long, default_value_t = 8, value_parser = limits::clients_if_any::<usize>(), allow_hyphen_values = true)]
    joiners: usize,
    /// How many fetch it slowly.
    #[arg(long, default_value_t = 2, value_parser = limits::clients_if_any::<usize>(), allow_hyphen_values = true)]
    slow_readers: usize,
    /// How much a slow reader takes in a second.
    #[arg(long, default_value = "256KiB", value_name = "BYTES", value_parser = limits::slow_rate, allow_hyphen_values = true)]
    slow_rate: Bytes,
    /// How many check every answer.
    #[arg(long, default_value_t = 4, value_parser = limits::clients_if_any::<usize>(), allow_hyphen_values = true)]
    mirrors: usize,
    /// How many write.
    #[arg(long, default_value_t = 2, value_parser = limits::clients_if_any::<u32>(), allow_hyphen_values = true)]
    writers: u32,
    /// Updates a second of all writers together.
    #[arg(long, default_value_t = 1000, value_parser = limits::rate(), allow_hyphen_values = true)]
    rate: u32,
    /// Numbered publications a second beside them, by which a waiter that missed something is known.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000), allow_hyphen_values = true)]
    publications: u32,
    /// Different keys that are written.
    #[arg(long, default_value_t = 10_000, value_parser = limits::many(), allow_hyphen_values = true)]
    keys: u64,
    /// Size of a value.
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = limits::value_bytes(), allow_hyphen_values = true)]
    value_bytes: usize,
    /// What waiters and joiners ask for. Mirrors speak the binary form.
    #[arg(long, value_enum, default_value_t)]
    accept: Accept,
    /// How long.
    #[arg(long, default_value = "15s", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    duration: Span,
    /// How long it may take, after the last write, until everybody has arrived.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    deadline: Span,
}

impl Mixed {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let clients =
            self.waiters + self.joiners + self.slow_readers + 2 * self.mirrors + self.writers as usize;
        let mut daemon = self.options.find(clients).await?;
        daemon.must_be_writable("")?;
        let board = Arc::new(Board::new(self.waiters, Clock::Publisher, 1, |_| 0));
        let tally = Arc::new(Tally::default());
        let clients = (0..self.mirrors).map(|_| self.options.daemon.client());
        let mirrors = Mirrors::start(clients.collect::<Result<_, _>>()?);
        let mut figures = Figures {
            url: daemon.url.clone(),
            waiters: self.waiters,
            slow_readers: self.slow_readers,
            server: Server::new(daemon.process.take()),
            ..Figures::default()
        };
        let work =
            async |figures: &mut Figures| self.drive(&mut daemon, &board, &tally, &mirrors, figures).await;
        let finish = |figures: &mut Figures| figures.complete(&board, &tally, &mirrors);
        report::shown(self.options.json, work, finish, &mut figures).await
    }

    async fn drive(
        &self,
        daemon: &mut Measured,
        board: &Arc<Board>,
        tally: &Arc<Tally>,
        mirrors: &Mirrors,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let poll = CrumbdPoll::new(&daemon.target, &daemon.cursor()?, self.accept.media());
        let crowd = Crowd::start(&daemon.target, poll, self.waiters, board.clone());
        let bar = Bar::new("connecting", self.waiters as u64);
        board.all_asked(CONNECTING, |asked| bar.at(asked)).await?;
        // A mirror tries for ever; a waiter soon knows that the daemon is gone.
        tokio::select! {
            followed = mirrors.all_follow(CONNECTING) => followed?,
            disturbed = board.undisturbed(CONNECTING) => disturbed?,
        }
        drop(bar);

        figures.server.begin();
        let loaded = self.load(daemon, board, tally).await;
        figures.server.end();
        loaded?;

        // Nobody writes any more: all must arrive at the state of now.
        board.delivered(board.last_published() * self.waiters as u64, self.deadline.0).await?;
        let last = daemon.ask().await?;
        figures.keys = last.count;
        mirrors.arrive(Revision(last.revision), &last.digest, self.deadline.0).await;
        crowd.end().await;
        Ok(())
    }

    /// Everything at once, for the given time. Ends early when a writer or a waiter fails.
    async fn load(&self, daemon: &Measured, board: &Arc<Board>, tally: &Arc<Tally>) -> Result<(), Failure> {
        let target = &daemon.target;
        let end = Instant::now() + self.duration.0;
        let mut writing: JoinSet<Result<(), LoadError>> = JoinSet::new();
        let each = (self.rate / self.writers.max(1)).max(1);
        let period = Duration::from_secs(clients::BATCH) / each;
        for writer in 0..u64::from(self.writers.min(self.rate)) {
            let text = Text::new("mixed", self.keys, self.value_bytes).with_deletes(DELETES);
            let (target, tally, first) = (target.clone(), tally.clone(), writer << 32);
            writing.spawn(async move {
                write(Writer::of_updates(&target).await?, text, first, Pace::new(period, end), &tally).await
            });
        }
        let publisher = Publisher::connect(target, self.value_bytes, None).await?;
        let period = Duration::from_secs(1) / self.publications;
        let (publishing, on) = (board.clone(), tally.clone());
        writing.spawn(async move { publish(publisher, &publishing, Pace::new(period, end), &on).await });

        let mut reading = JoinSet::new();
        let joiner = Joiner::new(target, self.accept.media(), "identity");
        for reader in 0..self.joiners + self.slow_readers {
            let slow = reader >= self.joiners;
            let rate = self.slow_rate.0 as u64;
            let joiner = if slow { joiner.clone().reading_slowly(rate) } else { joiner.clone() };
            let tally = tally.clone();
            reading.spawn(join_again_and_again(joiner, reader, slow, end, tally));
        }

        let all = async {
            while let Some(ended) = writing.join_next().await {
                ended??;
                if let Some(failure) = board.failure() {
                    return Err(failure.into());
                }
            }
            Ok(())
        };
        let ended = Bar::during("seconds", self.duration.0, all).await;
        // Whoever is in the middle of a snapshot may leave.
        reading.shutdown().await;
        ended
    }
}
