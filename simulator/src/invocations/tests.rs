//! Small tables, the exact identities of instance time, repeatability, and random traces against a slow oracle.

mod oracle;

use super::*;
use crate::setup::RunError;
use coldframe_traces::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};

const S: u64 = 1_000_000_000;

/// A trace of records in memory.
struct Records {
    catalog: Catalog,
    items: std::vec::IntoIter<Item>,
}

impl Records {
    fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let items: Vec<Item> = records.into_iter().map(Item::Record).collect();
        Self { catalog: Catalog::new(), items: items.into_iter() }
    }
}

impl TraceStream for Records {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        Ok(self.items.next())
    }
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }
    fn rows_in(&self) -> u64 {
        0
    }
}

/// (arrival, function, duration), in seconds.
fn records(calls: &[(u64, u32, u64)]) -> Vec<Record> {
    let record = |&(at, function, duration): &(u64, u32, u64)| Record {
        arrival_ns: at * S,
        function,
        duration_ns: duration * S,
        ..Record::default()
    };
    calls.iter().map(record).collect()
}

fn play(settings: &Settings, records: Vec<Record>) -> InvocationReport {
    let report = replay(settings, &mut Records::new(records), Hooks::default()).expect("a good trace");
    adds_up(&report);
    report
}

/// Identities that hold for every report.
fn adds_up(r: &InvocationReport) {
    let time = r.instance_time;
    assert_eq!(time.cold_ns + time.busy_ns + time.idle_ns, time.alive_ns);
    assert_eq!(time.cold_ns, u128::from(r.cold_starts) * u128::from(r.settings.cold_start_ns));
    assert_eq!(r.arrivals, r.completed + r.refused);
    assert_eq!(r.completed, r.cold_starts + r.warm_starts);
    assert_eq!(r.events, r.arrivals + r.completed + r.evicted + r.expired);
    assert_eq!(r.by_pattern.iter().map(|c| c.arrivals).sum::<u64>(), r.arrivals);
    assert_eq!(r.by_pattern.iter().map(|c| c.functions).sum::<u64>(), r.functions);
    assert_eq!(r.by_pattern.iter().map(|c| c.cold_starts).sum::<u64>(), r.cold_starts);
}

/// Cold starts, peak instances, and seconds cold, busy, idle.
fn check(keep_alive_s: f64, calls: &[(u64, u32, u64)], want: (u64, u64, [u128; 3])) {
    let report = play(&Settings::fixed(keep_alive_s, S), records(calls));
    let time = report.instance_time;
    let seconds = [time.cold_ns, time.busy_ns, time.idle_ns].map(|ns| ns / u128::from(S));
    assert_eq!(
        (report.cold_starts, report.peak_instances, seconds),
        want,
        "keep-alive {keep_alive_s} s, {calls:?}"
    );
}

#[test]
fn warm_within_the_keep_alive_time_and_cold_after() {
    // A start takes 1 s: busy from 1 to 3, idle from 3.
    check(10.0, &[(0, 0, 2)], (1, 1, [1, 2, 0]));
    check(10.0, &[(0, 0, 2), (13, 0, 2)], (1, 1, [1, 4, 10]));
    check(10.0, &[(0, 0, 2), (14, 0, 2)], (2, 1, [2, 4, 10]));
    // Another function's instance does not serve, and idles until the last end, at 6.
    check(10.0, &[(0, 0, 2), (3, 1, 2)], (2, 2, [2, 4, 3]));
    // Busy: a second instance. The first is idle from 3 to the end at 4.
    check(10.0, &[(0, 0, 2), (1, 0, 2)], (2, 2, [2, 4, 1]));
}

#[test]
fn kept_for_no_time_is_warm_at_the_same_instant_only() {
    check(0.0, &[(0, 0, 2), (3, 0, 2)], (1, 1, [1, 4, 0]));
    check(0.0, &[(0, 0, 2), (4, 0, 2)], (2, 1, [2, 4, 0]));
    let calls: Vec<_> = (0..100).map(|n| (n * 5, 0, 2)).collect();
    check(0.0, &calls, (100, 1, [100, 200, 0]));
}

#[test]
fn kept_for_always_is_one_cold_start_per_concurrency_level() {
    // Three at once, again and again.
    let calls: Vec<_> = (0..90).map(|n| (n / 3 * 1000, 0, 5)).collect();
    let report = play(&Settings::fixed(f64::INFINITY, S), records(&calls));
    assert_eq!((report.cold_starts, report.peak_instances, report.expired), (3, 3, 0));
}

