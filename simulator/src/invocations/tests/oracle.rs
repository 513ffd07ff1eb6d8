//! The same rules written down naively: a list of instances, searched from end to end at every arrival.

use super::{InvocationReport, Settings, play};
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_traces::Record;
use proptest::prelude::*;

/// One instance that is alive.
struct Instance {
    function: u32,
    started: u64,
    /// End of its last invocation, and which it was in order of arrival: equal ends keep that order.
    end: u64,
    call: usize,
}

/// Counts and times as the report has them: cold, warm, refused, evicted, peak, idle, alive.
type Outcome = (u64, u64, u64, u64, u64, u128, u128);

fn oracle(settings: &Settings, keep: Option<u64>, calls: &[Record]) -> Outcome {
    let (mut cold, mut warm, mut refused, mut evicted, mut peak) = (0, 0, 0, 0, 0);
    let (mut idle_ns, mut alive_ns) = (0u128, 0u128);
    let mut alive: Vec<Instance> = vec![];
    let mut last = 0;
    let gone = |i: &Instance, at: u64| keep.is_some_and(|keep| i.end.saturating_add(keep) < at);
    for (call, record) in calls.iter().enumerate() {
        let now = record.arrival_ns;
        last = last.max(now);
        // Deadlines strictly before now have passed.
        alive.retain(|i| {
            if gone(i, now) {
                idle_ns += u128::from(keep.expect("gone"));
                alive_ns += u128::from(i.end + keep.expect("gone") - i.started);
            }
            !gone(i, now)
        });
        let idle = |i: &Instance| i.end <= now;
        let own = (0..alive.len()).filter(|&n| alive[n].function == record.function && idle(&alive[n]));
        let start = if let Some(n) = own.max_by_key(|&n| (alive[n].end, alive[n].call)) {
            warm += 1;
            idle_ns += u128::from(now - alive[n].end);
            (alive[n].end, alive[n].call) = (now + record.duration_ns, call);
            last = last.max(alive[n].end);
            continue;
        } else {
            now
        };
        let fits = |count: usize| {
            let need = settings.instance_bytes * (count as u64 + 1);
            settings.memory_cap_bytes.is_none_or(|cap| need <= cap)
        };
        if !fits(alive.iter().filter(|i| !idle(i)).count()) {
            refused += 1;
            continue;
        }
        while !fits(alive.len()) {
            let idles = (0..alive.len()).filter(|&n| idle(&alive[n]));
            let victim = idles.min_by_key(|&n| (alive[n].end, alive[n].call)).expect("one is idle");
            let victim = alive.remove(victim);
            idle_ns += u128::from(now - victim.end);
            alive_ns += u128::from(now - victim.started);
            evicted += 1;
        }
        cold += 1;
        let end = start + settings.cold_start_ns + record.duration_ns;
        alive.push(Instance { function: record.function, started: start, end, call });
        peak = peak.max(alive.len() as u64);
        last = last.max(end);
    }
    for i in &alive {
        let until = keep.map_or(last, |keep| last.min(i.end.saturating_add(keep)));
        idle_ns += u128::from(until - i.end);
        alive_ns += u128::from(until - i.started);
    }
    (cold, warm, refused, evicted, peak, idle_ns, alive_ns)
}

fn outcome(r: &InvocationReport) -> Outcome {
    let time = r.instance_time;
    (r.cold_starts, r.warm_starts, r.refused, r.evicted, r.peak_instances, time.idle_ns, time.alive_ns)
}

/// Small numbers, so that ends, arrivals and deadlines often fall on one instant.
fn calls() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec((0u64..4, 0u32..4, 0u64..9), 1..120).prop_map(|steps| {
        let mut now = 0;
        let record = |(gap, function, duration): (u64, u32, u64)| {
            now += gap;
            Record { arrival_ns: now, function, duration_ns: duration, ..Record::default() }
        };
        steps.into_iter().map(record).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_the_oracle(
        calls in calls(),
        keep in proptest::option::of(0u64..12),
        cold_start_ns in 0u64..5,
        cap in proptest::option::of(1u64..8),
    ) {
        let settings = Settings {
            instance_bytes: 1,
            memory_cap_bytes: cap,
            ..Settings::fixed(keep.map_or(f64::INFINITY, |ns| ns as f64 / 1e9), cold_start_ns)
        };
        let report = play(&settings, calls.clone());
        prop_assert_eq!(outcome(&report), oracle(&settings, keep, &calls));
        prop_assert_eq!(play(&settings, calls).digest, report.digest);
    }

    #[test]
    fn rates_change_who_is_kept_but_add_up_all_the_same(calls in calls(), cap in proptest::option::of(1u64..8)) {
        let keep_alive = KeepAlivePart::Poisson {
            container_s: 1e-8, p_offload: 0.5, window_s: 2e-8, min_s: 0.0, max_s: 1e-8,
        };
        let settings =
            Settings { keep_alive, instance_bytes: 1, memory_cap_bytes: cap, ..Settings::fixed(0.0, 2) };
        let (report, n) = (play(&settings, calls.clone()), calls.len() as u64);
        prop_assert_eq!(report.arrivals, n);
    }
}
