//! What a follower waits for.

use futures_util::future::select_all;

use super::Reason;
use super::interest::Registration;
use super::upstream::UpstreamWatch;
use crate::cache::{Breadcrumb, PastAwaited};
use crate::model::Cursor;

/// What a follower waits for. It keeps no breadcrumb but the newest.
pub(super) enum Waiting<'a> {
    /// Any breadcrumb.
    ForNews(Breadcrumb),
    /// One that changes something under a prefix.
    ForPrefix(Registration),
    /// One that changes something under one of several.
    ForPrefixes(Vec<Registration>),
    /// This daemon, which is behind the client.
    ToCatchUp(Breadcrumb, &'a mut UpstreamWatch),
    /// What happened before the newest breadcrumb.
    ForThePast(Breadcrumb, Box<PastAwaited>),
    /// There is no need to wait.
    ForNothing(Woken),
}

/// Why a wait ended.
#[derive(Clone, Copy)]
pub(super) enum Woken {
    /// There may be news.
    Look,
    /// There is news, and nothing for this client before this cursor.
    Untouched(Cursor),
    /// There will be none.
    Over(Reason),
}

impl Waiting<'_> {
    /// Resolves when the wait is over. Cancel-safe.
    pub(super) async fn woken(&mut self) -> Woken {
        match self {
            Self::ForNews(newest) => followed(newest).await,
            Self::ForPrefix(registration) => match registration.touched().await {
                Some(before) => Woken::Untouched(before),
                None => Woken::Over(Reason::ShuttingDown),
            },
            Self::ForPrefixes(all) => {
                let touched = all.iter().map(|registration| Box::pin(registration.touched()));
                let (first, ..) = Box::pin(select_all(touched)).await;
                // Others may have been touched before the one that was noticed first.
                let before = all.iter().filter_map(Registration::before).min_by_key(|cursor| cursor.revision);
                match first.and(before) {
                    Some(before) => Woken::Untouched(before),
                    None => Woken::Over(Reason::ShuttingDown),
                }
            }
            // Boxed, so that the rare waits do not make the usual ones larger.
            Self::ToCatchUp(newest, upstream) => Box::pin(either(newest, upstream.seen())).await,
            Self::ForThePast(newest, past) => Box::pin(either(newest, past.told())).await,
            Self::ForNothing(woken) => *woken,
        }
    }

    /// Up to where nothing has happened that concerns the follower, where that is known.
    pub(super) fn untouched_until(&self) -> Option<Cursor> {
        match self {
            Self::ForPrefix(registration) => registration.untouched_until(),
            Self::ForPrefixes(all) => {
                let known: Option<Vec<Cursor>> = all.iter().map(Registration::untouched_until).collect();
                known?.into_iter().min_by_key(|cursor| cursor.revision)
            }
            _ => None,
        }
    }
}

async fn followed(newest: &Breadcrumb) -> Woken {
    match newest.followed().await {
        Ok(()) => Woken::Look,
        Err(_) => Woken::Over(Reason::ShuttingDown),
    }
}

async fn either(newest: &Breadcrumb, known: impl Future<Output = ()>) -> Woken {
    tokio::select! {
        biased;
        woken = followed(newest) => woken,
        () = known => Woken::Look,
    }
}
