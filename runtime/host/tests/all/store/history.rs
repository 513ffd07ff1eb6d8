//! Random histories of ten thousand steps, against the model: every answer is the model's, whatever the line does and
//! however often the store is opened again.

use super::Place;
use coldframe_host::store::flaky::Flaky;
use coldframe_host::store::{Expect, Jobs, Leased, Read, Registry, Result, StoreError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use std::time::Duration;

/// Steps of a history.
const STEPS: usize = 10_000;

/// What a step expects of a record.
#[derive(Debug, Clone, Copy)]
enum Hope {
    Absent,
    Right,
    Wrong,
}

#[derive(Debug, Clone)]
enum Step {
    Put { name: u8, value: u8, hope: Hope, idem: u16 },
    Delete { name: u8, hope: Hope, idem: u16 },
    Get { name: u8 },
    List { limit: u8 },
    Enqueue { value: u8, idem: u16 },
    Lease { n: u8, seconds: u8 },
    Ack { which: u8 },
    Nack { which: u8, seconds: u8 },
    Extend { which: u8, seconds: u8 },
    Dead,
    Pass { seconds: u8 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let hope = || prop_oneof![3 => Just(Hope::Right), 2 => Just(Hope::Absent), 1 => Just(Hope::Wrong)];
    let (name, small, idem) = (|| 0..6_u8, any::<u8>, || 0..2_000_u16);
    prop_oneof![
        30 => (name(), 0..4_u8, hope(), idem())
            .prop_map(|(name, value, hope, idem)| Step::Put { name, value, hope, idem }),
        10 => (name(), hope(), idem()).prop_map(|(name, hope, idem)| Step::Delete { name, hope, idem }),
        10 => name().prop_map(|name| Step::Get { name }),
        5 => (0..8_u8).prop_map(|limit| Step::List { limit }),
        10 => (0..4_u8, idem()).prop_map(|(value, idem)| Step::Enqueue { value, idem }),
        10 => (0..4_u8, 1..9_u8).prop_map(|(n, seconds)| Step::Lease { n, seconds }),
        10 => small().prop_map(|which| Step::Ack { which }),
        5 => (small(), 0..9_u8).prop_map(|(which, seconds)| Step::Nack { which, seconds }),
        3 => (small(), 1..9_u8).prop_map(|(which, seconds)| Step::Extend { which, seconds }),
        1 => Just(Step::Dead),
        5 => (0..5_u8).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Reopen),
    ]
}

/// Asks until the answer is known, as whoever uses a store has to.
async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    loop {
        match ask().await {
            Err(StoreError::Unknown(_)) => {}
            answer => return answer,
        }
    }
}

/// Registry and jobs of a place behind a line of some quality.
struct Line {
    registry: Flaky<dyn Registry>,
    queue: Flaky<dyn Jobs>,
}

impl Line {
    fn new(place: &Place, seed: u64, one_in: u64) -> Self {
        Self {
            registry: Flaky::new(place.registry(), seed, one_in),
            queue: Flaky::new(place.jobs(), seed + 1, one_in),
        }
    }

    async fn put(&self, name: u8, value: u8, expect: Expect, idem: u16) -> Result<u64> {
        let (key, idem) = (format!("function/a/{name}"), idem.to_string());
        insist(async || self.registry.put(&key, json!(value), expect, &idem).await).await
    }

    async fn delete(&self, name: u8, expect: u64, idem: u16) -> Result<u64> {
        let (key, idem) = (format!("function/a/{name}"), idem.to_string());
        insist(async || self.registry.delete(&key, expect, &idem).await).await
    }

    async fn enqueue(&self, value: u8, idem: u16) -> Result<u64> {
        insist(async || self.queue.enqueue("q", json!(value), &idem.to_string()).await).await
    }

    /// Leases have no idempotency key: a lost answer costs an attempt. So they go over the good line.
    fn jobs(&self) -> &dyn Jobs {
        &**self.queue.inner()
    }
}

/// The place under test and the model, moved together.
struct Pair {
    model: (Place, Line),
    real: (Place, Line),
    leased: Vec<Leased>,
    one_in: u64,
    reopened: u64,
}

macro_rules! both {
    ($pair:ident, $line:ident => $ask:expr) => {{
        let wanted = {
            let $line = &$pair.model.1;
            $ask
        };
        let found = {
            let $line = &$pair.real.1;
            $ask
        };
        assert_eq!(found, wanted);
        found
    }};
}

impl Pair {
    fn new(real: Place, one_in: u64) -> Self {
        let model = Place::memory();
        let good = Line::new(&model, 0, u64::MAX);
        let line = Line::new(&real, 1, one_in);
        Self { model: (model, good), real: (real, line), leased: Vec::new(), one_in, reopened: 0 }
    }

