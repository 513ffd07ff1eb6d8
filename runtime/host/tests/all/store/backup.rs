//! Backup while at work, restore into a new folder, collection of what nobody names, checks.

use super::Place;
use super::place::{BEGIN_MS, folder};
use coldframe_host::store::clock::ManualClock;
use coldframe_host::store::journal::{Amounts, Book, Filter, Row};
use coldframe_host::store::{Expect, OpenError, Read, Store};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

async fn blob(store: &Store, bytes: &[u8]) -> String {
    let source = Box::pin(std::io::Cursor::new(bytes.to_vec()));
    store.blobs().put(source, 1 << 20, None).await.unwrap().digest
}

async fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, Arc::new(ManualClock::new(BEGIN_MS))).await
}

async fn fill(store: &Store) -> String {
    let named = blob(store, b"weights").await;
    let record = json!({ "deep": [{ "adapter": named }] });
    store.registry().put("function/a/f", record, Expect::Absent, "1").await.unwrap();
    store.jobs().enqueue("q", json!("job"), "1").await.unwrap();
    let row = Row {
        name: "r-1".to_owned(),
        at_ms: BEGIN_MS,
        tenant: "a".to_owned(),
        function: None,
        kind: "request".to_owned(),
        amounts: Amounts { nanodollars: 7, ..Amounts::default() },
        payload: json!({}),
    };
    store.journal().append(Book::Ledger, vec![row]).await.unwrap();
    named
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_the_store_of_that_moment() {
    let place = Place::local().await;
    let named = fill(place.store()).await;
    let (backups, home) = (folder(), folder());
    let (backup, restored) = (backups.path().join("monday"), home.path().join("data"));
    let registry = place.registry();
    let busy = tokio::spawn(async move {
        for number in 0..200 {
            let key = format!("function/a/{number}");
            registry.put(&key, json!(number), Expect::Absent, &key).await.unwrap();
        }
    });
    place.store().backup(&backup).await.unwrap();
    busy.await.unwrap();
    Store::restore(&backup, &restored).unwrap();
    let store = open(&restored).await.unwrap();
    let there = store.registry().list("function/a/", None, 999).await.unwrap();
    let revision = store.registry().revision().await.unwrap();
    assert_eq!(there.len() as u64, revision, "records up to one moment, none missing between");
    assert_eq!(store.blobs().open(&named, true).await.unwrap().bytes, 7);
    assert_eq!(
        store.journal().sums(Book::Ledger, Filter::default()).await.unwrap()[0].amounts.nanodollars,
        7
    );
    assert_eq!(store.jobs().lease("q", 9, Duration::from_secs(1)).await.unwrap().len(), 1);
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
    // The restored store goes on where the backup ended.
    let next = store.registry().put("tenant/a", json!(1), Expect::Absent, "new").await.unwrap();
    assert_eq!(next, revision + 1);
    let taken = place.store().backup(&backup).await.unwrap_err();
    assert!(matches!(taken, OpenError::NotEmpty(_)), "{taken}");
    assert!(matches!(Store::restore(&backup, &restored), Err(OpenError::NotEmpty(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_refused_whole() {
    let place = Place::local().await;
    let named = fill(place.store()).await;
    let home = folder();
    let (backup, target) = (home.path().join("backup"), home.path().join("data"));
    place.store().backup(&backup).await.unwrap();
    let blob = backup.join("blobs/sha256").join(&named[..2]).join(&named);
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, b"weighty").unwrap();
    let refused = Store::restore(&backup, &target).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert!(blob.exists() && !target.exists());
    std::fs::write(&blob, b"weights").unwrap();
    std::fs::remove_file(backup.join("backup.json")).unwrap();
    let refused = Store::restore(&backup, &target).unwrap_err();
    assert!(matches!(refused, OpenError::NoBackup { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collection_keeps_what_a_record_names() {
    let place = Place::local().await;
    let store = place.store();
    let named = fill(store).await;
    let loose = blob(store, b"loose").await;
    assert_eq!(store.collect(Duration::from_secs(3_600)).await.unwrap().removed, Vec::<String>::new());
    let collected = store.collect(Duration::ZERO).await.unwrap();
    assert_eq!((collected.removed, collected.kept), (vec![loose], 1));
    let record = store.registry().get("function/a/f", Read::Fresh).await.unwrap().unwrap();
    store.registry().delete("function/a/f", record.revision, "2").await.unwrap();
    assert_eq!(store.collect(Duration::ZERO).await.unwrap().removed, [named]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_blob_is_found_and_mended_by_storing_it_again() {
    let place = Place::local().await;
    let store = place.store();
    let bytes: Vec<u8> = (0..=255).collect();
    let digest = blob(store, &bytes).await;
    let path = store.blobs().open(&digest, true).await.unwrap().path;
    for at in [0, 100, 255] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, damaged).unwrap();
        assert!(store.blobs().open(&digest, true).await.is_err(), "byte {at}");
        assert!(!path.exists(), "a damaged blob kept its name");
        assert_eq!(blob(store, &bytes).await, digest);
        assert!(store.blobs().open(&digest, true).await.is_ok());
    }
    let mut damaged = bytes.clone();
    damaged[1] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, damaged).unwrap();
    assert_eq!(store.check().await.unwrap().problems.len(), 1);
}

#[tokio::test]
async fn links_are_not_followed() {
    let place = Place::local().await;
    let store = place.store();
    let digest = blob(store, b"real").await;
    let path = store.blobs().open(&digest, true).await.unwrap().path;
    let elsewhere = place.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(store.blobs().open(&digest, true).await.is_err());
    assert_eq!(blob(store, b"real").await, digest);
    assert!(std::fs::symlink_metadata(&path).unwrap().is_file(), "the link is still there");
}

#[tokio::test]
async fn blobs_are_read_only_and_drafts_are_swept() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut place = Place::local().await;
    let digest = blob(place.store(), b"real").await;
    let path = place.blobs().open(&digest, true).await.unwrap().path;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
    let draft = place.path().join("blobs/sha256/.draft-left");
    std::fs::write(&draft, b"half").unwrap();
    place.reopen().await;
    assert!(!draft.exists() && path.exists());
}
