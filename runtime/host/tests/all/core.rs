//! The task that owns the core, with workers that obey: order, bounds, memory, and that no request is ever lost.

use crate::calls::listen;
use crate::fakes::{ADAPTER, Bench, Fakes, call_of, generation, names, plausible, policy, until};
use coldframe_host::call::{Answer, Call, CallError, Caller, Cold};
use coldframe_host::live::core::{CatalogChange, LiveError, Sleep, State};
use coldframe_host::meter::LedgerRow;
use coldframe_host::records::{Generation, Settings};
use coldframe_policy::artifact::Tier;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PRESETS: [&str; 5] = ["coldframe", "serverlesslora", "vllm", "instainfer", "serverlessllm"];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn state(bench: &Bench, f: u32) -> State {
    let seen = bench.live.residency().await.expect("it lives");
    seen.functions.iter().find(|row| row.key.names == names(f)).map_or(State::Unloaded, |row| row.state)
}

#[tokio::test]
async fn the_first_call_is_cold_and_the_second_warm() {
    for preset in PRESETS {
        let bench = Bench::new(policy(preset, &[]), 20, Fakes::open());
        bench.register(2);
        let start = Instant::now();
        let first = listen(bench.live.call(call_of(0)).await.expect(preset)).await;
        let (phases, cold) = first.first.expect("a first token");
        plausible(&phases, start);
        assert!(cold != Cold::Warm, "{preset}: {cold:?}");
        until("it is done", async || bench.live.residency().await.expect("it lives").running == 0).await;
        let second = listen(bench.live.call(call_of(0)).await.expect(preset)).await;
        assert_eq!(second.first.expect("a first token").1, Cold::Warm, "{preset}");
        until("both ended", async || bench.live.residency().await.expect("it lives").counters.ended == 2)
            .await;
        let seen = bench.live.residency().await.expect("it lives");
        let row = &seen.functions[0];
        assert_eq!((row.tier, row.state, row.leases), (Tier::Device, State::Loaded, 0), "{preset}");
        assert_eq!(seen.counters.loads["adapter/disk/ok"], 1, "{preset}: {:?}", seen.counters);
        let rows = bench.ledger.rows();
        assert_eq!(rows.iter().filter(|row| matches!(row, LedgerRow::Request(_))).count(), 2);
        assert!(bench.end().await > 0);
    }
}

#[tokio::test]
async fn a_cold_function_parks_a_bounded_number_and_tells_the_rest_when_to_come() {
    let bench = Bench::new(policy("coldframe", &[("queue.limit", "2")]), 4, Fakes::gated(0, 100));
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let live = bench.live.clone();
            tokio::spawn(async move { live.call(call_of(0)).await.map(drop) })
        })
        .collect();
    until("two wait", async || bench.live.residency().await.expect("it lives").waiting == 2).await;
    match bench.live.call(call_of(0)).await.map(drop) {
        Err(CallError::Overloaded { code: "queue_full", retry_after, .. }) => {
            assert!(retry_after >= Duration::from_secs(1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&bench, 0).await, State::Loading);
    bench.fakes.loads.add_permits(1);
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(()));
    }
    bench.end().await;
}

#[tokio::test]
async fn no_more_calls_of_a_function_run_at_once_than_it_allows() {
    for preset in ["coldframe", "vllm"] {
        let bench = Bench::new(policy(preset, &[("queue.limit", "4")]), 20, Fakes::gated(0, 0));
        let bounded = || {
            let settings = Settings { max_concurrency: Some(2), ..Settings::default() };
            let generation = Arc::new(Generation { settings, ..(*generation(0)).clone() });
            Call { generation: Some(generation), ..call_of(0) }
        };
        let begin = || {
            let (live, call) = (bench.live.clone(), bounded());
            tokio::spawn(async move { heard(live.call(call).await).await })
        };
        let seen = async || bench.live.residency().await.expect("it lives");
        let mut calls = vec![begin(), begin()];
        // Together while cold: a policy may start no batch beside one that runs.
        until("two wait", async || seen().await.waiting == 2).await;
        bench.fakes.loads.add_permits(100);
        until("two run", async || seen().await.running == 2).await;
        calls.extend((0..4).map(|_| begin()));
        until("four wait", async || seen().await.waiting == 4).await;
        assert_eq!(seen().await.running, 2, "{preset}");
        match bench.live.call(bounded()).await.map(drop) {
            Err(CallError::Overloaded { code: "queue_full", retry_after, .. }) => {
                assert!(retry_after >= Duration::from_secs(1), "{preset}");
            }
            other => panic!("{preset}: {other:?}"),
        }
        // Another function is not in their way.
        let (live, other) = (bench.live.clone(), call_of(1));
        let other = tokio::spawn(async move { heard(live.call(other).await).await });
        until("the other runs", async || seen().await.running == 3).await;
        bench.fakes.ends.add_permits(7);
        for call in calls.into_iter().chain([other]) {
            assert!(call.await.expect("no panic"), "{preset}");
        }
        assert!(bench.end().await > 0);
    }
}

