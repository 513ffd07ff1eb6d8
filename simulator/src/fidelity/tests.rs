//! The simulator's own log read back: the same decisions, the same numbers, the same demand.

use super::compare::{cold_count_error, rows};
use super::decisions::{Decision, Fate, Fates, SameFate, agreement, differences, same_fate};
use super::page::{Pair, page};
use super::{logged, trace};
use crate::profile::{ColdStart, GpuProfile, ModelProfile, Profiles, StepProfile};
use crate::report::model::RunReport;
use crate::run::{Hooks, run};
use crate::setup::{Model, Setup};
use crate::start::Start;
use coldframe_policy::config::{from_table, preset_toml};
use coldframe_policy::event::Event;
use coldframe_policy::log::{Backbone, Header, Line, Reader, VERSION, to_text};
use coldframe_policy::spec::FunctionSpec;
use coldframe_policy::units::{Bytes, Nanos};
use coldframe_traces::{OpenOptions, open_reader};
use std::collections::BTreeMap;
use std::path::Path;

fn setup(policy: &str) -> Setup {
    let gpu: GpuProfile = Profiles::gpu("l40s").expect("shipped");
    let profile: ModelProfile = Profiles::model("llama-2-7b").expect("shipped");
    let step: StepProfile = Profiles::step_from("aiconfigurator", &gpu, &profile).expect("shipped");
    let cold: ColdStart = Profiles::cold_start("container").expect("shipped");
    Setup {
        policy: from_table(preset_toml(policy).expect("a preset"), policy).expect("a good preset"),
        gpu,
        workers: 2,
        gpus_per_worker: 1,
        host_memory_bytes: 64_000_000_000,
        vcpus: 8,
        models: vec![Model { profile, step }],
        cold,
        rank: 16,
        slo_ttft_ns: 2_000_000_000,
        slo_tpot_ns: 200_000_000,
        function_times: BTreeMap::new(),
        seed: 1,
        jitter_permille: 0,
        any_backbone: false,
        start: None,
        sent_late_us: Vec::new(),
        keep_log: false,
    }
}

/// Calls of five functions over two minutes, some close together, some far apart.
fn calls() -> String {
    let mut text = "arrival_s,function,prompt_tokens,output_tokens\n".to_owned();
    for n in 0..120u32 {
        let at = f64::from(n) * 0.9 + f64::from(n * n % 7) * 0.1;
        text += &format!("{at:.1},f{},{},{}\n", n * 7 % 5, 20 + n % 50, 5 + n % 9);
    }
    text
}

/// The report and log of a simulated run.
fn simulated(policy: &str) -> (Setup, RunReport, String) {
    let setup = setup(policy);
    let (report, log) = logged_run(&setup);
    (setup, report, log)
}

fn logged_run(setup: &Setup) -> (RunReport, String) {
    let spec = setup
        .start
        .as_ref()
        .map_or_else(|| setup.backbone_specs(), |start| start.backbones.clone())
        .remove(0);
    let header = Header {
        coldframe_log: VERSION,
        writer: "simulator".to_owned(),
        started_ms: 0,
        policy: setup.policy.clone(),
        backbones: vec![Backbone { name: "llama-2-7b".to_owned(), spec }],
    };
    let mut log = to_text(&header) + "\n";
    let mut write = |line: &Line| {
        log += &to_text(line);
        log.push('\n');
    };
    let text = calls();
    let options = OpenOptions { sort: true, ..OpenOptions::default() };
    let mut trace =
        open_reader(std::io::Cursor::new(text), Path::new("t.csv"), &options).expect("a good trace");
    let tariffs = [Profiles::tariff("gpu-second").expect("shipped")];
    let hooks = Hooks { decisions: Some(&mut write), ..Hooks::default() };
    let outcome = run(setup, &tariffs, trace.as_mut(), hooks).expect("a good run");
    (outcome.report, log)
}

fn read(setup: &Setup, log: &str) -> logged::Logged {
    let tariffs = [Profiles::tariff("gpu-second").expect("shipped")];
    logged::read(Reader::new(log.as_bytes()).expect("a header"), setup, &tariffs).expect("a good log")
}

#[test]
fn a_log_read_back_is_the_run_it_was_written_by() {
    for policy in ["serverlesslora", "coldframe", "instainfer"] {
        let (setup, run, log) = simulated(policy);
        let back = read(&setup, &log);
        assert_eq!(back.parted, None, "{policy}");
        assert!(back.equal > 200, "{policy}: {}", back.equal);
        let report = &back.report;
        assert_eq!(report.requests, run.requests, "{policy}");
        assert_eq!((&report.ttft_s, &report.e2e_s), (&run.ttft_s, &run.e2e_s), "{policy}");
        assert_eq!(report.cold_by_kind, run.cold_by_kind, "{policy}");
        assert_eq!((&report.links, &report.adapters), (&run.links, &run.adapters), "{policy}");
        assert_eq!(report.gpu.reserved_ns, run.gpu.reserved_ns, "{policy}");
        assert_eq!(report.bills[0].total_nano_usd, run.bills[0].total_nano_usd, "{policy}");
        let adapters = |r: &RunReport| r.memory.by_use[2].clone();
        assert_eq!(adapters(report), adapters(&run), "{policy}");
    }
}

