//! Requests of a made-up client: the report adds up, the markers tell adapters apart.

use super::*;
use crate::measure::collect::Limits;
use crate::report::check::check;
use crate::report::model::{PolicyReport, Report, SCHEMA};
use coldframe_traces::FunctionInfo;

const MS: u64 = 1_000_000;

fn request(id: u64, phases: &[(&str, u64)]) -> Observed {
    Observed {
        id,
        function: (id % 2) as u32,
        due_ns: id * 100 * MS,
        sent_ns: id * 100 * MS + 5,
        first_ns: id * 100 * MS + 50 * MS,
        end_ns: id * 100 * MS + 140 * MS,
        worst_gap_ns: 12 * MS,
        prompt_tokens: 20,
        output_tokens: 10,
        phases: phases.iter().map(|(name, ms)| ((*name).to_owned(), ms * MS)).collect(),
        end: End::Completed,
    }
}

fn client(functions: &[FunctionInfo]) -> Client<'_> {
    Client { limits: Limits { ttft_ns: 60 * MS, tpot_ns: 11 * MS }, functions, seed: 7, from_ns: 0 }
}

fn functions() -> Vec<FunctionInfo> {
    ["a", "b"].map(|name| FunctionInfo { name: name.to_owned(), ..FunctionInfo::default() }).to_vec()
}

fn whole(run: crate::report::model::RunReport) -> Report {
    let policy = PolicyReport {
        name: "live".into(),
        about: String::new(),
        parameters: BTreeMap::new(),
        runs: vec![run],
    };
    Report {
        schema: SCHEMA.into(),
        tool: "test".into(),
        title: "t".into(),
        trace: Default::default(),
        inputs: Default::default(),
        policies: vec![policy],
        warnings: Vec::new(),
        limits: Vec::new(),
    }
}

#[test]
fn a_client_run_is_a_sound_report() {
    let mut all = vec![
        request(0, &[("parked", 10), ("adapter_read", 20), ("prefill", 8)]),
        request(1, &[("prefill", 8)]),
        request(2, &[("module", 30), ("handler", 0)]),
    ];
    all.push(Observed { end: End::Refused, ..request(3, &[]) });
    all.push(Observed { end: End::TimedOut, ..request(4, &[]) });
    all.push(Observed { end: End::Failed("reset".into()), ..request(5, &[]) });
    let functions = functions();
    let run = report(&client(&functions), &all);
    assert_eq!((run.requests.completed, run.requests.refused, run.requests.timed_out), (3, 2, 1));
    assert_eq!(run.cold_by_kind.iter().filter(|(_, n)| *n > 0).count(), 3, "{:?}", run.cold_by_kind);
    assert!((run.ttft_s.mean - 0.05).abs() < 1e-9 && (run.tpot_s.mean - 0.01).abs() < 1e-9);
    assert!((run.stages[4].mean_s - 0.02 / 3.0).abs() < 1e-9, "{:?}", run.stages);
    assert_eq!((run.adapters.hits, run.adapters.misses), (2, 1));
    assert_eq!(check(&whole(run)), Vec::<String>::new());
}

#[test]
fn nothing_answered_is_a_sound_report_too() {
    let all = [Observed { end: End::Refused, ..request(0, &[]) }];
    let functions = functions();
    assert_eq!(check(&whole(report(&client(&functions), &all))), Vec::<String>::new());
    assert_eq!(check(&whole(report(&client(&functions), &[]))), Vec::<String>::new());
}

#[test]
fn a_late_sender_makes_times_longer() {
    let late = Observed { sent_ns: 40 * MS, ..request(0, &[]) };
    assert_eq!(late.finished().expect("completed").ttft_ns(), 50 * MS, "from when it was due");
}

#[test]
fn a_server_cannot_claim_more_than_the_client_waited() {
    let row = request(0, &[("adapter", 500), ("prefill", 20)]).row((true, true), 1);
    assert_eq!((row.prefill_ns, row.adapter_ns, row.queue_ns), (20 * MS, 30 * MS, 0));
    assert_eq!(row.cold_kind, "adapter");
}

#[test]
fn the_warm_up_is_left_out() {
    let all: Vec<Observed> = (0..10).map(|id| request(id, &[])).collect();
    let functions = functions();
    let run = report(&Client { from_ns: 500 * MS, ..client(&functions) }, &all);
    assert_eq!(run.requests.arrived, 5);
    assert!((run.simulated_s - 0.54).abs() < 1e-9, "{}", run.simulated_s);
}

#[test]
fn markers_tell_adapters_apart() {
    let markers =
        Markers::parse("# who says what\npirate,Arr\npirate,matey\njson,{\"\n").expect("good lines");
    assert_eq!(markers.judge("pirate", "ARR, the sea"), Answer::Signed);
    assert_eq!(markers.judge("pirate", "{\"a\": 1}"), Answer::Wrong);
    assert_eq!(markers.judge("json", "well"), Answer::Unsigned);
    assert_eq!(
        markers.judge("base", "arr"),
        Answer::Wrong,
        "a function without marker may not bear another's"
    );
    assert_eq!(markers.functions().collect::<Vec<_>>(), ["json", "pirate"]);
    let alike = Markers::parse("pirate-*,arr\njson,{\"\n").expect("good lines");
    assert_eq!(alike.judge("pirate-07", "Arr!"), Answer::Signed);
    assert_eq!(alike.judge("pirate", "Arr!"), Answer::Wrong, "another beginning");
    assert_eq!(alike.judge("pirate-07", "{\"a\": 1}"), Answer::Wrong);
    let shared = Markers::parse("a,x\nb,X\n").expect_err("one marker for two").to_string();
    assert!(shared.contains("`a` and `b`"), "{shared}");
    assert!(Markers::parse("nothing").is_err());
}

#[test]
fn the_ledger_wants_every_request_answered_once() {
    let sound = Ledger { sent: 3, answered: 2, refused: 1, ..Ledger::default() };
    assert!(sound.sound());
    for broken in [
        Ledger { lost: 1, sent: 4, ..sound.clone() },
        Ledger { wrong: 1, ..sound.clone() },
        Ledger { duplicated: 1, ..sound.clone() },
        Ledger { sent: 5, ..sound },
    ] {
        assert!(!broken.sound(), "{}", broken.text());
    }
}