/// Whether a call was answered to its end.
async fn heard(answer: Result<Answer, CallError>) -> bool {
    let Ok(mut answer) = answer else { return false };
    let mut good = true;
    while let Some(event) = answer.events.recv().await {
        good &= event.is_ok();
    }
    good
}

#[tokio::test]
async fn who_goes_away_while_parked_leaves_room_for_others() {
    let bench = Bench::new(policy("coldframe", &[("queue.limit", "1")]), 4, Fakes::gated(0, 100));
    for _ in 0..5 {
        let call = bench.live.call(call_of(0));
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err(), "it waits");
        until("it left", async || bench.live.residency().await.expect("it lives").waiting == 0).await;
    }
    let late = Call { deadline: Instant::now() + Duration::from_millis(20), ..call_of(0) };
    let late = bench.live.call(late).await.map(drop);
    assert!(matches!(late, Err(CallError::Overloaded { code: "timed_out", .. })), "{late:?}");
    until("all left", async || bench.live.residency().await.expect("it lives").counters.cancelled == 6).await;
    bench.fakes.loads.add_permits(1);
    listen(bench.live.call(call_of(0)).await.expect("room")).await;
    bench.end().await;
}

#[tokio::test]
async fn more_functions_than_fit_take_turns_within_the_budget() {
    for preset in PRESETS {
        let settings: &[(&str, &str)] = match preset {
            "vllm" => &[
                ("engine.adapter_slots", "2"),
                ("engine.max_adapters", "2"),
                ("engine.memory_permille", "1000"),
            ],
            _ => &[],
        };
        let bench = Bench::new(policy(preset, settings), 2, Fakes::open());
        bench.register(6);
        for round in 0..3 {
            for f in 0..6 {
                let heard = listen(bench.live.call(call_of(f)).await.expect(preset)).await;
                assert!(heard.usage.is_some(), "{preset} {round} {f}: {:?}", heard.error);
            }
        }
        let seen = bench.live.residency().await.expect("it lives");
        assert!(seen.device.used <= seen.device.capacity);
        assert!(seen.counters.evictions.keys().any(|key| key.starts_with("adapter")), "{preset}");
        // A slot of a one-process engine is overwritten, so the old one may be held until its call has let go.
        let slack = u64::from(preset == "vllm");
        assert!(bench.fakes.live_max.load(Ordering::SeqCst) <= 2 + slack, "{preset}");
        bench.end().await;
    }
}

#[tokio::test]
async fn a_pinned_function_stays_and_a_sleeping_one_goes() {
    let bench = Bench::new(policy("coldframe", &[]), 2, Fakes::open());
    bench.register(5);
    let id = |n| generation(n).id.clone();
    bench.live.pin(&names(0), &id(0), true).await.expect("registered");
    until("it is in place", async || state(&bench, 0).await == State::Loaded).await;
    for f in 1..5 {
        listen(bench.live.call(call_of(f)).await.expect("room for one more")).await;
    }
    let seen = bench.live.residency().await.expect("it lives");
    let row = seen.functions.iter().find(|row| row.key.names == names(0)).expect("registered");
    assert!(row.pinned && row.tier == Tier::Device && row.device_bytes == ADAPTER);
    bench.live.sleep(&names(0), &id(0), Sleep::All).await.expect("registered");
    until("it sleeps", async || state(&bench, 0).await == State::Sleeping).await;
    bench.live.warm(&names(0), &id(0)).await.expect("registered");
    until("it woke", async || state(&bench, 0).await == State::Loaded).await;
    let unknown = bench.live.warm(&names(9), &id(9)).await;
    assert!(matches!(unknown, Err(LiveError::Unknown { .. })));
    bench.end().await;
}

