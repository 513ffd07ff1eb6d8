//! Kill -9 at random moments: what was acknowledged is there, what was not is absent or whole, blobs are what they say.
//!
//! The parent runs this binary again as a child that registers, replaces, rolls back, deletes and writes ledger rows, and
//! says so before and after each; it kills the child and looks at what is left. `COLDFRAME_KILL_ROUNDS` sets how often.

use super::place::folder;
use coldframe_host::store::clock::SystemClock;
use coldframe_host::store::journal::{Amounts, Book, Filter, Page, Row};
use coldframe_host::store::{Expect, Read, Store};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Tells the child where the store is.
const PLACE: &str = "COLDFRAME_TEST_KILL";
/// Tells the child's random stream.
const SEED: &str = "COLDFRAME_TEST_KILL_SEED";
/// Rounds on one store; then a new one, so that the cost of a round does not grow with their number.
const ROUNDS_OF_A_STORE: u64 = 25;
/// Writers at once, each with a function of its own.
const LANES: usize = 4;

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{line}").and_then(|()| out.flush()).expect("the parent listens");
}

fn key(lane: usize) -> String {
    format!("function/a/f{lane}")
}

/// A ledger row whose payload follows from its name, so that a torn one is known.
fn row(name: &str) -> Row {
    Row {
        name: name.to_owned(),
        at_ms: 1,
        tenant: "a".to_owned(),
        function: None,
        kind: "request".to_owned(),
        amounts: Amounts { prompt_tokens: name.len() as u64, ..Amounts::default() },
        payload: json!({ "copy": name, "fill": "y".repeat(300) }),
    }
}

/// One writer: forever one change after the other.
async fn lane(store: Arc<Store>, lane: usize, seed: u64) {
    let registry = store.registry();
    let mut before: Option<Value> = None;
    for step in 0_u64.. {
        let draw = mix(seed.wrapping_add(step.wrapping_mul(0x9e37_79b9)).wrapping_add((lane as u64) << 40));
        let idem = format!("{seed}-{lane}-{step}");
        let found = registry.get(&key(lane), Read::Fresh).await.expect("a read");
        let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::At(found.revision));
        if draw.is_multiple_of(4) {
            say(&json!({ "try": "row", "name": idem }));
            store.journal().append(Book::Ledger, vec![row(&idem)]).await.expect("a row");
            say(&json!({ "ack": "row", "name": idem }));
            continue;
        }
        if let (Expect::At(revision), 1) = (expect, draw % 4) {
            say(&json!({ "try": "record", "lane": lane, "value": null }));
            registry.delete(&key(lane), revision, &idem).await.expect("a removal");
            say(&json!({ "ack": "record", "lane": lane, "value": null }));
            continue;
        }
        // A rollback writes an earlier value again; anything else a new one with a blob of its own.
        let value = match before.take() {
            Some(before) if draw % 8 == 2 => before,
            _ => {
                let content = vec![(draw >> 8) as u8; (draw >> 16) as usize % 100_000];
                let source = Box::pin(std::io::Cursor::new(content));
                let blob = store.blobs().put(source, 1 << 20, None).await.expect("a blob");
                say(&json!({ "ack": "blob", "digest": blob.digest }));
                json!({ "step": idem, "blob": blob.digest })
            }
        };
        say(&json!({ "try": "record", "lane": lane, "value": value }));
        registry.put(&key(lane), value.clone(), expect, &idem).await.expect("a change");
        say(&json!({ "ack": "record", "lane": lane, "value": value }));
        before = found.map(|found| found.value);
    }
}

/// The child's side; nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(path) = std::env::var(PLACE) else { return };
    let seed = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let clock = Arc::new(SystemClock::default());
    let store = Arc::new(Store::open(Path::new(&path), clock).await.expect("a store that was killed opens"));
    let lanes: Vec<_> =
        (0..LANES).map(|number| tokio::spawn(lane(Arc::clone(&store), number, seed))).collect();
    for lane in lanes {
        lane.await.expect("a lane runs until it is killed");
    }
}

/// What must be there.
#[derive(Default)]
struct Promised {
    /// By lane: the last acknowledged value.
    records: BTreeMap<u64, Value>,
    /// By lane: what was begun and not acknowledged.
    begun: BTreeMap<u64, Value>,
    rows: BTreeSet<String>,
    blobs: BTreeSet<String>,
    acknowledged: u64,
}

