//! Full and read-only disks: clear errors, reads go on, and room made is room used without a restart.
//!
//! Each case runs in a child process, this binary again with one test, under a limit on file sizes or in a mount
//! namespace of its own. What needs root says so where it is not.

use super::place::{BEGIN_MS, folder};
use coldframe_host::store::clock::ManualClock;
use coldframe_host::store::{Expect, Store, StoreError};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Tells the child what to do and where.
const CASE: &str = "COLDFRAME_TEST_DISK";

async fn open(path: &Path) -> Store {
    Store::open(path, Arc::new(ManualClock::new(BEGIN_MS))).await.expect("a store")
}

async fn put(store: &Store, number: usize) -> Result<u64, StoreError> {
    let key = format!("function/a/{number}");
    let value = json!({ "number": number, "text": "x".repeat(10_000) });
    store.registry().put(&key, value, Expect::Absent, &key).await
}

async fn count(store: &Store) -> usize {
    store.registry().list("function/a/", None, usize::MAX).await.expect("reads go on").len()
}

/// Writes until nothing goes in any more; how many went in, and what was said.
async fn fill(store: &Store) -> (usize, StoreError) {
    for number in 0..100_000 {
        if let Err(refused) = put(store, number).await {
            return (number, refused);
        }
    }
    panic!("the disk never filled");
}

fn says(error: &StoreError, words: &str) {
    let text = error.to_string();
    assert!(matches!(error, StoreError::Unavailable(_)) && text.contains(words), "{text}");
}

async fn blob(store: &Store, bytes: usize) -> Result<String, StoreError> {
    let source = Box::pin(std::io::Cursor::new(vec![7; bytes]));
    store.blobs().put(source, 1 << 30, None).await.map(|file| file.digest)
}

/// Until the disk is full, then as far as it goes; prints how many records went in.
async fn fill_up(path: &Path) {
    let store = open(path).await;
    let small = blob(&store, 1_000).await.expect("room for a small blob");
    let (written, refused) = fill(&store).await;
    says(&refused, "free space");
    assert_eq!(count(&store).await, written);
    says(&blob(&store, 8 << 20).await.unwrap_err(), "free space");
    assert!(store.blobs().open(&small, true).await.is_ok());
    let drafts = std::fs::read_dir(path.join("blobs/sha256")).unwrap();
    let is_draft = |name: &str| name.starts_with(".draft");
    assert!(!drafts.flatten().any(|entry| is_draft(&entry.file_name().to_string_lossy())), "a draft is left");
    assert_eq!(store.broken(), None, "a full disk is no broken disk");
    if std::fs::remove_file(path.join("../ballast")).is_ok() {
        put(&store, written).await.expect("room was made");
        assert_eq!(count(&store).await, written + 1);
    }
    println!("\nwritten {written}");
}

async fn read_only(path: &Path) {
    let store = open(path).await;
    let written = count(&store).await;
    assert!(written > 0);
    says(&put(&store, written).await.unwrap_err(), "read-only");
    says(&blob(&store, 10).await.unwrap_err(), "read-only");
    assert!(store.broken().is_some(), "health must say it");
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
    println!("\nwritten {written}");
}

/// The child's side; nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    match case.split_once(':').expect("a case and a path") {
        ("full", path) => fill_up(Path::new(path)).await,
        ("read-only", path) => read_only(Path::new(path)).await,
        other => panic!("{other:?} is no case"),
    }
}

/// Runs the child's side after some shell; what it printed as `written`.
fn run(shell: &[&str], setup: &str, case: &str, path: &Path) -> usize {
    let script = format!("{setup} exec \"$0\" --exact store::disk::child --nocapture");
    let (program, arguments) = shell.split_first().expect("a shell");
    let output = Command::new(program)
        .args(arguments)
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("this binary"))
        .env(CASE, format!("{case}:{}", path.display()))
        .env("HERE", path.parent().expect("a folder"))
        .output()
        .expect("a shell runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("written ")).expect("a line of the child");
    line.parse().expect("a number")
}

fn has_namespaces() -> bool {
    let there =
        Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("not tested: mounts need root and unshare");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_file_sizes_is_a_full_disk() {
    let home = folder();
    let path = home.path().join("data");
    // The signal would end the process before the error comes.
    let written = run(&["sh"], "trap '' XFSZ; ulimit -f 1024;", "full", &path);
    assert!(written > 3, "{written}");
    let store = open(&path).await;
    assert_eq!(count(&store).await, written, "acknowledged records are missing");
    put(&store, written).await.expect("without the limit it goes on");
    blob(&store, 8 << 20).await.expect("without the limit it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_writes_again_once_there_is_room() {
    if !has_namespaces() {
        return;
    }
    let home = folder();
    let setup =
        "mount -t tmpfs -o size=3m tmpfs \"$HERE\" && head -c 1000000 /dev/zero > \"$HERE/ballast\" &&";
    let written = run(&["unshare", "-m", "sh"], setup, "full", &home.path().join("data"));
    assert!(written > 3, "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_can_be_read() {
    if !has_namespaces() {
        return;
    }
    let home = folder();
    let path = home.path().join("data");
    let store = open(&path).await;
    for number in 0..20 {
        put(&store, number).await.unwrap();
    }
    drop(store);
    let setup = "mount --bind \"$HERE\" \"$HERE\" && mount -o remount,bind,ro \"$HERE\" &&";
    assert_eq!(run(&["unshare", "-m", "sh"], setup, "read-only", &path), 20);
}