#[tokio::test]
async fn who_finds_all_memory_pinned_waits_its_patience_or_until_it_is_let_go() {
    for preset in ["coldframe", "serverlesslora", "instainfer", "serverlessllm"] {
        let whole = ("engine.memory_permille", "1000");
        let impatient = policy(preset, &[whole, ("queue.patience_s", "0.2")]);
        let bench = Bench::new(impatient, 1, Fakes::open());
        bench.register(2);
        let id = generation(0).id.clone();
        bench.live.pin(&names(0), &id, true).await.expect("registered");
        until("it is in place", async || state(&bench, 0).await == State::Loaded).await;
        let late = bench.live.call(call_of(1)).await.map(drop);
        assert!(matches!(late, Err(CallError::Overloaded { code: "timed_out", .. })), "{preset}: {late:?}");
        bench.live.set_policy(policy(preset, &[whole])).await.expect("it lives");
        bench.live.warm(&names(0), &id).await.expect("registered");
        until("it is back in place", async || state(&bench, 0).await == State::Loaded).await;
        let live = bench.live.clone();
        let waiting = tokio::spawn(async move { live.call(call_of(1)).await });
        until("one waits", async || bench.live.residency().await.expect("it lives").waiting == 1).await;
        bench.live.pin(&names(0), &id, false).await.expect("registered");
        let answer = waiting.await.expect("no panic").expect(preset);
        assert!(listen(answer).await.usage.is_some(), "{preset}");
        bench.end().await;
    }
}

#[tokio::test]
async fn another_policy_takes_over_while_calls_run_and_wait() {
    for next in PRESETS {
        let bench = Bench::new(policy("coldframe", &[]), 20, Fakes::gated(1, 0));
        let running = bench.live.call(call_of(0)).await.expect("it is admitted");
        let live = bench.live.clone();
        let waiting = tokio::spawn(async move { live.call(call_of(1)).await });
        until("one waits", async || bench.live.residency().await.expect("it lives").waiting == 1).await;
        bench.live.set_policy(policy(next, &[])).await.expect("it lives");
        assert_eq!(bench.live.policy().await.expect("it lives").name, next);
        let seen = bench.live.residency().await.expect("it lives");
        assert!(seen.uses.leaving > 0, "{next}: what runs holds memory: {seen:?}");
        bench.fakes.loads.add_permits(100);
        bench.fakes.ends.add_permits(100);
        assert!(listen(running).await.usage.is_some(), "{next}: what ran went on");
        let waited = waiting.await.expect("no panic").expect(next);
        assert!(listen(waited).await.usage.is_some(), "{next}");
        until("all is let go", async || bench.live.residency().await.expect("it lives").uses.leaving == 0)
            .await;
        bench.end().await;
    }
}

#[tokio::test]
async fn a_failed_load_is_told_to_who_waits_and_tried_again_for_the_next() {
    for preset in PRESETS {
        let bench = Bench::new(policy(preset, &[]), 20, Fakes::open());
        bench.fakes.failing.store(1, Ordering::SeqCst);
        let failed = bench.live.call(call_of(0)).await.map(drop);
        assert_eq!(failed, Err(CallError::Start("the disk is on fire".to_owned())), "{preset}");
        bench.fakes.failing.store(0, Ordering::SeqCst);
        listen(bench.live.call(call_of(0)).await.expect(preset)).await;
        bench.end().await;
    }
}

#[tokio::test]
async fn removal_refuses_who_waits_and_draining_takes_no_more() {
    let bench = Bench::new(policy("coldframe", &[]), 4, Fakes::gated(1, 0));
    bench.register(2);
    let running = bench.live.call(call_of(0)).await.expect("admitted");
    let live = bench.live.clone();
    let waiting = tokio::spawn(async move { live.call(call_of(1)).await.map(drop) });
    until("one waits", async || bench.live.residency().await.expect("it lives").waiting == 1).await;
    let gone = CatalogChange::Removed { names: names(1), generation: generation(1).id.clone() };
    bench.live.apply(gone).expect("it lives");
    assert!(matches!(waiting.await.expect("no panic"), Err(CallError::Start(_))));
    let live = bench.live.clone();
    let drained = tokio::spawn(async move { live.drain().await });
    until("it drains", async || {
        matches!(
            bench.live.call(call_of(0)).await.map(drop),
            Err(CallError::Overloaded { code: "draining", .. })
        )
    })
    .await;
    assert!(!drained.is_finished());
    bench.fakes.ends.add_permits(1);
    assert!(listen(running).await.usage.is_some());
    drained.await.expect("no panic").expect("it lives");
    bench.end().await;
}

