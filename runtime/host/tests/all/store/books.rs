//! Books and functions' state, one body for both back ends, and the ledger in front of a book.

use super::Place;
use super::place::BEGIN_MS;
use coldframe_host::records::Names;
use coldframe_host::store::flaky::Flaky;
use coldframe_host::store::journal::{Amounts, Book, Filter, Page, Row};
use coldframe_host::store::ledger::Ledger;
use coldframe_host::store::state::StateQuota;
use coldframe_host::store::{Rejected, StoreError};
use serde_json::json;

fn row(number: u64, tenant: &str, function: &str) -> Row {
    Row {
        name: format!("r-{number}"),
        at_ms: BEGIN_MS + number,
        tenant: tenant.to_owned(),
        function: Some(function.to_owned()),
        kind: if number.is_multiple_of(2) { "request" } else { "residency" }.to_owned(),
        amounts: Amounts {
            prompt_tokens: number,
            completion_tokens: 1,
            device_ns: 10,
            nanodollars: 100 * number,
        },
        payload: json!({ "number": number }),
    }
}

fn of(tenant: &str) -> Filter {
    Filter { tenant: Some(tenant.to_owned()), ..Filter::default() }
}

async fn books_are_paged_and_summed(place: Place) {
    let journal = place.journal();
    let rows: Vec<Row> = (0..10).map(|number| row(number, ["a", "b"][number as usize % 2], "f")).collect();
    journal.append(Book::Ledger, rows.clone()).await.unwrap();
    // A repeat after an unknown outcome adds nothing, and the same name in another book is another row.
    journal.append(Book::Ledger, rows[..5].to_vec()).await.unwrap();
    journal.append(Book::Audit, rows[..1].to_vec()).await.unwrap();
    let page = journal.query(Book::Ledger, of("a"), Page::After(0), 3).await.unwrap();
    assert_eq!(page.iter().map(|entry| &entry.row).collect::<Vec<_>>(), [&rows[0], &rows[2], &rows[4]]);
    let rest = journal.query(Book::Ledger, of("a"), Page::After(page[2].number), 3).await.unwrap();
    assert_eq!(rest.iter().map(|entry| &entry.row).collect::<Vec<_>>(), [&rows[6], &rows[8]]);
    let newest = journal.query(Book::Ledger, Filter::default(), Page::Before(u64::MAX), 1).await.unwrap();
    assert_eq!(newest[0].row, rows[9]);
    let between = Filter { from_ms: Some(BEGIN_MS + 2), until_ms: Some(BEGIN_MS + 5), ..Filter::default() };
    let sums = journal.sums(Book::Ledger, between).await.unwrap();
    let found: Vec<_> = sums.iter().map(|sum| (&*sum.tenant, sum.rows, sum.amounts.nanodollars)).collect();
    assert_eq!(found, [("a", 2, 600), ("b", 1, 300)]);
    assert_eq!(journal.trim(Book::Ledger, BEGIN_MS + 8).await, Ok(8));
    assert_eq!(journal.query(Book::Ledger, Filter::default(), Page::After(0), 99).await.unwrap().len(), 2);
    assert_eq!(journal.query(Book::Audit, Filter::default(), Page::After(0), 99).await.unwrap().len(), 1);
}