    async fn revision(&self, name: u8) -> Option<u64> {
        let record = self.model.1.registry.get(&format!("function/a/{name}"), Read::Fresh).await;
        record.expect("the model answers").map(|record| record.revision)
    }

    async fn expect(&self, name: u8, hope: Hope) -> Expect {
        match (hope, self.revision(name).await) {
            (Hope::Absent, _) | (Hope::Right, None) => Expect::Absent,
            (Hope::Right, Some(revision)) => Expect::At(revision),
            (Hope::Wrong, revision) => Expect::At(revision.unwrap_or(0) + 1),
        }
    }

    fn leased(&self, which: u8) -> Option<Leased> {
        self.leased.get(usize::from(which) % self.leased.len().max(1)).cloned()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Put { name, value, hope, idem } => {
                let expect = self.expect(name, hope).await;
                let _ = both!(self, line => line.put(name, value, expect, idem).await);
            }
            Step::Delete { name, hope, idem } => {
                let Expect::At(revision) = self.expect(name, hope).await else { return };
                let _ = both!(self, line => line.delete(name, revision, idem).await);
            }
            Step::Get { name } => {
                let key = format!("function/a/{name}");
                let _ = both!(self, line => line.registry.get(&key, Read::Fresh).await);
                let _ = both!(self, line => line.registry.revision().await);
            }
            Step::List { limit } => {
                let _ = both!(self, line => line.registry.list("function/", None, limit.into()).await);
            }
            other => self.step_of_jobs(other).await,
        }
    }

    async fn step_of_jobs(&mut self, step: Step) {
        let seconds = |seconds: u8| Duration::from_secs(seconds.into());
        match step {
            Step::Enqueue { value, idem } => drop(both!(self, line => line.enqueue(value, idem).await)),
            Step::Lease { n, seconds: ttl } => {
                let leased = both!(self, line => line.jobs().lease("q", n.into(), seconds(ttl)).await);
                self.leased.extend(leased.expect("a lease"));
                let past = self.leased.len().saturating_sub(8);
                self.leased.drain(..past);
            }
            Step::Ack { which } => {
                let Some(leased) = self.leased(which) else { return };
                let _ = both!(self, line => line.jobs().ack(&leased).await);
            }
            Step::Nack { which, seconds: after } => {
                let Some(leased) = self.leased(which) else { return };
                let _ = both!(self, line => line.jobs().nack(&leased, seconds(after)).await);
            }
            Step::Extend { which, seconds: ttl } => {
                let Some(leased) = self.leased(which) else { return };
                let _ = both!(self, line => line.jobs().extend(&leased, seconds(ttl)).await);
            }
            Step::Dead => drop(both!(self, line => line.jobs().dead("q").await)),
            Step::Pass { seconds: passed } => {
                self.model.0.clock.advance(seconds(passed));
                self.real.0.clock.advance(seconds(passed));
            }
            Step::Reopen => self.reopen().await,
            _ => unreachable!("a step of the registry"),
        }
    }

    async fn reopen(&mut self) {
        self.reopened += 1;
        let nothing = Place::memory();
        self.real.1 = Line::new(&nothing, 0, 1);
        self.model.0.reopen().await;
        self.real.0.reopen().await;
        self.real.1 = Line::new(&self.real.0, self.reopened, self.one_in);
    }

    /// All of both, at the end.
    async fn compare(&mut self) {
        let _ = both!(self, line => line.registry.list("", None, usize::MAX).await);
        let _ = both!(self, line => line.jobs().dead("q").await);
        self.model.0.clock.advance(Duration::from_secs(99));
        self.real.0.clock.advance(Duration::from_secs(99));
        let _ = both!(self, line => line.jobs().lease("q", usize::MAX, Duration::from_secs(1)).await);
    }
}

fn histories(one_in: u64, place: impl AsyncFn() -> Place) {
    let config = Config { cases: 1, max_shrink_iters: 32, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    TestRunner::new(config)
        .run(&proptest::collection::vec(step(), STEPS), |steps| {
            runtime.block_on(async {
                let mut pair = Pair::new(place().await, one_in);
                for step in steps {
                    pair.step(step).await;
                }
                pair.compare().await;
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn memory_over_a_bad_line_answers_as_over_a_good_one() {
    histories(3, async || Place::memory());
}

#[test]
fn sqlite_answers_as_the_model() {
    histories(u64::MAX, Place::local);
}

#[test]
fn sqlite_over_a_bad_line_answers_as_the_model() {
    histories(3, Place::local);
}
