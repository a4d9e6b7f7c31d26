//! What a publication costs that concerns one of many waiters, each of its own prefix.
//!
//! ```text
//! cargo bench --bench waiters              # about half a minute
//! ```
//!
//! A view in this process has 100 waiters, another one 10,000, each waiter for a prefix of its own that nobody else
//! waits for. Turn by turn one key is set under the prefix of one waiter, and the time is taken until
//! that waiter has its answer. Both views take their turns in the same run, so the ratio says what 9,900 more waiters
//! cost: nearly nothing, because a breadcrumb looks up the prefixes of its keys, not its waiters.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crumbd::cache::{Cache, CacheConfig};
use crumbd::feed::Upstream;
use crumbd::ingest::IngestBuffer;
use crumbd::model::{History, Key, KeySelector, SyncStatus, Update};
use crumbd::view::{Account, Format, Next, Reason, View, ViewConfig};
use crumbd::wire::{Coding, MediaType};
use tokio::sync::mpsc;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEW: usize = 100;
const MANY: usize = 10_000;
/// Publications in one turn of one view.
const A_TURN: usize = 200;

/// A cache, and waiters that say when they were answered.
struct World {
    cache: Cache,
    waiters: usize,
    answered: mpsc::UnboundedReceiver<usize>,
    published: usize,
}

fn prefix(number: usize) -> String {
    format!("service/{number:05}/")
}

impl World {
    async fn new(waiters: usize) -> Self {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        tokio::spawn(ingest.run());
        let upstream = Arc::new(Upstream::local());
        let (view, fanout) = View::new(cache.reader(), upstream, &ViewConfig::default());
        tokio::spawn(fanout.run());
        cache.on_status_updated(SyncStatus::InSync).await.unwrap();
        let begun = view.newest().unwrap().next().await.unwrap().cursor();
        let (answers, answered) = mpsc::unbounded_channel();
        for number in 0..waiters {
            let (view, answers) = (view.clone(), answers.clone());
            tokio::spawn(async move {
                let keys = KeySelector::prefix(Key::from(&*prefix(number)));
                let format = Format { media: MediaType::Json, coding: Coding::Identity };
                let mut cursor = begun;
                loop {
                    let never = std::future::pending::<Reason>();
                    let Ok(Next::Answer(answer)) =
                        view.next(cursor, &keys, format, &Account::unlimited(), never).await
                    else {
                        return;
                    };
                    cursor = answer.cursor;
                    answers.send(number).unwrap();
                }
            });
        }
        let mut world = Self { cache, waiters, answered, published: 0 };
        // Every waiter once, so that all of them are there and wait.
        for number in 0..waiters {
            world.publish(number).await;
        }
        world
    }

    /// The time from a write until its one waiter has its answer.
    async fn publish(&mut self, number: usize) -> Duration {
        self.published += 1;
        let update = Update::put(format!("{}endpoint", prefix(number)), self.published.to_string());
        let begun = Instant::now();
        self.cache.on_updates(vec![update]).await.unwrap();
        assert_eq!(self.answered.recv().await, Some(number), "nobody else is woken");
        begun.elapsed()
    }

    async fn turn(&mut self, into: &mut Vec<Duration>) {
        for _ in 0..A_TURN {
            let number = fastrand::usize(..self.waiters);
            into.push(self.publish(number).await);
        }
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    // `cargo test --benches` runs this file too; it then only shows that it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (many, turns) = if is_bench { (MANY, 40) } else { (200, 1) };
    let (mut few_world, mut many_world) = (World::new(FEW).await, World::new(many).await);
    let (mut few_times, mut many_times) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        few_world.turn(&mut few_times).await;
        many_world.turn(&mut many_times).await;
    }
    let (few, with_many) = (median(few_times), median(many_times));
    println!(
        "a publication for one of {FEW} waiters: {few:.1} µs; of {many}: {with_many:.1} µs; ratio {:.2}",
        with_many / few
    );
}
