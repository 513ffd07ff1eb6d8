//! The contract that every back end keeps, one body for all.

use super::Place;
use coldframe_host::store::{Change, Expect, Read, Registry, Rejected, Revision, StoreError};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Place::memory()).await; })*
        }
        mod on_sqlite_and_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Place::local().await).await; })*
        }
    };
}

contract!(
    one_of_two_writers_wins,
    a_repeat_returns_the_first_result,
    a_blind_write_does_not_exist,
    lists_are_in_order_and_paged,
    a_watch_misses_nothing_over_reconnects,
    a_slow_watcher_is_told,
    a_watch_from_another_time_starts_over,
    a_lost_lease_is_given_on_and_its_token_refused,
    a_job_is_dead_after_four_attempts,
    leases_end_with_the_process,
    leases_do_not_follow_the_calendar,
    bytes_of_another_digest_are_never_seen,
    blobs_end_at_their_limit,
    only_old_blobs_that_nobody_names_go,
    names_that_could_be_paths_are_refused,
);

fn source(bytes: &[u8]) -> coldframe_host::store::Source {
    Box::pin(std::io::Cursor::new(bytes.to_vec()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn conflict(error: &StoreError) -> bool {
    matches!(error, StoreError::Rejected(Rejected::Conflict { .. }))
}

async fn one_of_two_writers_wins(place: Place) {
    let registry = place.registry();
    let mut revision = registry.put("function/a/f", json!(0), Expect::Absent, "begin").await.unwrap();
    for round in 0..100 {
        let write = |who: &'static str| {
            let (registry, expect) = (Arc::clone(&registry), Expect::At(revision));
            tokio::spawn(async move {
                let value = json!({ "round": round, "who": who });
                registry
                    .put("function/a/f", value.clone(), expect, &format!("{who}-{round}"))
                    .await
                    .map(|to| (to, value))
            })
        };
        let (one, other) = (write("one"), write("other"));
        let (one, other) = (one.await.unwrap(), other.await.unwrap());
        let (won, lost) = match one {
            Ok(won) => (won, other),
            lost => (other.expect("one of two writers wins"), lost),
        };
        assert!(conflict(&lost.unwrap_err()), "two writers won round {round}");
        let read = registry.get("function/a/f", Read::Fresh).await.unwrap().unwrap();
        assert_eq!((read.revision, read.value), won);
        assert!(won.0 > revision);
        revision = won.0;
    }
}

async fn a_repeat_returns_the_first_result(place: Place) {
    let registry = place.registry();
    let first = registry.put("tenant/a", json!(1), Expect::Absent, "put-1").await.unwrap();
    assert_eq!(registry.put("tenant/a", json!(1), Expect::Absent, "put-1").await, Ok(first));
    assert_eq!(registry.put("tenant/a", json!(1), Expect::At(first), "put-1").await, Ok(first));
    let other = registry.put("tenant/a", json!(2), Expect::At(first), "put-1").await.unwrap_err();
    assert_eq!(other, StoreError::Rejected(Rejected::IdempotencyReused));
    let gone = registry.delete("tenant/a", first, "delete-1").await.unwrap();
    assert_eq!(registry.delete("tenant/a", first, "delete-1").await, Ok(gone));
    assert_eq!(registry.put("tenant/a", json!(1), Expect::Absent, "put-1").await, Ok(first));
    assert_eq!(registry.get("tenant/a", Read::Fresh).await, Ok(None), "a repeat had an effect");
    let jobs = place.jobs();
    let id = jobs.enqueue("sweep", json!("x"), "job-1").await.unwrap();
    assert_eq!(jobs.enqueue("sweep", json!("x"), "job-1").await, Ok(id));
    let other = jobs.enqueue("sweep", json!("y"), "job-1").await.unwrap_err();
    assert_eq!(other, StoreError::Rejected(Rejected::IdempotencyReused));
    assert_eq!(jobs.lease("sweep", 9, Duration::from_secs(1)).await.unwrap().len(), 1);
}

async fn a_blind_write_does_not_exist(place: Place) {
    let registry = place.registry();
    assert!(conflict(&registry.put("tenant/a", json!(1), Expect::At(1), "1").await.unwrap_err()));
    assert!(conflict(&registry.delete("tenant/a", 1, "2").await.unwrap_err()));
    let first = registry.put("tenant/a", json!(1), Expect::Absent, "3").await.unwrap();
    let refused = registry.put("tenant/a", json!(2), Expect::Absent, "4").await.unwrap_err();
    let found = Some(first);
    assert_eq!(refused, StoreError::Rejected(Rejected::Conflict { key: "tenant/a".to_owned(), found }));
    // What was refused left no trace: the same key may be used for what then works.
    assert!(registry.put("tenant/a", json!(2), Expect::At(first), "4").await.is_ok());
    assert!(registry.get("tenant/a", Read::AtLeast(first)).await.is_ok());
    let ahead = registry.get("tenant/a", Read::AtLeast(first + 9)).await.unwrap_err();
    assert!(matches!(ahead, StoreError::Unavailable(_)));
}

async fn lists_are_in_order_and_paged(place: Place) {
    let registry = place.registry();
    for name in ["function/b/x", "function/a/z", "function/a/y", "function/ab/x", "key/a"] {
        registry.put(name, json!(name), Expect::Absent, name).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = registry.list(prefix, after, limit).await.unwrap();
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(list("function/a/", None, 9).await, ["function/a/y", "function/a/z"]);
    assert_eq!(list("function/", Some("function/a/z"), 1).await, ["function/ab/x"]);
    assert_eq!(list("", None, 99).await.len(), 5);
    assert_eq!(list("nothing", None, 9).await, Vec::<String>::new());
}

type Seen = BTreeMap<String, (Revision, Value)>;

fn see(seen: &mut Seen, change: Change, last: &mut Revision) {
    let revision = match change {
        Change::Put(record) => {
            seen.insert(record.key, (record.revision, record.value));
            record.revision
        }
        Change::Deleted { key, revision } => {
            seen.remove(&key);
            revision
        }
        Change::Lagged => panic!("a watcher that keeps up was called slow"),
    };
    assert!(revision > *last, "revision {revision} came after {last}");
    *last = revision;
}

async fn write_many(registry: Arc<dyn Registry>) {
    let mut at: BTreeMap<u64, Revision> = BTreeMap::new();
    for number in 0..400_u64 {
        let (name, idem) = (number * number % 7, number.to_string());
        let key = format!("function/a/{name}");
        match at.get(&name).copied() {
            Some(revision) if number % 3 == 0 => {
                registry.delete(&key, revision, &idem).await.unwrap();
                at.remove(&name);
            }
            found => {
                let expect = found.map_or(Expect::Absent, Expect::At);
                at.insert(name, registry.put(&key, json!(number), expect, &idem).await.unwrap());
            }
        }
    }
}

async fn a_watch_misses_nothing_over_reconnects(place: Place) {
    let registry = place.registry();
    let writer = tokio::spawn(write_many(Arc::clone(&registry)));
    let (mut seen, mut last, mut connections) = (Seen::new(), 0, 0);
    loop {
        let mut watch = registry.watch("function/a/", last).await.unwrap();
        connections += 1;
        let over = writer.is_finished();
        for _ in 0..1 + connections % 40 {
            match tokio::time::timeout(Duration::from_millis(50), watch.recv()).await {
                Ok(change) => see(&mut seen, change.expect("the registry goes on"), &mut last),
                Err(_) => break,
            }
        }
        if over && last == registry.revision().await.unwrap() {
            break;
        }
    }
    writer.await.unwrap();
    let there = registry.list("function/a/", None, 99).await.unwrap();
    let there: Seen = there.into_iter().map(|record| (record.key, (record.revision, record.value))).collect();
    assert_eq!(seen, there);
    assert!(connections > 1);
}

async fn a_slow_watcher_is_told(place: Place) {
    let registry = place.registry();
    let mut watch = registry.watch("", 0).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..1_500 {
        let registry = Arc::clone(&registry);
        writes.spawn(async move {
            let key = format!("function/a/{number}");
            registry.put(&key, json!(number), Expect::Absent, &key).await.unwrap()
        });
    }
    writes.join_all().await;
    let (mut seen, mut last, mut told) = (Seen::new(), 0, false);
    while let Some(change) = watch.recv().await {
        match change {
            Change::Lagged => told = true,
            change => see(&mut seen, change, &mut last),
        }
    }
    assert!(told, "a gap was silent");
    assert!(last < 1_500);
}

async fn a_watch_from_another_time_starts_over(place: Place) {
    let mut watch = place.registry().watch("", 77).await.unwrap();
    assert_eq!(watch.recv().await, Some(Change::Lagged));
    assert_eq!(watch.recv().await, None);
}

async fn a_lost_lease_is_given_on_and_its_token_refused(place: Place) {
    let (jobs, ttl) = (place.jobs(), Duration::from_secs(10));
    jobs.enqueue("q", json!({ "chunk": 1 }), "1").await.unwrap();
    let first = jobs.lease("q", 5, ttl).await.unwrap().pop().expect("a job");
    assert!(jobs.lease("q", 5, ttl).await.unwrap().is_empty(), "a held job was given to another");
    place.clock.advance(Duration::from_secs(6));
    jobs.extend(&first, ttl).await.unwrap();
    place.clock.advance(Duration::from_secs(6));
    assert!(jobs.lease("q", 5, ttl).await.unwrap().is_empty(), "an extended lease ran out");
    place.clock.advance(Duration::from_secs(6));
    let second = jobs.lease("q", 5, ttl).await.unwrap().pop().expect("the job again");
    assert!(second.token > first.token);
    assert_eq!((second.job.attempts, &second.job.payload), (2, &first.job.payload));
    let lost = StoreError::Rejected(Rejected::LeaseLost);
    assert_eq!(jobs.ack(&first).await, Err(lost.clone()));
    assert_eq!(jobs.nack(&first, ttl).await, Err(lost.clone()));
    assert_eq!(jobs.extend(&first, ttl).await, Err(lost.clone()));
    assert_eq!(jobs.ack(&second).await, Ok(()));
    assert_eq!(jobs.ack(&second).await, Err(lost));
}

async fn a_job_is_dead_after_four_attempts(place: Place) {
    let (jobs, ttl) = (place.jobs(), Duration::from_secs(10));
    jobs.enqueue("q", json!("fails"), "1").await.unwrap();
    jobs.enqueue("q", json!("hangs"), "2").await.unwrap();
    for attempt in 1..=4 {
        let leased = jobs.lease("q", 5, ttl).await.unwrap();
        assert_eq!(leased.iter().map(|leased| leased.job.attempts).collect::<Vec<_>>(), [attempt, attempt]);
        jobs.nack(&leased[0], Duration::from_secs(3)).await.unwrap();
        assert!(jobs.lease("q", 5, ttl).await.unwrap().is_empty());
        place.clock.advance(ttl);
    }
    assert!(jobs.lease("q", 5, ttl).await.unwrap().is_empty());
    let dead = jobs.dead("q").await.unwrap();
    assert_eq!(dead.iter().map(|job| (job.id, job.attempts)).collect::<Vec<_>>(), [(1, 4), (2, 4)]);
}

async fn leases_end_with_the_process(mut place: Place) {
    let ttl = Duration::from_secs(3_600);
    place.jobs().enqueue("q", json!(1), "1").await.unwrap();
    let before = place.jobs().lease("q", 1, ttl).await.unwrap().pop().expect("a job");
    place.reopen().await;
    let after = place.jobs().lease("q", 1, ttl).await.unwrap().pop().expect("the job again");
    assert!(after.token > before.token);
    assert!(place.jobs().ack(&before).await.is_err());
}

async fn leases_do_not_follow_the_calendar(place: Place) {
    let (jobs, ttl) = (place.jobs(), Duration::from_secs(10));
    jobs.enqueue("q", json!(1), "1").await.unwrap();
    let held = jobs.lease("q", 1, ttl).await.unwrap().pop().expect("a job");
    for wall_ms in [0, super::place::BEGIN_MS + 86_400_000, super::place::BEGIN_MS - 86_400_000] {
        place.clock.set_wall_ms(wall_ms);
        assert!(jobs.lease("q", 1, ttl).await.unwrap().is_empty(), "the calendar ended a lease");
    }
    assert_eq!(jobs.ack(&held).await, Ok(()));
}

async fn bytes_of_another_digest_are_never_seen(place: Place) {
    let blobs = place.blobs();
    let (good, bad) = (sha256(b"good"), sha256(b"bad"));
    let refused = blobs.put(source(b"bad"), 99, Some(&good)).await.unwrap_err();
    let wrong = Rejected::WrongDigest { wanted: good.clone(), found: bad.clone() };
    assert_eq!(refused, StoreError::Rejected(wrong));
    for digest in [&good, &bad] {
        let absent = blobs.open(digest, true).await.unwrap_err();
        assert!(matches!(absent, StoreError::Rejected(Rejected::Absent(_))), "{absent}");
    }
    let stored = blobs.put(source(b"good"), 99, Some(&good)).await.unwrap();
    assert_eq!((stored.bytes, &stored.digest), (4, &good));
    assert_eq!(std::fs::read(&stored.path).unwrap(), b"good");
    assert_eq!(blobs.put(source(b"good"), 99, None).await, Ok(stored.clone()));
    assert_eq!(blobs.open(&good, true).await, Ok(stored));
    assert_eq!(blobs.usage().await, Ok((4, 1)));
    assert!(matches!(blobs.open("../x", false).await, Err(StoreError::Rejected(Rejected::Invalid(_)))));
}

async fn blobs_end_at_their_limit(place: Place) {
    let blobs = place.blobs();
    let large = vec![7; 3_000_000];
    let limit = large.len() as u64;
    assert!(blobs.put(source(&large), limit, None).await.is_ok());
    let refused = blobs.put(source(&large), limit - 1, None).await.unwrap_err();
    assert_eq!(refused, StoreError::Rejected(Rejected::TooLarge { limit: limit - 1 }));
    let endless = Box::pin(tokio::io::repeat(1));
    assert!(blobs.put(endless, 5_000_000, None).await.is_err());
    assert_eq!(blobs.usage().await.unwrap().1, 1);
}

async fn only_old_blobs_that_nobody_names_go(place: Place) {
    let blobs = place.blobs();
    let named = blobs.put(source(b"named"), 99, None).await.unwrap().digest;
    let loose = blobs.put(source(b"loose"), 99, None).await.unwrap().digest;
    let keep = [named.clone()];
    let young = blobs.delete_unreferenced(&keep, Duration::from_secs(3_600)).await.unwrap();
    assert!(young.is_empty(), "a blob went before its record could come");
    assert_eq!(blobs.delete_unreferenced(&keep, Duration::ZERO).await, Ok(vec![loose.clone()]));
    assert!(blobs.open(&named, true).await.is_ok());
    assert!(blobs.open(&loose, false).await.is_err());
}

async fn names_that_could_be_paths_are_refused(place: Place) {
    let long = "x".repeat(129);
    for key in ["", "/", "a//b", "../a", "a/..", "a/./b", "a b", "a\0b", "a%2fb", "ä", "a/", &long] {
        let refused = place.registry().put(key, json!(1), Expect::Absent, "1").await.unwrap_err();
        assert!(matches!(refused, StoreError::Rejected(Rejected::Invalid(_))), "{key:?}: {refused}");
        assert!(place.jobs().enqueue(key, json!(1), "1").await.is_err(), "{key:?}");
    }
    for idem in ["", "a b", "\n", &long] {
        assert!(place.registry().put("a", json!(1), Expect::Absent, idem).await.is_err(), "{idem:?}");
    }
    let large = json!("x".repeat(1 << 20));
    let refused = place.registry().put("a", large, Expect::Absent, "1").await.unwrap_err();
    assert!(matches!(refused, StoreError::Rejected(Rejected::TooLarge { .. })));
}
