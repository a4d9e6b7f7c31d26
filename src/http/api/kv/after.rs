//! `GET /v1/kv/{key}?after=`: waits until a key has changed.

use tokio::time::Instant;

use crate::http::api::kv::keys_after::KeysAfter;
use crate::http::collection::Context;
use crate::model::{Cursor, Key, KeySelector, Sequence};
use crate::value::Watcher;
use crate::view::{KeyRead, Reason, ViewError};

/// A key did not change; the cursor may have moved on all the same.
pub(in crate::http) struct Unchanged {
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) sequence: Sequence,
    pub(in crate::http) reason: Reason,
}

/// The key as it is as soon as it was changed after the cursor.
pub(in crate::http) async fn changed(
    cx: &Context,
    key: &Key,
    after: Cursor,
    deadline: Instant,
) -> Result<Result<KeyRead, Unchanged>, ViewError> {
    let mut over = std::pin::pin!(async {
        tokio::select! {
            biased;
            () = cx.app.my_turn() => Reason::ShuttingDown,
            () = tokio::time::sleep_until(deadline) => Reason::Timeout,
        }
    });
    let mut key = tokio::select! {
        biased;
        key = KeysAfter::new(&cx.collection.view, KeySelector::key(key.clone()), after) => key?,
        reason = &mut over => {
            cx.collection.view.not_ahead_of_upstream(after).await?;
            let sequence = cx.collection.view.newest()?.sequence();
            return Ok(Err(Unchanged { cursor: after, sequence, reason }));
        }
    };
    let change = tokio::select! {
        biased;
        change = key.get() => Ok(change),
        reason = &mut over => Err(reason),
    };
    // In the client's own history, should ours be a cousin of it.
    let (cursor, sequence) = (Cursor { history: after.history, ..key.cursor() }, key.sequence());
    let reason = match change {
        Ok(Ok(change)) => return Ok(Ok(KeyRead { entry: change.value, cursor, sequence })),
        Ok(Err(_)) => match key.why_closed() {
            ViewError::Stopped => Reason::ShuttingDown,
            error => return Err(error),
        },
        Err(reason) => reason,
    };
    Ok(Err(Unchanged { cursor, sequence, reason }))
}