#[test]
fn a_run_starts_as_a_log_did() {
    let (setup, run, log) = simulated("coldframe");
    let read = |log: &str| Start::read(Reader::new(log.as_bytes()).expect("a header")).expect("a good log");
    let lazy = read(&log);
    assert_eq!((lazy.devices(), lazy.functions.len(), lazy.first), (2, 1, Nanos::ZERO));
    let again = logged_run(&Setup { start: Some(lazy.clone()), ..setup.clone() });
    assert_eq!((&again.0.event_digest, &again.1), (&run.event_digest, &log), "the same run");

    // A host that knew all functions three seconds before the first call, and one adapter of another size.
    let mut told = lazy.clone();
    let all = trace::demand(Reader::new(log.as_bytes()).expect("a header")).expect("a good log");
    let Some((_, Event::FunctionAdded(spec))) = told.told.last().cloned() else { panic!("a function") };
    (told.functions, told.first) =
        (all.catalog.functions().iter().rev().cloned().collect(), Nanos(3_000_000_000));
    told.told.pop();
    for n in 0..told.functions.len() as u64 {
        let spec = FunctionSpec { adapter: Bytes(1_000_000 * (n + 1)), ..spec.clone() };
        told.told.push((Nanos(n * 1_000), Event::FunctionAdded(spec)));
    }
    let ahead = logged_run(&Setup { start: Some(told.clone()), ..setup });
    let back = read(&ahead.1);
    assert_eq!((back.told, back.functions.len(), back.first), (told.told, 5, told.first));
    let names = |report: &RunReport| {
        let mut all: Vec<_> = report.functions.iter().map(|f| (f.name.clone(), f.requests)).collect();
        all.sort();
        all
    };
    assert_eq!(names(&ahead.0), names(&run), "each call went to its own function");
    assert!(ahead.0.ttft_s.mean < run.ttft_s.mean, "what is known ahead is loaded ahead");
}

#[test]
fn a_host_has_opened_its_backbone_before_the_first_call() {
    let (setup, _, log) = simulated("coldframe");
    let start =
        |text: &str| Start::read(Reader::new(text.as_bytes()).expect("a header")).expect("a good log");
    let of_host = log.replacen(r#""writer":"simulator""#, r#""writer":"host""#, 1);
    assert_eq!((start(&log).opened, start(&of_host).opened), (false, true));
    let ttft = |start: Start| {
        let (report, _) = logged_run(&Setup { start: Some(start), ..setup.clone() });
        report.ttft_s
    };
    let (opened, loaded) = (ttft(start(&of_host)), ttft(start(&log)));
    assert!(opened.mean < loaded.mean, "its load is over: {opened:?} {loaded:?}");
}

#[test]
fn another_decision_is_found() {
    let (setup, _, log) = simulated("serverlesslora");
    let lines: Vec<&str> = log.lines().collect();
    let first_load = lines.iter().position(|line| line.contains("\"load\":{")).expect("a load");
    let changed: String = lines
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != first_load)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let (whole, without) = (read(&setup, &log), read(&setup, &changed));
    let parted = without.parted.expect("a decision is missing");
    assert!(parted.decided.is_some(), "{parted:?}");
    let found = agreement(&whole.decisions, &without.decisions, [&whole.fates, &without.fates]);
    assert!(found.in_order.is_some_and(|share| share > 0.99 && share < 1.0), "{found:?}");
    assert!(found.parted.is_some_and(|parted| parted.live != parted.simulated));
    let same = agreement(&whole.decisions, &whole.decisions, [&whole.fates, &whole.fates]);
    assert_eq!((same.in_order, same.by_request, same.parted), (Some(1.0), 1.0, None));
}