impl Promised {
    fn hear(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        let lane = line["lane"].as_u64();
        self.acknowledged += u64::from(line["ack"].is_string());
        match (line["try"].as_str(), line["ack"].as_str(), lane) {
            (Some("record"), _, Some(lane)) => drop(self.begun.insert(lane, line["value"].clone())),
            (_, Some("record"), Some(lane)) => {
                self.begun.remove(&lane);
                self.records.insert(lane, line["value"].clone());
            }
            (_, Some("row"), _) => drop(self.rows.insert(text("name"))),
            (_, Some("blob"), _) => drop(self.blobs.insert(text("digest"))),
            _ => {}
        }
    }

    /// Compares with what is there, and takes over what turned out to have happened.
    async fn check(&mut self, store: &Store) {
        for lane in 0..LANES as u64 {
            let found = store.registry().get(&key(lane as usize), Read::Fresh).await.expect("a read");
            let found = found.map_or(Value::Null, |found| found.value);
            let wanted = self.records.get(&lane).cloned().unwrap_or(Value::Null);
            let begun = self.begun.remove(&lane);
            assert!(
                found == wanted || Some(&found) == begun.as_ref(),
                "lane {lane}: {found}, not {wanted} nor {begun:?}"
            );
            self.records.insert(lane, found);
        }
        let rows = store.journal().query(Book::Ledger, Filter::default(), Page::After(0), usize::MAX).await;
        let mut rows: BTreeMap<String, Row> =
            rows.expect("a read").into_iter().map(|entry| (entry.row.name.clone(), entry.row)).collect();
        for name in &self.rows {
            assert_eq!(rows.remove(name), Some(row(name)), "an acknowledged row");
        }
        for (name, found) in rows {
            assert_eq!(found, row(&name), "a row without acknowledgement is there in part");
            self.rows.insert(name);
        }
        for digest in &self.blobs {
            store.blobs().open(digest, true).await.expect("an acknowledged blob");
        }
        assert_eq!(store.check().await.expect("a check").problems, Vec::<String>::new());
    }
}

fn start(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "store::kill::child", "--nocapture"])
        .env(PLACE, path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child")
}

/// Lets the child work for a while after its first word, or only start, kills it, and returns all it said.
fn kill_after(mut child: Child, patience: Option<Duration>, startup: Duration) -> Vec<Value> {
    let out = child.stdout.take().expect("a pipe");
    let (first, heard) = std::sync::mpsc::channel();
    let listener = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        let words = lines.filter_map(|line| serde_json::from_str(line.strip_prefix('@')?).ok());
        words.inspect(|_| first.send(()).unwrap_or_default()).collect::<Vec<Value>>()
    });
    // Without patience the child is killed somewhere in its start.
    let begun = patience.is_none() || heard.recv_timeout(Duration::from_secs(60)).is_ok();
    std::thread::sleep(patience.unwrap_or(startup));
    child.kill().expect("a child that runs");
    let output = child.wait_with_output().expect("an end");
    let words = listener.join().expect("a listener");
    assert!(begun, "the child said nothing: {}", String::from_utf8_lossy(&output.stderr));
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let rounds =
        std::env::var("COLDFRAME_KILL_ROUNDS").map_or(25, |rounds| rounds.parse().expect("a number"));
    let (mut home, mut promised, mut acknowledged) = (folder(), Promised::default(), 0);
    for round in 0..rounds {
        if round % ROUNDS_OF_A_STORE == 0 {
            acknowledged += std::mem::take(&mut promised).acknowledged;
            home = folder();
        }
        let path = home.path().join("data");
        let working = Duration::from_micros(mix(round) % 80_000);
        let patience = (!round.is_multiple_of(5)).then_some(working);
        for line in kill_after(start(&path, round), patience, working / 2) {
            promised.hear(&line);
        }
        let store = Store::open(&path, Arc::new(SystemClock::default()))
            .await
            .expect("a store that was killed opens");
        promised.check(&store).await;
        let drafts = std::fs::read_dir(path.join("blobs/sha256")).expect("a folder").flatten();
        assert!(!drafts.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".draft")));
    }
    acknowledged += promised.acknowledged;
    println!("\nrounds {rounds}, acknowledged {acknowledged}, lost 0");
    assert!(acknowledged > rounds, "the children did next to nothing");
}
