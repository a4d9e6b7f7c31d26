//! The counters of etcd's clients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The methods that are counted by name. Any other is counted as the empty name.
const METHODS: [&str; 17] = [
    "",
    "KV/Range",
    "KV/Put",
    "KV/DeleteRange",
    "KV/Txn",
    "KV/Compact",
    "Watch/Watch",
    "Lease/LeaseGrant",
    "Lease/LeaseRevoke",
    "Lease/LeaseKeepAlive",
    "Lease/LeaseTimeToLive",
    "Lease/LeaseLeases",
    "Auth/Authenticate",
    "Auth/AuthStatus",
    "Cluster/MemberList",
    "Maintenance/Status",
    "Maintenance/Alarm",
];

/// The counters of calls, streams and watches of etcd's clients.
#[derive(Default)]
pub(in crate::http) struct EtcdMetrics {
    /// Calls by method and by gRPC's code.
    calls: Mutex<BTreeMap<(&'static str, i32), u64>>,
    pub(in crate::http) streams: Gauge,
    pub(in crate::http) watches: Gauge,
}

/// How many there are of something.
#[derive(Default, Clone)]
pub(in crate::http) struct Gauge(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(in crate::http) struct Counted(Gauge);

impl Gauge {
    /// Counts one more.
    pub(in crate::http) fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EtcdMetrics {
    /// Counts a call by its path and its code.
    pub(in crate::http) fn count_call(&self, path: &str, code: i32) {
        let name = path.trim_start_matches('/').trim_start_matches("etcdserverpb.");
        let method = METHODS.iter().copied().find(|method| *method == name).unwrap_or("");
        *self.calls.lock().entry((method, code)).or_default() += 1;
    }

    /// The calls: method, code and number.
    pub(super) fn calls(&self) -> Vec<(&'static str, i32, u64)> {
        self.calls.lock().iter().map(|((method, code), count)| (*method, *code, *count)).collect()
    }
}
