//! Random writes to etcd, a few a second.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PREFIX;
use super::support::etcd::{Keys, Op};
use super::support::workload::{self, Workload};

/// Keys beside those that break careless clients.
const ORDINARY_KEYS: usize = 200;

pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Written>,
}

/// What was written.
#[derive(Default)]
pub struct Written {
    transactions: u64,
    puts: u64,
    deletions: u64,
    ranges: u64,
}

impl Writer {
    /// Fills the store first.
    pub async fn start(keys: Keys, rng: Rng) -> Writer {
        let mut choices = Choices::new(rng);
        for _ in 0..30 {
            keys.txn(&choices.transaction(40)).await;
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(write(keys, choices, stopped));
        Writer { stop, task }
    }

    /// Ends the writing.
    pub async fn stop(self) -> Written {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

async fn write(keys: Keys, mut choices: Choices, mut stopped: watch::Receiver<bool>) -> Written {
    let mut written = Written::default();
    loop {
        // Sometimes several at once, mostly one now and then.
        for _ in 0..[1, 1, 1, 2, 8][choices.rng().usize(..5)] {
            let ops = choices.next();
            // A transaction whose answer is lost may have been done: what counts is what etcd has in the end.
            if keys.try_txn(&ops).await.is_ok() {
                written.add(&ops);
            }
        }
        let pause = Duration::from_millis(choices.rng().u64(50..900));
        if tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return written;
        }
    }
}

struct Choices(Workload);

impl Choices {
    fn new(mut rng: Rng) -> Choices {
        Choices(Workload::new(rng.u64(..), PREFIX, ORDINARY_KEYS))
    }

    fn rng(&mut self) -> &mut Rng {
        self.0.rng()
    }

    fn next(&mut self) -> Vec<Op> {
        match self.rng().u8(..40) {
            0 => {
                let group = ["app/", "db/", "zone/"][self.rng().usize(..3)];
                let ten = self.rng().usize(..ORDINARY_KEYS) / 10;
                let end = |ten: usize| format!("{PREFIX}{group}{ten:03}0").into_bytes();
                vec![Op::DeleteRange(end(ten), end(ten + 1))]
            }
            1..10 => self.transaction(30),
            _ => self.transaction(1),
        }
    }

    /// etcd takes each key once.
    fn transaction(&mut self, most: usize) -> Vec<Op> {
        let mut seen = BTreeSet::new();
        let ops = self.0.batch(most).into_iter().filter(|op| seen.insert(op.key().to_vec()));
        let op = |op: workload::Op| match op {
            workload::Op::Put { key, value, .. } => Op::Put(key, value.bytes().to_vec()),
            workload::Op::Delete { key, .. } => Op::Delete(key),
        };
        ops.map(op).collect()
    }
}

impl Written {
    fn add(&mut self, ops: &[Op]) {
        self.transactions += 1;
        for op in ops {
            match op {
                Op::Put(..) => self.puts += 1,
                Op::Delete(_) => self.deletions += 1,
                Op::DeleteRange(..) => self.ranges += 1,
            }
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { transactions, puts, deletions, ranges } = self;
        write!(
            f,
            "{transactions} transactions, {puts} puts, {deletions} deletions, {ranges} deletions of ranges"
        )
    }
}
