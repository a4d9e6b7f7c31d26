//! What the calls of etcd's clients share: the collection, who asks, and the header of every answer.

use std::sync::Arc;

use axum::http::HeaderMap;
use tonic::Status;
use xxhash_rust::xxh3::xxh3_64;

use super::status;
use crate::feed::{EtcdCalls, Writer};
use crate::http::app::App;
use crate::http::auth::access::{Access, bearer_token};
use crate::http::auth::{Hosts, Revocation};
use crate::http::budget::HeadBytes;
use crate::http::client::{Client, Peer, WaiterGuard};
use crate::http::collection::Collection;
use crate::model::{History, KeySelector, Revision};
use crate::view::View;
use crate::view::etcd::{KeyRange, Room};
use crate::wire::etcd::ResponseHeader;

/// How etcd's clients are served.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The name of the collection; `None` for the default one.
    pub collection: Option<String>,
    /// Whether every read is answered from memory, as if it were serializable.
    pub serializable: bool,
    /// The name of this daemon among its replicas, of which its member id is made.
    pub member: String,
    /// The names under which the port answers requests that are no gRPC.
    pub hosts: Hosts,
    /// The URLs at which clients find this daemon, for those that ask for the members of the cluster.
    pub client_urls: Vec<String>,
}

/// The front of a collection for etcd's clients. Clones share it.
#[derive(Clone)]
pub struct EtcdFront(Arc<Shared>);

struct Shared {
    app: App,
    collection: Arc<Collection>,
    config: EtcdConfig,
}

/// A call: who asks, and what it may see.
pub(super) struct Call {
    pub(super) front: EtcdFront,
    pub(super) peer: Peer,
    pub(super) access: Access,
    /// How many bytes there are in memory for each byte of an answer while it is made.
    pub(super) copies: u64,
}

impl EtcdFront {
    /// The front of one of the app's collections; `None` if there is no such collection.
    pub fn new(app: App, config: EtcdConfig) -> Option<Self> {
        let collection = Arc::clone(app.collections.find(config.collection.as_deref())?);
        Some(Self(Arc::new(Shared { app, collection, config })))
    }

    pub(super) fn app(&self) -> &App {
        &self.0.app
    }

    pub(super) fn view(&self) -> &View {
        &self.0.collection.view
    }

    /// The write side of the feed, if it takes writes.
    pub(super) fn writer(&self) -> Option<&dyn Writer> {
        self.0.collection.writer.as_deref()
    }

    /// The keys that the feed follows.
    pub(super) fn followed(&self) -> &KeySelector {
        self.0.collection.upstream.followed()
    }

    /// The upstream etcd, if writes are passed on to it.
    pub(super) fn upstream(&self) -> Option<&dyn EtcdCalls> {
        self.writer()?.etcd()
    }

    /// Whether the writes are done in this daemon's own store.
    pub(super) fn has_own_store(&self) -> bool {
        // It is not polled, so nothing is done.
        self.writer().is_some_and(|writer| writer.transact(Box::new(|_| Vec::new())).is_some())
    }

    /// The URLs at which clients find this member.
    pub(super) fn client_urls(&self) -> &[String] {
        &self.0.config.client_urls
    }

    /// The header of an answer that is as new as the newest state.
    pub(super) fn newest_header(&self) -> ResponseHeader {
        self.header(self.view().complete_to())
    }

    /// The names under which the port answers.
    pub(super) fn hosts(&self) -> &Hosts {
        &self.0.config.hosts
    }

    /// Whether every read is answered from memory.
    pub(super) fn is_serializable(&self) -> bool {
        self.0.config.serializable
    }

    /// The id of the cluster: replicas of one store have the same.
    fn cluster_id(history: History) -> u64 {
        xxh3_64(history.to_string().as_bytes())
    }

    /// The id of this member: replicas have different ones.
    fn member_id(&self, history: History) -> u64 {
        xxh3_64(format!("{history} {}", self.0.config.member).as_bytes())
    }