#[tokio::test]
async fn a_backbone_that_is_not_here_is_named() {
    let bench = Bench::new(policy("coldframe", &[]), 4, Fakes::open());
    let mut other = (*generation(0)).clone();
    other.backbone = "huge".to_owned();
    let added = CatalogChange::Added { names: names(0), generation: other.into() };
    let error = bench.live.apply(added).expect_err("unknown");
    assert_eq!(error.to_string(), "no backbone `huge` is configured; there are: tiny");
    bench.end().await;
}

/// Far above what anything here takes, below the patience of every preset: who waits that long is lost.
const LOST_MS: u64 = 10_000;

/// What clients and operators do in the random run.
#[derive(Debug, Clone)]
enum Deed {
    Call { function: u32, patience_ms: u64 },
    Policy(usize),
    Remove(u32),
    Pin(u32, bool),
    Sleep(u32),
    Wait,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        12 => (0..6u32, prop_oneof![Just(LOST_MS), 0..6u64])
            .prop_map(|(function, patience_ms)| Deed::Call { function, patience_ms }),
        1 => (0..PRESETS.len()).prop_map(Deed::Policy),
        1 => (0..6u32).prop_map(Deed::Remove),
        1 => (0..6u32, any::<bool>()).prop_map(|(f, pinned)| Deed::Pin(f, pinned)),
        1 => (0..6u32).prop_map(Deed::Sleep),
        4 => Just(Deed::Wait),
    ]
}

async fn act(bench: &Bench, deed: Deed, calls: &mut Vec<tokio::task::JoinHandle<bool>>) {
    let id = |n| generation(n).id.clone();
    match deed {
        Deed::Call { function, patience_ms } => {
            let live = bench.live.clone();
            calls.push(tokio::spawn(async move {
                let whole = async {
                    listen(live.call(call_of(function)).await?)
                        .await
                        .usage
                        .ok_or(CallError::Start("no end".to_owned()))
                };
                // Whoever loses patience drops the call; the others get an end or an error, never silence.
                match tokio::time::timeout(Duration::from_millis(patience_ms), whole).await {
                    Ok(Ok(_)) => true,
                    Ok(Err(error)) => {
                        assert_ne!(error, CallError::Start("no end".to_owned()));
                        false
                    }
                    Err(_) => {
                        assert!(patience_ms < LOST_MS, "a request was lost");
                        false
                    }
                }
            }));
        }
        Deed::Policy(n) => bench.live.set_policy(policy(PRESETS[n], &[])).await.expect("it lives"),
        Deed::Remove(f) => {
            let gone = CatalogChange::Removed { names: names(f), generation: id(f) };
            bench.live.apply(gone).expect("it lives");
        }
        // Removed meanwhile, perhaps.
        Deed::Pin(f, pinned) => drop(bench.live.pin(&names(f), &id(f), pinned).await),
        Deed::Sleep(f) => drop(bench.live.sleep(&names(f), &id(f), Sleep::Device).await),
        Deed::Wait => tokio::time::sleep(Duration::from_millis(2)).await,
    }
}

async fn random_run(first: usize, adapters: u64, failing: u64, deeds: Vec<Deed>) {
    let bench = Bench::new(policy(PRESETS[first], &[]), adapters, Fakes::open());
    bench.fakes.failing.store(failing, Ordering::SeqCst);
    bench.register(6);
    let mut calls = Vec::new();
    for deed in deeds {
        act(&bench, deed, &mut calls).await;
    }
    // Who waits for what is pinned waits for as long as it is (see the test above): here all are let go at the end.
    for f in 0..6 {
        act(&bench, Deed::Pin(f, false), &mut calls).await;
    }
    for call in calls {
        call.await.expect("no panic");
    }
    until("nothing is left", async || {
        let seen = bench.live.residency().await.expect("it lives");
        let c = &seen.counters;
        let refused: u64 = c.refused.values().sum();
        seen.waiting == 0 && seen.running == 0 && c.arrived == c.ended + refused + c.cancelled
    })
    .await;
    let counters = bench.live.residency().await.expect("it lives").counters;
    assert_eq!(counters.refused.get("timed-out"), None, "nobody waits until patience ends");
    let admitted = counters.admitted;
    let rows = bench.ledger.rows().into_iter().filter(|row| matches!(row, LedgerRow::Request(_)));
    assert_eq!(rows.count() as u64, admitted, "a row for each that ran");
    bench.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 1000, max_shrink_time: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn no_request_is_lost_whatever_happens(
        first in 0..PRESETS.len(),
        adapters in 1..5u64,
        failing in prop_oneof![Just(0u64), 3..6u64],
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        runtime().block_on(random_run(first, adapters, failing, deeds));
    }
}