#[test]
fn fates_are_by_function_and_call() {
    let fates = |of: &[(&str, &[u8])]| -> Fates {
        let list = |waited: &[u8]| waited.iter().map(|bits| Fate::Admitted(*bits)).collect();
        of.iter().map(|(name, waited)| ((*name).to_owned(), list(waited))).collect()
    };
    let all = fates(&[("a", &[8, 0, 0]), ("b", &[8])]);
    assert_eq!(same_fate(&all, &all), 1.0);
    assert_eq!(same_fate(&all, &fates(&[("a", &[8, 8, 0]), ("b", &[8])])), 0.75);
    assert_eq!(same_fate(&all, &fates(&[("a", &[8, 0])])), 0.5, "calls that one lacks differ");
    assert_eq!(same_fate(&fates(&[("a", &[8, 0])]), &all), 0.5, "whichever lacks them");
    assert_eq!(same_fate(&Fates::new(), &Fates::new()), 1.0);
    assert_eq!(SameFate::of(&[1.0, 0.5, 0.75]), Some(SameFate { mean: 0.75, least: 0.5 }));
    assert_eq!(SameFate::of(&[]), None);
}

#[test]
fn a_log_holds_its_demand() {
    let (_, _, log) = simulated("serverlesslora");
    let demand = trace::demand(Reader::new(log.as_bytes()).expect("a header")).expect("a good log");
    assert_eq!((demand.records.len(), demand.workers.len(), demand.open), (120, 2, 0));
    let functions: Vec<&str> = demand.catalog.functions().iter().map(|f| f.name.as_str()).collect();
    assert_eq!(functions.len(), 5);
    let tokens: u64 = demand.records.iter().map(|r| u64::from(r.output_tokens)).sum();
    assert_eq!(tokens, (0..120u64).map(|n| 5 + n % 9).sum::<u64>());
}

#[test]
fn errors_are_relative_to_the_live_mean() {
    let (_, run, _) = simulated("serverlesslora");
    let mut slower = run.clone();
    slower.ttft_s.mean *= 1.25;
    let simulated = std::slice::from_ref(&run);
    let found = rows(&[run.clone(), slower.clone()], simulated);
    let ttft = found.iter().find(|row| row.key == "ttft_mean").expect("a row");
    assert!((ttft.error().expect("live is not zero") + 1.0 - 1.0 / 1.125).abs() < 1e-9);
    assert!((ttft.noise() - 0.125 / 1.125).abs() < 1e-9);
    assert!(rows(&[], simulated).is_empty() && rows(simulated, &[]).is_empty());
    let each = rows(&[run.clone(), slower.clone()], &[run.clone(), slower]);
    assert!(each.iter().all(|row| row.error().is_none_or(|error| error.abs() < 1e-12)), "one for each");
    assert_eq!(cold_count_error(simulated, simulated), Some(0.0));
    let mut warmer = run.clone();
    let (cold, warm) = (warmer.cold_by_kind.len() - 1, 0);
    warmer.cold_by_kind[cold].1 += 6;
    warmer.cold_by_kind[warm].1 -= 6;
    assert_eq!(cold_count_error(&[warmer.clone()], simulated), Some(6.0 / 120.0));
    let both = [run.clone(), warmer];
    assert_eq!(cold_count_error(&both, simulated), Some(3.0 / 120.0), "one for all");
    assert_eq!(cold_count_error(&both, &both), Some(0.0), "one for each");
}

#[test]
fn the_page_holds_curves_numbers_and_decisions() {
    let (setup, run, log) = simulated("serverlesslora");
    let (all, live) = (read(&setup, &log), [run.clone()]);
    let found = agreement(&all.decisions, &all.decisions, [&all.fates, &all.fates]);
    let rows = rows(&live, &live);
    let pair = Pair {
        title: "T",
        about: "<A>",
        live: &live,
        simulated: &live,
        rows: &rows,
        agreement: Some(&found),
        same_fate: SameFate::of(&[1.0, 0.75]),
        same_fate_live: SameFate::of(&[0.625]),
    };
    let html = page(&pair);
    assert!(
        html.contains("&lt;A&gt;")
            && html.contains("100.0 % of them common in order")
            && html.contains("87.5 % on the mean, 75.0 % where")
            && html.contains("62.5 % on the mean")
            && !html.contains("NaN")
    );
    assert!(html.matches("class=\"curve").count() >= 6);
    assert!(html.contains("1</b> live</li><li>") && html.contains("2</b> simulated</li>"));
    let twice = [run.clone(), run];
    let html = page(&Pair { live: &twice, ..pair });
    assert!(html.contains("1</b> live, 2 runs</li><li>") && html.contains("<title>live 2</title>"));
}

#[test]
fn differences_are_as_few_as_can_be() {
    let of = |a: &str, b: &str| {
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        differences(&a, &b, 100)
    };
    assert_eq!(of("abcabba", "cbabac"), Some(5), "Myers's own example");
    assert_eq!((of("", ""), of("abc", ""), of("abc", "abc")), (Some(0), Some(3), Some(0)));
    assert_eq!(differences(&[1; 50], &[2; 50], 20), None);
    assert_eq!(Decision::Stop.kind(), "stop");
}
