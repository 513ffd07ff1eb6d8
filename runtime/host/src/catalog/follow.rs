//! How the catalog follows the registry: watch, list, apply, and list again after a gap.
//!
//! The watch is opened before the list is read, so that no change falls between the two; what comes twice is known by
//! its revision. While the registry cannot be reached the catalog stays as it is, and requests go on.

use super::{Catalog, CatalogChange};
use crate::store::{Change, Registry, Revision, StoreError};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Records read at once.
const PAGE: usize = 500;
/// Wait before an unreachable registry is tried again; doubles up to the longest.
const RETRY: Duration = Duration::from_millis(100);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);

type Told = mpsc::UnboundedSender<CatalogChange>;

/// Reads everything and returns the watch that goes on from there.
pub(super) async fn read(
    catalog: &Catalog,
    registry: &dyn Registry,
    told: &Told,
) -> Result<mpsc::Receiver<Change>, StoreError> {
    let from = registry.revision().await?;
    let watch = registry.watch("", from).await?;
    let mut records = Vec::new();
    loop {
        let after = records.last().map(|record: &crate::store::Versioned| record.key.clone());
        let page = registry.list("", after.as_deref(), PAGE).await?;
        if page.is_empty() {
            break;
        }
        records.extend(page);
    }
    let changes = catalog.tables_mut().replace(records);
    for change in changes {
        // Whoever ran functions has ended; the catalog goes on without.
        let _ = told.send(change);
    }
    catalog.applied.send_replace(from);
    Ok(watch)
}

fn revision(change: &Change) -> Revision {
    match change {
        Change::Put(record) => record.revision,
        Change::Deleted { revision, .. } => *revision,
        Change::Lagged => 0,
    }
}

fn apply(catalog: &Catalog, change: Change, told: &Told) {
    let revision = revision(&change);
    let change = catalog.tables_mut().apply(change);
    if let Some(change) = change {
        let _ = told.send(change);
    }
    catalog.applied.send_if_modified(|applied| {
        let newer = revision > *applied;
        *applied = revision.max(*applied);
        newer
    });
}

/// Applies changes until nobody uses the catalog any more.
pub(super) async fn follow(
    catalog: Weak<Catalog>,
    registry: Arc<dyn Registry>,
    told: Told,
    mut watch: mpsc::Receiver<Change>,
) {
    let mut wait = RETRY;
    loop {
        while let Some(change) = watch.recv().await.filter(|change| *change != Change::Lagged) {
            wait = RETRY;
            match catalog.upgrade() {
                Some(catalog) => apply(&catalog, change, &told),
                None => return,
            }
        }
        let Some(catalog) = catalog.upgrade() else { return };
        match read(&catalog, &*registry, &told).await {
            Ok(again) => watch = again,
            Err(problem) => {
                tracing::warn!(%problem, "the registry cannot be read; the catalog stays as it is");
                drop(catalog);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}