#[test]
fn a_capped_fleet_evicts_and_refuses() {
    let settings =
        Settings { instance_bytes: 10, memory_cap_bytes: Some(25), ..Settings::fixed(f64::INFINITY, S) };
    // Two fit. The third at 0 is refused; at 10 the least recently used, of function 0, goes.
    let report = play(&settings, records(&[(0, 0, 2), (0, 1, 3), (0, 2, 1), (10, 2, 1), (20, 1, 1)]));
    assert_eq!((report.refused, report.evicted, report.cold_starts, report.warm_starts), (1, 1, 3, 1));
    assert_eq!(report.peak_instances, 2);
    let alive_s = 10.0 + 21.0 + 11.0;
    let gb_s = report.gb_s.expect("memory was stated");
    assert!((gb_s - alive_s * 10.0 / 1e9).abs() < 1e-15, "{gb_s}");
}

#[test]
fn records_without_duration_take_the_default_and_tokens_are_refused() {
    let settings = Settings { default_duration_ns: 4 * S, ..Settings::fixed(10.0, S) };
    let report = play(&settings, records(&[(0, 0, 0), (9, 0, 2)]));
    assert_eq!((report.without_duration, report.instance_time.busy_ns), (1, 6 * u128::from(S)));
    assert_eq!(report.latency_s.max, 5.0);

    let mut trace = Records::new(records(&[(0, 0, 1)]).into_iter().chain([Record {
        prompt_tokens: 7,
        output_tokens: 2,
        ..Record::default()
    }]));
    trace.catalog.intern(FunctionInfo { name: "chat".to_owned(), ..FunctionInfo::default() });
    let error = replay(&settings, &mut trace, Hooks::default()).expect_err("tokens");
    assert!(matches!(error, RunError::HasTokens { record: 2, tokens: 9, .. }), "{error}");
    assert!(error.to_string().contains("`coldframe replay") && error.to_string().contains("chat"), "{error}");
    let empty = replay(&settings, &mut Records::new([]), Hooks::default());
    assert!(matches!(empty, Err(RunError::Empty)));
    let unsorted = replay(&settings, &mut Records::new(records(&[(2, 0, 1), (1, 0, 1)])), Hooks::default());
    assert!(unsorted.expect_err("unsorted").to_string().contains("sort the trace"));
}

#[test]
fn service_classes_are_counted_where_stated() {
    let mut all = records(&[(0, 0, 1), (1, 0, 1), (2, 0, 1)]);
    assert!(play(&Settings::fixed(9.0, S), all.clone()).by_service_class.is_empty());
    all[1].slo_class = 1;
    let mut trace = Records::new(all);
    trace.catalog.slo_classes.push("gold".to_owned());
    let report = replay(&Settings::fixed(9.0, S), &mut trace, Hooks::default()).expect("good");
    let counts: Vec<_> =
        report.by_service_class.iter().map(|c| (c.class.as_str(), c.arrivals, c.cold_starts)).collect();
    assert_eq!(counts, [("", 2, 1), ("gold", 1, 1)]);
}

#[test]
fn the_report_survives_json() {
    let settings = Settings { instance_bytes: 10, ..Settings::fixed(f64::INFINITY, S) };
    let report = play(&settings, records(&[(0, 0, 2), (9, 1, 3)]));
    let text = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<InvocationReport>(&text).expect("the same"), report);
}

#[test]
fn a_stopped_run_says_so() {
    let calls: Vec<_> = (0..70_000).map(|n| (n, 0, 1)).collect();
    let hooks = Hooks { poll: Some(&mut |_| false), ..Hooks::default() };
    let stopped = replay(&Settings::fixed(1.0, S), &mut Records::new(records(&calls)), hooks);
    assert!(matches!(stopped, Err(RunError::Stopped)));
}

#[test]
fn the_made_up_day_is_whole_and_repeats() {
    let day = f1::Day::new(1);
    assert_eq!(day.invocations_csv.lines().count(), 1 + f1::FUNCTIONS as usize);
    assert!(day.invocations_csv.lines().all(|line| line.split(',').count() == 4 + 1440));
    let folder = tempfile::tempdir().expect("a folder");
    let files = day.write(folder.path()).expect("written");
    let figures = |seed| f1::f1_bench(&files, seed, &Settings::fixed(600.0, S / 4)).expect("a good day");
    let first = figures(1);
    adds_up(&first.report);
    assert_eq!((first.invocations, first.report.functions), (f1::INVOCATIONS, u64::from(f1::FUNCTIONS)));
    assert_eq!((first.report.without_duration, first.report.bad_rows), (0, 0));
    assert_eq!(first.report, figures(1).report);
    assert_ne!(first.digest, figures(2).digest);
    assert_eq!(
        first.digest, DAY_DIGEST,
        "the same on every machine; changes with the placement or the order of events"
    );
}

const DAY_DIGEST: &str = "611a5024bb586c279d72c17041a4cfda";
