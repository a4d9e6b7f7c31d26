//! `GET /v1/kv/{key}?after=`: the wait for a change of a key.

use tokio::time::Instant;

use crate::http::api::kv::keys_after::KeysAfter;
use crate::http::collection::Context;
use crate::model::{Cursor, Key, KeySelector, Sequence};
use crate::value::Watcher;
use crate::view::{KeyRead, Reason, ViewError};

/// The key did not change. The cursor may have advanced all the same.
pub(in crate::http) struct Unchanged {
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) sequence: Sequence,
    pub(in crate::http) reason: Reason,
}

/// The key as soon as it has changed after the cursor.
pub(in crate::http) async fn wait_for_change(
    cx: &Context,
    key: &Key,
    after: Cursor,
    deadline: Instant,
) -> Result<Result<KeyRead, Unchanged>, ViewError> {
    let mut wait_end = std::pin::pin!(cx.app.wait_ends(deadline));
    let mut key = tokio::select! {
        biased;
        key = KeysAfter::new(&cx.collection.view, KeySelector::key(key.clone()), after) => key?,
        reason = &mut wait_end => {
            cx.collection.view.not_ahead_of_upstream(after).await?;
            let sequence = cx.collection.view.newest()?.sequence();
            return Ok(Err(Unchanged { cursor: after, sequence, reason }));
        }
    };
    let change = tokio::select! {
        biased;
        change = key.get() => Ok(change),
        reason = &mut wait_end => Err(reason),
    };
    // The client's name of the history, which may differ from ours.
    let (cursor, sequence) = (Cursor { history: after.history, ..key.cursor() }, key.sequence());
    let reason = match change {
        Ok(Ok(change)) => return Ok(Ok(KeyRead { entry: change.value, cursor, sequence })),
        Ok(Err(_)) => match key.closed_by() {
            ViewError::Stopped => Reason::ShuttingDown,
            error => return Err(error),
        },
        Err(reason) => reason,
    };
    Ok(Err(Unchanged { cursor, sequence, reason }))
}
