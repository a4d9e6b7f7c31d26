//! Encoded bodies of updates, each made once and shared while it is hot. (Snapshots are made of pages.)

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::{Format, KeySelector, ViewError};
use crate::model::{Cursor, Sequence};
use crate::wire::Coding;

/// Bodies up to this size are sent as they are: compressing them costs more than it saves.
pub(super) const UNCOMPRESSED_BYTES: usize = 1024;

/// A body's bookkeeping counts as this many bytes beside its content.
const OVERHEAD_BYTES: u64 = 256;

/// About how many bodies there are at a time; the cache sizes its tables by it and is bounded by bytes.
const EXPECTED_BODIES: usize = 4096;

/// What a body is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Subject {
    /// The updates from a cursor to a breadcrumb.
    Updates { from: Cursor, to: Sequence },
    /// The difference of two kept breadcrumbs.
    Diff { from: Cursor, to: Cursor, to_crumb: Sequence },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct BodyKey {
    subject: Subject,
    keys: KeySelector,
    format: Format,
}

/// A body and the coding that was really applied.
#[derive(Clone, Debug)]
pub(super) struct CodedBody {
    pub(super) bytes: Bytes,
    pub(super) coding: Coding,
}

#[derive(Clone)]
struct Weight;

impl Weighter<BodyKey, CodedBody> for Weight {
    fn weight(&self, key: &BodyKey, body: &CodedBody) -> u64 {
        OVERHEAD_BYTES + (key.keys.bytes() + body.bytes.len()) as u64
    }
}

pub(super) struct BodyCache {
    cache: Cache<BodyKey, CodedBody, Weight>,
    /// Bodies that nobody shares, at a time: more than there are cores only wait for one another, and what is
    /// written meanwhile waits for all of them.
    unshared: Arc<Semaphore>,
    /// Bodies that were encoded to be shared.
    encoded: AtomicU64,
}

impl BodyCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cache: Cache::with_weighter(EXPECTED_BODIES, max_bytes, Weight),
            unshared: Arc::new(Semaphore::new(cores)),
            encoded: AtomicU64::new(0),
        }
    }

    /// How many bodies were encoded to be shared, since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The body, made by `encode` when it is not there. Whoever asks for it meanwhile waits for
    /// the one that makes it; the work is done off the async threads.
    pub(super) async fn get<F>(
        &self,
        subject: Subject,
        keys: &KeySelector,
        format: Format,
        encode: F,
    ) -> Result<CodedBody, ViewError>
    where
        F: FnOnce() -> Vec<u8> + Send + 'static,
    {
        let key = |coding| BodyKey {
            subject: subject.clone(),
            keys: keys.clone(),
            format: Format { coding, ..format },
        };
        let plain = self.single_flight(key(Coding::Identity), async {
            let bytes = off_thread(encode).await?;
            self.encoded.fetch_add(1, Ordering::Relaxed);
            Ok(CodedBody { bytes: bytes.into(), coding: Coding::Identity })
        });
        if format.coding == Coding::Identity {
            return plain.await;
        }
        self.single_flight(key(format.coding), async { compress(plain.await?, format.coding).await }).await
    }

    /// The body, if it has been made.
    pub(super) fn made(&self, subject: Subject, keys: &KeySelector, format: Format) -> Option<CodedBody> {
        self.cache.get(&BodyKey { subject, keys: keys.clone(), format })
    }

    /// A body that nobody else is likely to ask for: made, and not kept. It is not begun for a client that
    /// left before its turn came.
    pub(super) async fn once(
        &self,
        format: Format,
        encode: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<CodedBody, ViewError> {
        let turn = Arc::clone(&self.unshared).acquire_owned().await;
        off_thread(move || {
            let body =
                CodedBody { bytes: encode().into(), coding: Coding::Identity }.compressed(format.coding);
            drop(turn);
            body
        })
        .await?
    }

    async fn single_flight(
        &self,
        key: BodyKey,
        make: impl Future<Output = Result<CodedBody, ViewError>>,
    ) -> Result<CodedBody, ViewError> {
        self.cache.get_or_insert_async(&key, make).await
    }
}

async fn compress(body: CodedBody, coding: Coding) -> Result<CodedBody, ViewError> {
    if body.is_worth(coding) { off_thread(move || body.compressed(coding)).await? } else { Ok(body) }
}

impl CodedBody {
    fn is_worth(&self, coding: Coding) -> bool {
        self.bytes.len() > UNCOMPRESSED_BYTES && coding != Coding::Identity
    }

    /// The same body in this coding, where it is worth it; on this thread.
    pub(super) fn compressed(self, coding: Coding) -> Result<Self, ViewError> {
        if !self.is_worth(coding) {
            return Ok(self);
        }
        let bytes =
            coding.encode(&self.bytes).map_err(|error| ViewError::Encoding(error.to_string()))?.into();
        Ok(Self { bytes, coding })
    }
}

pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ViewError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ViewError::Encoding(error.to_string()))
}
