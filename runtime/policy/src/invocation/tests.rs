//! Decisions in small tables: what comes in at which second, and what is decided.
//!
//! Random traces against a slow oracle are tried in the simulator, which has an event loop.

use super::*;

#[derive(Clone, Copy)]
enum In {
    /// Function.
    Arrive(u32),
    /// Instance.
    Done(u32),
    /// Function.
    Timer(u32),
}
use In::{Arrive, Done, Timer as Ring};

/// What is decided, in words: `cold 0`, `warm 0`, `refuse`, `stop 0`, `timer 0 at 60`.
fn check(keep_alive: KeepAlivePart, cap: Option<u64>, steps: &[(u64, In, &str)]) {
    let mut core = Invocations::new(keep_alive, cap.map(Bytes));
    // Function n takes n + 1 bytes an instance.
    (0..3).for_each(|n| core.register(FunctionId(n), Bytes(u64::from(n) + 1)));
    for &(at, event, want) in steps {
        let now = Nanos(at * 1_000_000_000);
        let (mut stopped, mut words) = (vec![], vec![]);
        let timer = match event {
            Arrive(function) => {
                words.push(match core.arrived(now, FunctionId(function), &mut stopped) {
                    Decision::Warm(n) => format!("warm {}", n.0),
                    Decision::Cold(n) => format!("cold {}", n.0),
                    Decision::Refuse => "refuse".to_owned(),
                });
                None
            }
            Done(instance) => core.done(now, InstanceId(instance)),
            Ring(function) => core.timer(now, FunctionId(function), &mut stopped),
        };
        words.extend(stopped.iter().map(|n| format!("stop {}", n.0)));
        words.extend(timer.map(|t| format!("timer {} at {}", t.function.0, t.at.as_secs())));
        assert_eq!(words.join(", "), want, "at {at} s");
    }
}

fn fixed(seconds: f64) -> KeepAlivePart {
    KeepAlivePart::Fixed {
        container_s: seconds,
        runtime_s: seconds,
        backbone_s: seconds,
        adapter_s: seconds,
        kernel_s: seconds,
    }
}

#[test]
fn the_last_to_go_idle_serves_next() {
    check(
        KeepAlivePart::Forever {},
        None,
        &[
            (0, Arrive(0), "cold 0"),
            (1, Arrive(0), "cold 1"),
            (2, Arrive(1), "cold 2"),
            (3, Done(1), ""),
            (4, Done(0), ""),
            (5, Arrive(0), "warm 0"),
            (6, Arrive(0), "warm 1"),
            (7, Arrive(0), "cold 3"),
        ],
    );
}

#[test]
fn one_timer_a_function_follows_the_oldest_idle_instance() {
    check(
        fixed(10.0),
        None,
        &[
            (0, Arrive(0), "cold 0"),
            (0, Arrive(0), "cold 1"),
            (1, Done(0), "timer 0 at 11"),
            (3, Done(1), ""),
            (4, Arrive(0), "warm 1"),
            (5, Done(1), ""),
            (11, Ring(0), "stop 0, timer 0 at 15"),
            (12, Arrive(0), "warm 1"),
            (15, Ring(0), ""),
            (16, Done(1), "timer 0 at 26"),
            (26, Ring(0), "stop 1"),
            (27, Arrive(0), "cold 1"),
        ],
    );
}

#[test]
fn kept_for_no_time_serves_the_same_instant_only() {
    check(
        fixed(0.0),
        None,
        &[
            (0, Arrive(0), "cold 0"),
            (5, Done(0), "timer 0 at 5"),
            (5, Arrive(0), "warm 0"),
            (5, Ring(0), ""),
            (9, Done(0), "timer 0 at 9"),
            (9, Ring(0), "stop 0"),
            (9, Arrive(0), "cold 0"),
        ],
    );
}

#[test]
fn a_full_fleet_stops_the_least_recently_used_first() {
    check(
        KeepAlivePart::Forever {},
        Some(4),
        &[
            (0, Arrive(0), "cold 0"),
            (0, Arrive(1), "cold 1"),
            (1, Done(1), ""),
            (2, Done(0), ""),
            (3, Arrive(0), "warm 0"),
            (4, Done(0), ""),
            // Three bytes: one is free, two are held by instance 1, the oldest.
            (5, Arrive(2), "cold 1, stop 1"),
            // Nothing can go but one byte: two do not fit, and nothing is stopped in vain.
            (6, Arrive(1), "refuse"),
            (7, Arrive(0), "warm 0"),
            (8, Arrive(0), "refuse"),
            (9, Done(1), ""),
            (10, Arrive(0), "cold 1, stop 1"),
        ],
    );
    check(KeepAlivePart::Forever {}, Some(2), &[(0, Arrive(2), "refuse"), (0, Arrive(1), "cold 0")]);
}

#[test]
fn poisson_keeps_by_the_rate_and_never_empties_from_the_top() {
    let part = KeepAlivePart::Poisson {
        container_s: 600.0,
        p_offload: 1.0 - (-1.0f64).exp(),
        window_s: 100.0,
        min_s: 1.0,
        max_s: 500.0,
    };
    check(
        part,
        None,
        &[
            (0, Arrive(0), "cold 0"),
            // One arrival in 100 s: one mean gap is 100 s.
            (1, Done(0), "timer 0 at 101"),
            (2, Arrive(1), "cold 1"),
            (2, Arrive(1), "cold 2"),
            (2, Done(1), "timer 1 at 52"),
            (2, Done(2), ""),
            // No arrival in the window: the longest time.
            (300, Arrive(2), "cold 3"),
            (401, Done(3), "timer 2 at 901"),
            (402, Arrive(2), "warm 3"),
            (402, Arrive(2), "cold 4"),
            // Three arrivals, two of them in the window: the timer moves forward, and the late one finds nothing to do.
            (403, Done(4), "timer 2 at 453"),
            (453, Ring(2), "stop 4"),
            (901, Ring(2), ""),
        ],
    );
}
