//! What holds for every policy, fleet and trace: requests end, memory and money add up, nothing leaks.
//!
//! It says nothing about how good a policy is.

use crate::support::{self, drain, records, setups, trace};
use coldframe_policy::config::{from_table, preset, preset_names};
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_simulator::cost::Tariff;
use coldframe_simulator::profile::Profiles;
use coldframe_simulator::report::check::check;
use coldframe_simulator::report::model::{Inputs, PolicyReport, Report, SCHEMA, TraceSection};
use coldframe_simulator::run::{Hooks, Outcome, run};
use coldframe_simulator::setup::Setup;
use coldframe_simulator::world::World;
use coldframe_traces::Record;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// Same cases every time: a failure is a change of the code, never of luck.
fn for_all<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(failure) = TestRunner::new_with_rng(config, rng).run(&strategy, test) {
        panic!("{failure}");
    }
}

/// Cases of each property; far more were tried once.
const CASES: u32 = 400;

fn tariffs() -> Vec<Tariff> {
    ["gpu-second", "memory-share", "runpod-flex", "modal"]
        .map(|t| Profiles::tariff(t).expect("shipped"))
        .to_vec()
}

fn replay(setup: &Setup, records: &[Record]) -> Result<Outcome, String> {
    let hooks = Hooks { check_every: Some(1), ..Hooks::default() };
    run(setup, &tariffs(), &mut trace(setup, records), hooks).map_err(|e| e.to_string())
}

/// Everything `report::check` knows, and that every request ended.
fn sound(outcome: Outcome) -> Result<(), String> {
    let run = outcome.report;
    let r = &run.requests;
    if r.completed + r.refused + r.timed_out != r.arrived || r.running + r.queued != 0 {
        return Err(format!("requests are left: {r:?}"));
    }
    let inputs = Inputs {
        fleet: String::new(),
        gpus: 1,
        profiles: Vec::new(),
        slo_ttft_s: 2.0,
        slo_tpot_s: 0.2,
        primary_tariff: run.bills[0].tariff.clone(),
        command: String::new(),
    };
    let (name, about, parameters) = (String::new(), String::new(), BTreeMap::new());
    let report = Report {
        schema: SCHEMA.to_owned(),
        tool: String::new(),
        title: String::new(),
        trace: TraceSection::default(),
        inputs,
        policies: vec![PolicyReport { name, about, parameters, runs: vec![run] }],
        warnings: Vec::new(),
        limits: Vec::new(),
    };
    let found = check(&report);
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// With the queue run dry, only what is kept forever or in no function's name may hold memory.
fn empty(setup: &Setup, world: &World) -> Result<(), String> {
    if world.in_flight != 0 {
        return Err(format!("{} requests are in flight with nothing left to happen", world.in_flight));
    }
    let forever = matches!(setup.policy.keep_alive, KeepAlivePart::Forever {});
    for (n, d) in world.core.devices().iter().enumerate() {
        let left = if forever { 0 } else { d.used.0 };
        let waits = d.waiters.len() + d.ripe.len();
        if left + d.evicting.0 + d.active + d.pending + d.starting + waits as u64 > 0 {
            return Err(format!("device {n} is left with {d:?}"));
        }
        if !forever && (d.exclusive.is_some() || !d.instances.is_empty() || !d.shared.is_empty()) {
            return Err(format!("device {n} is left with {d:?}"));
        }
    }
    for (n, w) in world.core.workers().iter().enumerate() {
        let staged: u64 = w.staged.iter().map(|(_, bytes)| bytes.0).sum();
        if w.host_used.0 != staged {
            return Err(format!("worker {n}: {:?} of host memory used, {staged} staged", w.host_used));
        }
    }
    Ok(())
}

fn fails(e: String) -> TestCaseError {
    TestCaseError::fail(e)
}

#[test]
fn reports_of_random_runs_are_sound() {
    for_all(CASES, (setups(), records(150)), |(setup, records)| {
        prop_assume!(setup.check().is_ok());
        sound(replay(&setup, &records).map_err(fails)?).map_err(fails)
    });
}

#[test]
fn random_runs_end_and_leave_nothing() {
    for_all(CASES, (setups(), records(150)), |(setup, records)| {
        prop_assume!(setup.check().is_ok());
        let world = drain(&setup, &records).map_err(fails)?;
        empty(&setup, &world).map_err(fails)
    });
}

#[test]
fn random_policies_survive_their_own_toml() {
    for_all(300, support::policy(), |policy| {
        let text = toml::to_string(&policy).expect("a policy is TOML");
        let back = from_table(text.parse().expect("TOML"), "round trip");
        prop_assert_eq!(back.map_err(|e| fails(e.to_string()))?, policy);
        Ok(())
    });
}

/// A fleet far too small and one far too large.
#[test]
fn every_preset_survives_one_device_and_a_thousand() {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let records = records(120).new_tree(&mut runner).expect("a trace").current();
    for name in preset_names() {
        for workers in [1, 250] {
            let mut setup = support::setup(preset(&name).expect("a preset"));
            setup.gpus_per_worker = if workers == 1 { 1 } else { 4 };
            setup.workers = workers;
            setup.models = vec![support::model(0), support::model(1)];
            let mut trace = trace(&setup, &records);
            let hooks = Hooks { check_every: Some(50), ..Hooks::default() };
            let outcome = run(&setup, &tariffs(), &mut trace, hooks).expect("the trace replays");
            sound(outcome).unwrap_or_else(|e| panic!("{name} on {workers} workers: {e}"));
        }
    }
}
