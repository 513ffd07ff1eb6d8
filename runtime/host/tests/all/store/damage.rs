//! Damaged, cut, missing, newer and foreign stores are refused with the reason; none is ever started empty.

use super::Place;
use super::place::{BEGIN_MS, folder};
use coldframe_host::store::clock::ManualClock;
use coldframe_host::store::{Expect, OpenError, Store, Versioned};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Damages tried; every one opens a store.
const MUTATIONS: u64 = 300;

async fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, Arc::new(ManualClock::new(BEGIN_MS))).await
}

async fn records(store: &Store) -> Vec<Versioned> {
    store.registry().list("", None, usize::MAX).await.expect("a store that opened can be read")
}

async fn fill(store: &Store) {
    for number in 0..40 {
        let key = format!("function/a/{number}");
        let value = json!({ "number": number, "text": "x".repeat(200) });
        store.registry().put(&key, value, Expect::Absent, &key).await.unwrap();
    }
}

/// A copy of a store's files, as after a crash where the store is open.
fn copy(from: &Path) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, name) = {
                let entry = entry.unwrap();
                (entry.path(), entry.file_name())
            };
            match path.is_dir() {
                true => copy_into(&path, &to.join(name)),
                false => drop(fs::copy(&path, to.join(name)).unwrap()),
            }
        }
    }
    let to = folder();
    copy_into(from, to.path());
    // The index of the log is shared memory: a crash of the machine leaves none.
    for index in ["registry.db-shm", "journal.db-shm"] {
        let _ = fs::remove_file(to.path().join(index));
    }
    to
}

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One of: a flipped bit, a page of zeros, a cut.
fn damage(bytes: &mut Vec<u8>, seed: u64) -> String {
    let (draw, place) = (mix(seed), mix(seed + 7_777) as usize % bytes.len());
    match draw % 4 {
        0 | 1 => {
            bytes[place] ^= 1 << ((draw >> 8) % 8);
            format!("bit flipped at {place}")
        }
        2 => {
            let end = (place + 512).min(bytes.len());
            bytes[place..end].fill(0);
            format!("zeros from {place}")
        }
        _ => {
            bytes.truncate(place);
            format!("cut at {place}")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_registry_is_refused_or_whole() {
    let place = Place::local().await;
    fill(place.store()).await;
    let wanted = records(place.store()).await;
    let crashed = copy(&place.path());
    let path = place.path();
    drop(place);
    assert!(!path.exists());
    let good = records(&open(crashed.path()).await.unwrap()).await;
    assert_eq!(good, wanted, "a copy of an open store lost something");
    let database = crashed.path().join("registry.db");
    let sound = fs::read(&database).unwrap();
    let mut refused = 0;
    for seed in 0..MUTATIONS {
        let mut bytes = sound.clone();
        let what = damage(&mut bytes, seed);
        fs::write(&database, &bytes).unwrap();
        match open(crashed.path()).await {
            Err(_) => refused += 1,
            Ok(store) => assert_eq!(records(&store).await, wanted, "{what}: opened with other records"),
        }
        for rest in ["registry.db-wal", "registry.db-shm"] {
            let _ = fs::remove_file(crashed.path().join(rest));
        }
        let _ = fs::remove_file(crashed.path().join("registry.db-acked"));
    }
    assert!(refused > MUTATIONS / 3, "only {refused} of {MUTATIONS} damages were noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_with_a_lost_page_or_end_is_refused() {
    use coldframe_host::store::journal::{Amounts, Book, Row};
    let place = Place::local().await;
    let row = |n: usize| Row {
        name: format!("row-{n}"),
        at_ms: n as u64,
        tenant: "a".to_owned(),
        function: Some("f".to_owned()),
        kind: "request".to_owned(),
        amounts: Amounts::default(),
        payload: serde_json::json!({"n": n}),
    };
    place.store().journal().append(Book::Ledger, (0..2_000).map(row).collect()).await.unwrap();
    // A backup has all of it in the file itself.
    let backup = tempfile::tempdir().unwrap();
    place.store().backup(&backup.path().join("b")).await.unwrap();
    let target = backup.path().join("restored");
    Store::restore(&backup.path().join("b"), &target).unwrap();
    let database = target.join("journal.db");
    let sound = fs::read(&database).unwrap();
    let pages = sound.len() / 4096;
    assert!(pages > 20, "{pages} pages");
    let mut unnoticed = 0;
    for page in 1..pages {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(&database, &bytes).unwrap();
        unnoticed += usize::from(open(&target).await.is_ok());
        let _ =
            (fs::remove_file(target.join("journal.db-wal")), fs::remove_file(target.join("journal.db-shm")));
    }
    // Pages that hold nothing may be lost.
    assert!(unnoticed <= pages / 20, "{unnoticed} of {pages} pages were lost and nobody noticed");
    fs::write(&database, &sound[..sound.len() / 2]).unwrap();
    assert!(open(&target).await.is_err(), "half of it is gone");
    let _ = (fs::remove_file(target.join("journal.db-wal")), fs::remove_file(target.join("journal.db-shm")));
    fs::write(&database, &sound).unwrap();
    open(&target).await.expect("the sound one opens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_log_is_noticed() {
    let place = Place::local().await;
    fill(place.store()).await;
    let wanted = records(place.store()).await;
    for seed in 0..60 {
        let crashed = copy(&place.path());
        let log = crashed.path().join("registry.db-wal");
        let mut bytes = fs::read(&log).unwrap();
        assert!(!bytes.is_empty());
        let what = match seed {
            0 => {
                fs::remove_file(&log).unwrap();
                "removed".to_owned()
            }
            1 => {
                fs::write(&log, b"").unwrap();
                "emptied".to_owned()
            }
            _ => {
                let what = damage(&mut bytes, seed);
                fs::write(&log, &bytes).unwrap();
                what
            }
        };
        match open(crashed.path()).await {
            Err(OpenError::Behind { .. }) => {}
            Err(other) => assert!(seed > 1, "{what}: {other}"),
            Ok(store) => assert_eq!(records(&store).await, wanted, "{what}: opened with other records"),
        }
    }
}

async fn refusal(spoil: impl FnOnce(PathBuf)) -> OpenError {
    let place = Place::local().await;
    fill(place.store()).await;
    let crashed = copy(&place.path());
    spoil(crashed.path().to_owned());
    let before = fs::read(crashed.path().join("registry.db")).ok();
    let refused = open(crashed.path()).await.err().expect("a spoilt store was opened");
    assert_eq!(fs::read(crashed.path().join("registry.db")).ok(), before, "a refused store was changed");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_part_is_named() {
    for part in ["registry.db", "journal.db"] {
        let refused = refusal(|path| fs::remove_file(path.join(part)).unwrap()).await;
        assert!(matches!(&refused, OpenError::Missing(path) if path.ends_with(part)), "{refused}");
    }
    let refused = refusal(|path| {
        for part in ["store.json", "registry.db", "journal.db"] {
            fs::remove_file(path.join(part)).unwrap();
        }
        fs::create_dir_all(path.join("blobs/sha256/ab")).unwrap();
    })
    .await;
    assert!(matches!(refused, OpenError::Missing(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_or_foreign_file_is_named() {
    let refused = refusal(|path| fs::write(path.join("registry.db"), b"").unwrap()).await;
    assert!(refused.to_string().contains("the file is empty"), "{refused}");
    let refused = refusal(|path| {
        fs::remove_file(path.join("registry.db-wal")).unwrap();
        fs::write(path.join("registry.db"), "not a database ".repeat(999)).unwrap();
    })
    .await;
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_with_both_numbers() {
    let refused = refusal(|path| {
        let _ = fs::remove_file(path.join("registry.db-acked"));
        let _ = fs::remove_file(path.join("registry.db-wal"));
        // `user_version` is a big-endian number at offset 60 of SQLite's header.
        let mut bytes = fs::read(path.join("registry.db")).unwrap();
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        fs::write(path.join("registry.db"), bytes).unwrap();
    })
    .await;
    let text = refused.to_string();
    assert!(text.contains("has schema 99; this version of Coldframe knows schemas up to 1"), "{text}");
    assert!(text.contains("start the version that wrote it, or restore a backup"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_do_not_share_a_store() {
    let place = Place::local().await;
    let refused = open(&place.path()).await.err().expect("a second opening");
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_broke_off_is_taken_up() {
    let home = folder();
    let path = home.path().join("data");
    drop(open(&path).await.unwrap());
    for part in ["store.json", "registry.db"] {
        fs::remove_file(path.join(part)).unwrap();
    }
    fs::write(path.join("registry.db.new"), b"half").unwrap();
    let store = open(&path).await.unwrap();
    assert_eq!(records(&store).await, []);
    assert!(path.join("store.json").exists());
}
