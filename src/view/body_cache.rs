//! The cache of encoded update bodies: each is encoded once and shared. Snapshots have their own cache
//! ([`snapshot`](super::snapshot)).

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

/// Bodies up to this size are sent uncompressed; compression would cost more than it saves.
pub(super) const UNCOMPRESSED_BYTES: usize = 1024;

/// The weight of a cache entry beside its content, in bytes.
const OVERHEAD_BYTES: u64 = 256;

/// About how many bodies are cached at a time. It sizes the tables; the limit is in bytes.
const EXPECTED_BODIES: usize = 4096;

/// The two states that a body leads between.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Span {
    /// The updates from a cursor to a breadcrumb.
    Updates { from: Cursor, to: Sequence },
    /// The difference between two kept breadcrumbs.
    Diff { from: Cursor, to: Cursor, to_sequence: Sequence },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct BodyKey {
    span: Span,
    keys: KeySelector,
    format: Format,
}

/// A body and the coding that was applied to it.
#[derive(Clone, Debug)]
pub(super) struct EncodedBody {
    pub(super) bytes: Bytes,
    pub(super) coding: Coding,
}

#[derive(Clone)]
struct Weight;

impl Weighter<BodyKey, EncodedBody> for Weight {
    fn weight(&self, key: &BodyKey, body: &EncodedBody) -> u64 {
        OVERHEAD_BYTES + (key.keys.bytes() + body.bytes.len()) as u64
    }
}

pub(super) struct BodyCache {
    cache: Cache<BodyKey, EncodedBody, Weight>,
    /// Limits the unshared bodies that are encoded at a time to the number of cores. More would only slow each other
    /// and the writers down.
    unshared: Arc<Semaphore>,
    /// How many shared bodies were encoded.
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

    /// How many shared bodies were encoded since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The cached body, or the one that `encode` makes now on a blocking thread. Concurrent requests for the same body
    /// share one encoding.
    pub(super) async fn get<F>(
        &self,
        span: Span,
        keys: &KeySelector,
        format: Format,
        encode: F,
    ) -> Result<EncodedBody, ViewError>
    where
        F: FnOnce() -> Vec<u8> + Send + 'static,
    {
        let key =
            |coding| BodyKey { span: span.clone(), keys: keys.clone(), format: Format { coding, ..format } };
        let plain = self.single_flight(key(Coding::Identity), async {
            let bytes = run_blocking(encode).await?;
            self.encoded.fetch_add(1, Ordering::Relaxed);
            Ok(EncodedBody { bytes: bytes.into(), coding: Coding::Identity })
        });
        if format.coding == Coding::Identity {
            return plain.await;
        }
        self.single_flight(key(format.coding), async { compress(plain.await?, format.coding).await }).await
    }

    /// The body, if it is cached.
    pub(super) fn cached(&self, span: Span, keys: &KeySelector, format: Format) -> Option<EncodedBody> {
        self.cache.get(&BodyKey { span, keys: keys.clone(), format })
    }

    /// A body that nobody else is likely to request; it is not cached. A client that disconnects while it waits for a
    /// core costs no encoding.
    pub(super) async fn encode_unshared(
        &self,
        format: Format,
        encode: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<EncodedBody, ViewError> {
        let permit = Arc::clone(&self.unshared).acquire_owned().await;
        run_blocking(move || {
            let body =
                EncodedBody { bytes: encode().into(), coding: Coding::Identity }.compressed(format.coding);
            drop(permit);
            body
        })
        .await?
    }

    async fn single_flight(
        &self,
        key: BodyKey,
        make: impl Future<Output = Result<EncodedBody, ViewError>>,
    ) -> Result<EncodedBody, ViewError> {
        self.cache.get_or_insert_async(&key, make).await
    }
}

async fn compress(body: EncodedBody, coding: Coding) -> Result<EncodedBody, ViewError> {
    if body.is_compressible(coding) { run_blocking(move || body.compressed(coding)).await? } else { Ok(body) }
}

impl EncodedBody {
    fn is_compressible(&self, coding: Coding) -> bool {
        self.bytes.len() > UNCOMPRESSED_BYTES && coding != Coding::Identity
    }

    /// The body in this coding, or unchanged if it is too small. Runs on the calling thread.
    pub(super) fn compressed(self, coding: Coding) -> Result<Self, ViewError> {
        if !self.is_compressible(coding) {
            return Ok(self);
        }
        let bytes = coding.encode(&self.bytes)?.into();
        Ok(Self { bytes, coding })
    }
}

pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ViewError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
