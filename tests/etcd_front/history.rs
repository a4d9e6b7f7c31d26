//! Random histories: puts, deletions, transactions and leases, with a seed.

use bytes::Bytes;

use crate::client::Client;
use crate::etcd::kv::{DeleteRangeRequest, PutRequest, RequestOp, RequestOpUnion, TxnRequest};
use crate::etcd::lease::{LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse};

/// Random choices.
pub struct Random(fastrand::Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of few keys: short ones, paths, bytes that are no text, one with a zero byte.
    pub fn key(&mut self) -> Bytes {
        let n = self.below(40);
        let key = match n {
            0 => b"a".to_vec(),
            1 => b"a\0".to_vec(),
            2 => vec![0xff],
            3 => vec![0xff, 0xff],
            4 => vec![0x80, n as u8],
            5..20 => format!("a/{n}").into_bytes(),
            20..30 => format!("a/{}/x", n % 7).into_bytes(),
            _ => format!("b/{n:03}").into_bytes(),
        };
        key.into()
    }

    pub fn value(&mut self) -> Bytes {
        let value = match self.below(5) {
            0 => Vec::new(),
            1 => vec![0, 159, 146],
            2 => b"x".repeat(self.below(300)),
            _ => format!("v{}", self.below(4)).into_bytes(),
        };
        value.into()
    }

    /// A key and the end of a range: one key, a prefix, everything from a key on, everything, or any two keys.
    pub fn range(&mut self) -> (Bytes, Bytes) {
        match self.below(8) {
            0 | 1 => (self.key(), Bytes::new()),
            2 => (Bytes::from_static(b"a/"), Bytes::from_static(b"a0")),
            3 => (Bytes::from_static(b"b/"), Bytes::from_static(b"b0")),
            4 => (self.key(), Bytes::from_static(&[0])),
            5 => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
            _ => (self.key(), self.key()),
        }
    }
}

/// Makes this many writes.
pub async fn write(client: &Client, random: &mut Random, writes: usize) {
    let mut lease = 0;
    for _ in 0..writes {
        match random.below(20) {
            0 if lease != 0 && random.one_in(2) => {
                // All of its keys in one revision.
                let revoke = LeaseRevokeRequest { id: std::mem::take(&mut lease) };
                let _: LeaseRevokeResponse =
                    client.call("/etcdserverpb.Lease/LeaseRevoke", revoke).await.unwrap();
            }
            0 => {
                let grant = LeaseGrantRequest { ttl: 3600, ..LeaseGrantRequest::default() };
                let granted: LeaseGrantResponse =
                    client.call("/etcdserverpb.Lease/LeaseGrant", grant).await.unwrap();
                lease = granted.id;
            }
            1..4 => {
                let delete = DeleteRangeRequest { key: random.key(), ..DeleteRangeRequest::default() };
                client.delete_range(delete).await.unwrap();
            }
            4 => {
                let (key, range_end) = random.range();
                // All of it at once would leave nothing to compare.
                let is_small = range_end.is_empty() || random.one_in(4);
                let range_end = if is_small { range_end } else { Bytes::new() };
                let delete = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
                client.delete_range(delete).await.unwrap();
            }
            5..9 => transaction(client, random).await,
            9 if random.one_in(3) => put_and_delete(client, random).await,
            _ => {
                let lease = if random.one_in(4) { lease } else { 0 };
                let put =
                    PutRequest { key: random.key(), value: random.value(), lease, ..PutRequest::default() };
                client.put(put).await.unwrap();
            }
        }
    }
}

/// One revision that puts a key and deletes it, or the other way round. etcd takes that only with a range without an end.
async fn put_and_delete(client: &Client, random: &mut Random) {
    let key = Bytes::from_static(&[0xff, 0xff, 0xff]);
    let put = PutRequest { key: key.clone(), value: random.value(), ..PutRequest::default() };
    let delete = DeleteRangeRequest { key, range_end: Bytes::from_static(&[0]), prev_kv: false };
    let mut both = [RequestOpUnion::Put(put), RequestOpUnion::DeleteRange(delete)];
    if random.one_in(2) {
        both.reverse();
    }
    let success = both.map(|request| RequestOp { request: Some(request) }).into();
    client.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
}

/// Several keys in one revision, each once: etcd takes no key twice.
async fn transaction(client: &Client, random: &mut Random) {
    let mut keys: Vec<Bytes> = (0..1 + random.below(6)).map(|_| random.key()).collect();
    let mut seen = std::collections::HashSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    let operation = |key: Bytes| {
        let request = match random.one_in(3) {
            true => RequestOpUnion::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
            false => RequestOpUnion::Put(PutRequest { key, value: random.value(), ..PutRequest::default() }),
        };
        RequestOp { request: Some(request) }
    };
    let success = keys.into_iter().map(operation).collect();
    client.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
}
