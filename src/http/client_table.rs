//! The newest clients: which agent is where.
//!
//! A client may name itself with the header `Crumbd-Client`, such as `agent-17/2.4.0`. Clients without a name are one row
//! an address. The table is off unless `--client-table` sets its size, and it is for operators only. It is no session: a
//! row decides nothing, and the rows of clients that have not been heard for the longest time make room.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use crate::http::rep::problem::Problem;
use crate::model::{CollectionName, Cursor};

/// The name that a client gives itself.
pub(in crate::http) const CLIENT: HeaderName = HeaderName::from_static("crumbd-client");

/// The longest name, in bytes.
const MAX_NAME: usize = 128;

/// The name of a client. Clones share it.
pub(in crate::http) type ClientName = Arc<str>;

/// What a client did last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Activity {
    /// It fetched the state.
    Current,
    /// It asked for what comes next.
    Next,
    /// It reads a stream.
    Stream,
}

impl Activity {
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Stream => "stream",
        }
    }
}

/// A client of a collection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::http) struct ClientId {
    pub(in crate::http) name: Option<ClientName>,
    pub(in crate::http) address: Option<IpAddr>,
    /// The collection's name; `None` for the default one.
    pub(in crate::http) collection: Option<CollectionName>,
}

/// The last that was heard of a client.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct LastSeen {
    pub(in crate::http) activity: Activity,
    /// The cursor that it had.
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) at: SystemTime,
}

/// The rows of the clients that were heard last.
pub(in crate::http) struct ClientTable {
    capacity: usize,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    by_client: HashMap<Arc<ClientId>, (u64, LastSeen)>,
    /// The clients in the order in which they were heard.
    by_turn: BTreeMap<u64, Arc<ClientId>>,
    next_turn: u64,
}

impl ClientTable {
    pub(in crate::http) fn new(capacity: usize) -> Self {
        Self { capacity, rows: Mutex::default() }
    }

    /// The largest number of rows.
    pub(in crate::http) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Notes that a client was heard.
    pub(in crate::http) fn note(&self, client: &Arc<ClientId>, activity: Activity, cursor: Cursor) {
        let seen = LastSeen { activity, cursor, at: SystemTime::now() };
        let mut rows = self.rows.lock();
        let turn = rows.next_turn;
        rows.next_turn += 1;
        let client = match rows.by_client.get_mut(client) {
            Some(row) => {
                let before = std::mem::replace(row, (turn, seen)).0;
                rows.by_turn.remove(&before)
            }
            None => None,
        }
        .unwrap_or_else(|| {
            rows.by_client.insert(Arc::clone(client), (turn, seen));
            Arc::clone(client)
        });
        rows.by_turn.insert(turn, client);
        if rows.by_turn.len() > self.capacity
            && let Some((_, oldest)) = rows.by_turn.pop_first()
        {
            rows.by_client.remove(&oldest);
        }
    }

    /// How many rows there are, and the newest ones.
    pub(in crate::http) fn newest(&self, limit: usize) -> (usize, Vec<(Arc<ClientId>, LastSeen)>) {
        let rows = self.rows.lock();
        let newest = rows.by_turn.values().rev().take(limit);
        let row = |client: &Arc<ClientId>| Some((Arc::clone(client), rows.by_client.get(client)?.1));
        (rows.by_turn.len(), newest.filter_map(row).collect())
    }
}

/// A client's row in the table.
pub(in crate::http) struct ClientRow {
    pub(in crate::http) table: Arc<ClientTable>,
    pub(in crate::http) client: Arc<ClientId>,
}

impl ClientRow {
    /// Notes that the client was heard.
    pub(in crate::http) fn note(&self, activity: Activity, cursor: Cursor) {
        self.table.note(&self.client, activity, cursor);
    }
}

/// The name that a client gives itself, if any.
pub(in crate::http) fn client_name(headers: &HeaderMap) -> Result<Option<ClientName>, Problem> {
    let mut all = headers.get_all(CLIENT).into_iter();
    let is_name = |value: &&HeaderValue| {
        (1..=MAX_NAME).contains(&value.len())
            && value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte))
    };
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(name), None) if is_name(&name) => Ok(name.to_str().ok().map(ClientName::from)),
        _ => Err(Problem::bad_request(format!(
            "header {CLIENT}: expected one name of 1 to {MAX_NAME} ASCII characters, such as agent-17/2.4.0"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn the_clients_that_were_heard_last_are_kept() {
        let table = ClientTable::new(3);
        let client =
            |name: &str| Arc::new(ClientId { name: Some(name.into()), address: None, collection: None });
        let cursor: Cursor = "5f0c11d29a3b4e77.1842.s9d03c1f2".parse().unwrap();
        for name in ["a", "b", "a", "c", "d", "a", "d"] {
            table.note(&client(name), Activity::Next, cursor);
        }
        let names = |limit| {
            let (count, rows) = table.newest(limit);
            (
                count,
                rows.iter().map(|(client, _)| client.name.as_deref().unwrap().to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(9), (3, vec!["d".to_owned(), "a".to_owned(), "c".to_owned()]));
        assert_eq!(names(1), (3, vec!["d".to_owned()]));
        assert_eq!(table.rows.lock().by_client.len(), 3);
    }
}