    /// The header of an answer that is as new as this revision.
    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        let history = self.view().cache().current_breadcrumb().kvs().history();
        ResponseHeader {
            cluster_id: Self::cluster_id(history),
            member_id: self.member_id(history),
            revision: number(revision),
            // This daemon holds no elections.
            raft_term: 1,
        }
    }

    /// The name of the token in these headers.
    pub(super) fn token_name(&self, headers: &HeaderMap) -> Option<String> {
        self.app().admit(token(headers)).ok()?.token_name()
    }

    /// Counts a request of this client, whose rate may be limited.
    pub(super) fn count_request(&self, client: &Client) -> Result<(), Status> {
        self.app().budgets.request(client).map_err(|problem| status::of_problem(&problem))
    }

    /// Admits a call, and counts it.
    pub(super) fn admit(&self, peer: Peer, headers: &HeaderMap) -> Result<Call, Status> {
        let token = token(headers);
        let refused = |reason, name: Option<String>| {
            let address = peer.address().map(|address| address.ip());
            self.app().metrics.refusals.log(reason, name.as_deref(), address);
        };
        if token.is_none() && self.app().is_guarded() {
            self.count_request(peer.client())?;
            refused("token-missing", None);
            return Err(status::no_user());
        }
        let Ok(admission) = self.app().admit(token) else {
            self.count_request(peer.client())?;
            refused("token-unknown", None);
            return Err(status::invalid_token());
        };
        self.count_request(self.app().client(admission.grant(), &peer))?;
        let access = admission.access_to(&self.0.collection).map_err(|problem| {
            refused("not-permitted", admission.token_name());
            status::of_problem(&problem)
        })?;
        Ok(Call { front: self.clone(), peer, access, copies: 1 })
    }
}

impl Call {
    pub(super) fn app(&self) -> &App {
        self.front.app()
    }

    pub(super) fn view(&self) -> &View {
        self.front.view()
    }

    /// The client of the call in the budgets.
    pub(super) fn client(&self) -> &Arc<Client> {
        self.app().client(self.access.grant(), &self.peer)
    }

    /// A place among the waiters, for a stream.
    pub(super) fn place(&self) -> Result<WaiterGuard<Arc<Client>>, Status> {
        let (budgets, client) = (&self.app().budgets, self.client());
        let place = budgets.stream(Arc::clone(client), &KeySelector::ALL, HeadBytes::default());
        place.map_err(|full| {
            // etcd's clients try what is unavailable again at once.
            let of_streams = full.is_of_streams();
            let status = status::of_problem(&budgets.no_place(full, client));
            match of_streams {
                true => Status::resource_exhausted(status.message()),
                false => status,
            }
        })
    }

    /// Resolves when the rights have changed, with the status that ends a stream then.
    pub(super) async fn revoked(&self) -> Status {
        let Some(grant) = self.access.grant() else { return std::future::pending().await };
        match grant.revoked().await {
            Revocation::Removed => status::invalid_token(),
            Revocation::Changed => status::permission_denied(),
        }
    }

    /// Room for its answer.
    pub(super) fn room(&self) -> Room {
        Room::new(self.client().account(), self.copies)
    }

    /// Refuses a read of keys that the client may not read, or that the feed does not follow: to say that they are absent might be
    /// wrong.
    pub(super) fn require_readable(&self, range: &KeyRange) -> Result<(), Status> {
        let is_known = range.is_within(self.front.followed()) && range.is_within(&self.readable()?);
        if is_known { Ok(()) } else { Err(status::permission_denied()) }
    }

    /// The refusal of a call that changes something, where there is no etcd to pass it on to.
    pub(super) fn takes_no_writes(&self, what: &str) -> Status {
        let why = match self.front.writer() {
            None => {
                "this daemon only reads its datastore. Writes are passed on to etcd where the feed is etcd:// and ends in \
                 ?write=true"
            }
            Some(_) if self.front.has_own_store() => {
                "this daemon keeps its keys in a store of its own (push:), which has no leases"
            }
            Some(_) => {
                "this daemon is a relay, which passes on no writes of etcd's clients. Send them to the daemon that follows \
                 etcd"
            }
        };
        status::impossible(what, why)
    }

    /// The keys that it may read.
    pub(super) fn readable(&self) -> Result<KeySelector, Status> {
        let scope = self.access.scope(KeySelector::ALL).map_err(|_| status::permission_denied())?;
        Ok(scope.keys().clone())
    }
}

/// The token of a call: as etcd's clients send what Authenticate gave them, or as HTTP does.
fn token(headers: &HeaderMap) -> Option<&str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = header("authorization").map(|value| bearer_token(value).unwrap_or(value));
    header("token").or(authorization).filter(|token| !token.is_empty())
}

/// A revision as etcd writes it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// One of etcd's revisions; `None` for 0 and below, which mean that none is given.
pub(super) fn revision(number: i64) -> Option<Revision> {
    u64::try_from(number).ok().filter(|number| *number > 0).map(Revision)
}
