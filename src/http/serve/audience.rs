//! Whom a server is for, and what it serves them.

use axum::Router;

use crate::http::app::App;
#[cfg(feature = "etcd")]
use crate::http::etcd::{self, EtcdFront};
#[cfg(feature = "etcd")]
use crate::http::router::logged;
use crate::http::router::{Routes, router};

/// Whom a server is for.
#[derive(Clone)]
pub(in crate::http) enum Audience {
    /// Clients and operators.
    Everybody,
    /// Clients. Operators have addresses of their own.
    Clients,
    /// Operators. They may read everything that clients read, because the page does, and have connections of their own.
    Operators,
    /// etcd's clients.
    #[cfg(feature = "etcd")]
    Etcd(EtcdFront),
}

impl Audience {
    /// Its routes.
    pub(in crate::http) fn router(&self, app: App) -> Router {
        match self {
            Self::Everybody | Self::Operators => router(app, Routes::All),
            Self::Clients => router(app, Routes::ForClients),
            #[cfg(feature = "etcd")]
            Self::Etcd(front) => logged(etcd::router(front.clone()), app),
        }
    }

    /// Whether it is that of the daemon's main addresses, of which there is one server.
    pub(in crate::http) fn is_main(&self) -> bool {
        matches!(self, Self::Everybody | Self::Clients)
    }

    /// Whether its connections have a reserve.
    pub(in crate::http) fn has_reserve(&self) -> bool {
        matches!(self, Self::Operators)
    }
}
