//! Numbered writes to etcd that do not end until the test does, and the events that they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::etcd::{Etcd, Keys, Op};
use crate::support::{eventually, in_time};

/// What every key of it begins with.
pub const PREFIX: &str = "written/";

/// One change of one key. The programs print one as a line, its fields separated by tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: i64,
    /// `PUT` or `DELETE`.
    pub kind: String,
    pub key: String,
    pub value: String,
    /// The value before, if there was one and it is known.
    pub previous: Option<String>,
}

/// The writer.
pub struct Writer {
    keys: Keys,
    written: Arc<Mutex<Written>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Written {
    events: Vec<Event>,
    state: BTreeMap<String, String>,
}

impl Event {
    /// What a program has printed.
    pub fn of_line(line: &str) -> Event {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[revision, kind, key, value, previous] = fields.as_slice() else { panic!("{line:?}") };
        Event {
            revision: revision.parse().unwrap_or_else(|_| panic!("{line:?}")),
            kind: kind.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            previous: (previous != "-").then(|| previous.to_owned()),
        }
    }

    /// Whether it is the last one.
    pub fn is_the_end(&self) -> bool {
        self.key == format!("{PREFIX}end")
    }
}

impl Writer {
    pub fn start(etcd: &Etcd) -> Writer {
        let (keys, written, stop) = (etcd.keys(), Arc::default(), watch::Sender::new(false));
        let task = tokio::spawn(write(etcd.keys(), Arc::clone(&written), stop.subscribe()));
        Writer { keys, written, stop, task }
    }

    /// Every event so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.written.lock().unwrap().events.clone()
    }

    /// Waits until there are so many events.
    pub async fn has_written(&self, count: usize) {
        let look = || async { (self.written.lock().unwrap().events.len() >= count).then_some(()) };
        eventually("more writes", look).await;
    }

    /// The revision of a write that begins after this call.
    pub async fn next_revision(&self) -> i64 {
        self.has_written(self.events().len() + 2).await;
        self.events().last().unwrap().revision
    }

    /// Ends it with the last write.
    pub async fn end(self) -> Vec<Event> {
        self.stop.send_replace(true);
        in_time("the writer to end", self.task).await.unwrap();
        apply(&self.keys, &self.written, &[(format!("{PREFIX}end"), Some("end".to_owned()))]).await;
        self.written.lock().unwrap().events.clone()
    }
}

/// Puts, deletions, and several of them in one revision.
async fn write(keys: Keys, written: Arc<Mutex<Written>>, mut stop: watch::Receiver<bool>) {
    for number in 0_u32.. {
        let key = |n: u32| format!("{PREFIX}{}", n % 7);
        let put = |n: u32| (key(n), Some(format!("{number}")));
        let changes = match number % 10 {
            4 => vec![put(number), (key(number + 1), None), put(number + 2)],
            9 => vec![(key(number / 10), None)],
            _ => vec![put(number)],
        };
        apply(&keys, &written, &changes).await;
        // Clients and daemons share the machine with this one.
        if tokio::time::timeout(Duration::from_millis(4), stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Writes keys with their values, or without one, in one revision.
async fn apply(keys: &Keys, written: &Mutex<Written>, changes: &[(String, Option<String>)]) {
    let op = |(key, value): &(String, Option<String>)| match value {
        Some(value) => Op::Put(key.clone().into(), value.clone().into()),
        None => Op::Delete(key.clone().into()),
    };
    let revision = keys.txn(&changes.iter().map(op).collect::<Vec<_>>()).await;
    let mut written = written.lock().unwrap();
    for (key, value) in changes {
        let previous = match value {
            Some(value) => written.state.insert(key.clone(), value.clone()),
            None => written.state.remove(key),
        };
        if value.is_none() && previous.is_none() {
            continue;
        }
        let kind = if value.is_some() { "PUT" } else { "DELETE" }.to_owned();
        let value = value.clone().unwrap_or_default();
        written.events.push(Event { revision, kind, key: key.clone(), value, previous });
    }
}
