//! A store behind a bad line: at random it answers [`StoreError::Unknown`], having done what was asked or not.
//!
//! Around any back end, by a seed, so that a failure can be repeated. Whoever uses a store correctly cannot tell the
//! outcome from that of a good one, only the number of tries.

use super::journal::{Book, Entry, Filter, Journal, Page, Row, Sum};
use super::{
    Blobs, Change, Digest, Expect, Job, Jobs, Leased, LocalFile, Read, Registry, Result, Revision, Source,
    StoreError, Versioned,
};
use crate::call::Later;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// A store that sometimes does not say what it did.
pub struct Flaky<S: ?Sized> {
    draws: AtomicU64,
    one_in: u64,
    store: Arc<S>,
}

/// What goes wrong with a request.
enum Luck {
    Good,
    LostOnTheWay,
    LostOnTheWayBack,
}

/// SplitMix64's finaliser: draws by counting.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl<S: ?Sized> Flaky<S> {
    /// Lets one request in `one_in` fail without saying whether it was done.
    pub fn new(store: Arc<S>, seed: u64, one_in: u64) -> Self {
        Self { store, draws: AtomicU64::new(mix(seed)), one_in: one_in.max(1) }
    }

    /// The store behind the line.
    pub fn inner(&self) -> &Arc<S> {
        &self.store
    }

    fn luck(&self) -> Luck {
        let draw = mix(self.draws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst));
        match (draw % self.one_in, (draw >> 32) % 2) {
            (0, 0) => Luck::LostOnTheWay,
            (0, _) => Luck::LostOnTheWayBack,
            _ => Luck::Good,
        }
    }

    async fn send<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let lost = || Err(StoreError::Unknown("the connection was lost".to_owned()));
        match self.luck() {
            Luck::Good => request.await,
            Luck::LostOnTheWay => lost(),
            Luck::LostOnTheWayBack => {
                let _ = request.await;
                lost()
            }
        }
    }
}

impl<S: Registry + ?Sized> Registry for Flaky<S> {
    fn get<'a>(&'a self, key: &'a str, read: Read) -> Later<'a, Result<Option<Versioned>>> {
        self.store.get(key, read)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Result<Vec<Versioned>>> {
        self.store.list(prefix, after, limit)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Value,
        expect: Expect,
        idem: &'a str,
    ) -> Later<'a, Result<Revision>> {
        Box::pin(self.send(self.store.put(key, value, expect, idem)))
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Revision, idem: &'a str) -> Later<'a, Result<Revision>> {
        Box::pin(self.send(self.store.delete(key, expect, idem)))
    }

    fn revision(&self) -> Later<'_, Result<Revision>> {
        self.store.revision()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Later<'a, Result<mpsc::Receiver<Change>>> {
        self.store.watch(prefix, from)
    }
}

impl<S: Jobs + ?Sized> Jobs for Flaky<S> {
    fn enqueue<'a>(&'a self, queue: &'a str, payload: Value, idem: &'a str) -> Later<'a, Result<u64>> {
        Box::pin(self.send(self.store.enqueue(queue, payload, idem)))
    }

    fn lease<'a>(&'a self, queue: &'a str, n: usize, ttl: Duration) -> Later<'a, Result<Vec<Leased>>> {
        Box::pin(self.send(self.store.lease(queue, n, ttl)))
    }

    fn extend<'a>(&'a self, leased: &'a Leased, ttl: Duration) -> Later<'a, Result<()>> {
        Box::pin(self.send(self.store.extend(leased, ttl)))
    }

    fn ack<'a>(&'a self, leased: &'a Leased) -> Later<'a, Result<()>> {
        Box::pin(self.send(self.store.ack(leased)))
    }

    fn nack<'a>(&'a self, leased: &'a Leased, after: Duration) -> Later<'a, Result<()>> {
        Box::pin(self.send(self.store.nack(leased, after)))
    }

    fn dead<'a>(&'a self, queue: &'a str) -> Later<'a, Result<Vec<Job>>> {
        self.store.dead(queue)
    }
}

impl<S: Blobs + ?Sized> Blobs for Flaky<S> {
    fn put<'a>(
        &'a self,
        source: Source,
        limit: u64,
        wanted: Option<&'a str>,
    ) -> Later<'a, Result<LocalFile>> {
        Box::pin(self.send(self.store.put(source, limit, wanted)))
    }

    fn open<'a>(&'a self, digest: &'a str, verify: bool) -> Later<'a, Result<LocalFile>> {
        self.store.open(digest, verify)
    }

    fn delete_unreferenced<'a>(
        &'a self,
        keep: &'a [Digest],
        age: Duration,
    ) -> Later<'a, Result<Vec<Digest>>> {
        Box::pin(self.send(self.store.delete_unreferenced(keep, age)))
    }

    fn usage(&self) -> Later<'_, Result<(u64, u64)>> {
        self.store.usage()
    }
}

impl<S: Journal + ?Sized> Journal for Flaky<S> {
    fn append(&self, book: Book, rows: Vec<Row>) -> Later<'_, Result<()>> {
        Box::pin(self.send(self.store.append(book, rows)))
    }

    fn query(&self, book: Book, filter: Filter, page: Page, limit: usize) -> Later<'_, Result<Vec<Entry>>> {
        self.store.query(book, filter, page, limit)
    }

    fn sums(&self, book: Book, filter: Filter) -> Later<'_, Result<Vec<Sum>>> {
        self.store.sums(book, filter)
    }

    fn trim(&self, book: Book, before_ms: u64) -> Later<'_, Result<u64>> {
        Box::pin(self.send(self.store.trim(book, before_ms)))
    }
}