async fn state_is_walled_and_limited(mut place: Place) {
    let names = |tenant: &str| Names { tenant: tenant.to_owned(), function: "f".to_owned() };
    let (a, b) = (names("a"), names("b"));
    let quota = StateQuota { keys: 3, bytes: 40, value_bytes: 20 };
    let state = place.state();
    state.set(&a, "k", b"one".to_vec(), quota).await.unwrap();
    state.set(&a, "k", b"two".to_vec(), quota).await.unwrap();
    state.set(&b, "k", b"theirs".to_vec(), quota).await.unwrap();
    assert_eq!(state.get(&a, "k").await, Ok(Some(b"two".to_vec())));
    let large = state.set(&a, "l", vec![0; 21], quota).await.unwrap_err();
    assert_eq!(large, StoreError::Rejected(Rejected::TooLarge { limit: 20 }));
    state.set(&a, "l", vec![0; 20], quota).await.unwrap();
    let full = state.set(&a, "m", vec![0; 20], quota).await.unwrap_err();
    assert_eq!(full, StoreError::Rejected(Rejected::TooLarge { limit: 40 }));
    state.set(&a, "%", vec![], quota).await.unwrap();
    assert!(state.set(&a, "n", vec![], quota).await.is_err(), "a fourth key");
    assert_eq!(state.keys(&a, "", 99).await.unwrap(), ["%", "k", "l"]);
    assert_eq!(state.keys(&a, "%", 99).await.unwrap(), ["%"]);
    state.delete(&a, "l").await.unwrap();
    state.delete(&a, "l").await.unwrap();
    state.set(&a, "m", vec![0; 20], quota).await.unwrap();
    drop(state);
    place.reopen().await;
    let state = place.state();
    assert_eq!(state.keys(&a, "", 99).await.unwrap(), ["%", "k", "m"]);
    state.forget(&a).await.unwrap();
    assert_eq!(state.keys(&a, "", 99).await, Ok(vec![]));
    assert_eq!(state.get(&b, "k").await, Ok(Some(b"theirs".to_vec())));
    state.set(&a, "m", vec![0; 20], quota).await.unwrap();
}

#[tokio::test]
async fn books_in_memory() {
    books_are_paged_and_summed(Place::memory()).await;
}

#[tokio::test]
async fn books_in_sqlite() {
    books_are_paged_and_summed(Place::local().await).await;
}

#[tokio::test]
async fn state_in_memory() {
    state_is_walled_and_limited(Place::memory()).await;
}

#[tokio::test]
async fn state_in_sqlite() {
    state_is_walled_and_limited(Place::local().await).await;
}

#[tokio::test]
async fn what_the_ledger_flushed_is_there_after_a_restart() {
    let mut place = Place::local().await;
    let ledger = Ledger::start(place.journal(), Book::Ledger);
    for number in 0..5_000 {
        assert!(ledger.record(row(number, "a", "f")));
    }
    ledger.flush().await.unwrap();
    assert!(ledger.record(row(5_000, "a", "f")));
    ledger.close().await;
    assert!(!ledger.record(row(5_001, "a", "f")), "a closed ledger took a row");
    place.reopen().await;
    let sums = place.journal().sums(Book::Ledger, Filter::default()).await.unwrap();
    assert_eq!(sums[0].rows, 5_001);
}

#[tokio::test]
async fn rows_of_unknown_fate_are_written_once() {
    let place = Place::memory();
    let journal = std::sync::Arc::new(Flaky::new(place.journal(), 5, 2));
    let ledger = Ledger::start(journal, Book::Ledger);
    for number in 0..100 {
        assert!(ledger.record(row(number, "a", "f")));
        while ledger.flush().await.is_err() {}
    }
    let sums = place.journal().sums(Book::Ledger, Filter::default()).await.unwrap();
    assert_eq!((sums[0].rows, sums[0].amounts.prompt_tokens), (100, 99 * 50));
    assert_eq!(ledger.lost(), 0);
}

#[tokio::test]
async fn a_row_that_is_refused_does_not_hold_up_the_others() {
    let place = Place::memory();
    let ledger = Ledger::start(place.journal(), Book::Ledger);
    let mut large = row(1, "a", "f");
    large.payload = json!("x".repeat(2 << 20));
    for row in [row(0, "a", "f"), large, row(2, "a", "f")] {
        assert!(ledger.record(row));
    }
    ledger.flush().await.unwrap();
    assert_eq!(place.journal().sums(Book::Ledger, Filter::default()).await.unwrap()[0].rows, 2);
    assert_eq!(ledger.lost(), 1);
}
