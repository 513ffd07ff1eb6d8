//! Scenes of what people do by hand, of a change of policy, and of the log that tells it all.

use crate::bed::{Bed, S, policy, quiet};
use coldframe_policy::artifact::Class;
use coldframe_policy::event::{Action, Event};
use coldframe_policy::log::{self, Line};
use coldframe_policy::units::FunctionId;

fn pin(bed: &mut Bed, f: u32, pinned: bool) {
    bed.tell(Event::FunctionPinned { function: FunctionId(f), pinned });
}

#[test]
fn a_pinned_function_stays_under_pressure_and_past_its_time() {
    // Room for the backbone, two functions' adapters and kernels, and little more.
    let mut bed = Bed::new(quiet(&[]), &[&[165]]).functions(&[0, 0, 0]);
    bed.serve(0);
    pin(&mut bed, 0, true);
    bed.serve(1);
    bed.serve(2);
    assert!(bed.has(0, Class::Kernel), "{:?}", bed.log);
    bed.at(5000);
    assert!(bed.has(0, Class::Kernel));
    pin(&mut bed, 0, false);
    bed.at(12_000);
    assert!(!bed.has(0, Class::Container));
}

/// Some seconds pass, in which all that is begun is done.
fn pass(bed: &mut Bed) {
    for _ in 0..5 {
        bed.settle();
        bed.at_ns(bed.now + S);
    }
    bed.settle();
}

/// Function 0 pinned in place; a request of function 1 then needs 20 MiB more than is left while that lasts.
fn shut_out() -> (Bed, u32) {
    let mut bed = Bed::new(quiet(&[]), &[&[165]]).functions(&[0, 0, 0]);
    bed.serve(0);
    pin(&mut bed, 0, true);
    let large = bed.arrive_with(1, 20);
    bed.settle();
    assert!(bed.waiting.contains_key(&large), "{:?}", bed.log);
    (bed, large)
}

#[test]
fn who_can_never_fit_beside_the_pinned_holds_up_nobody_and_is_told_in_time() {
    let (mut bed, large) = shut_out();
    let small = bed.arrive(2);
    bed.settle();
    assert!(bed.running.contains_key(&small), "{:?}", bed.log);
    bed.done(small);
    pin(&mut bed, 0, false);
    bed.settle();
    assert!(bed.running.contains_key(&large), "{:?}", bed.log);

    let (mut bed, large) = shut_out();
    bed.take();
    bed.at(601);
    assert!(bed.take().contains(&format!("refuse r{large} TimedOut")));
}

#[test]
fn the_next_of_a_queue_goes_when_its_head_gave_up_waiting_for_more_memory() {
    let (mut bed, large) = shut_out();
    let small = bed.arrive(1);
    assert!(bed.waiting.contains_key(&small));
    bed.cancel(large);
    bed.settle();
    assert!(bed.running.contains_key(&small), "{:?}", bed.log);
}

#[test]
fn what_a_pin_held_is_for_who_waited_once_it_is_let_go() {
    let function = FunctionId(0);
    let endings = [
        Event::FunctionPinned { function, pinned: false },
        Event::FunctionSlept { function, deep: false },
        Event::FunctionSlept { function, deep: true },
        Event::FunctionRemoved(function),
    ];
    let slot = [("engine.adapter_slots", "1"), ("engine.max_adapters", "1")];
    for (preset, capacity) in [
        ("coldframe", 135),
        ("serverlesslora", 135),
        ("instainfer", 200),
        ("serverlessllm", 200),
        ("vllm", 400),
    ] {
        for ending in endings.clone() {
            let settings: &[(&str, &str)] = if preset == "vllm" { &slot } else { &[] };
            let mut bed = Bed::new(policy(preset, settings), &[&[capacity]]).functions(&[0, 0]);
            let first = bed.arrive(0);
            pass(&mut bed);
            assert!(bed.running.contains_key(&first), "{preset}: {:?}", bed.log);
            bed.done(first);
            pin(&mut bed, 0, true);
            let waits = bed.arrive(1);
            pass(&mut bed);
            assert!(bed.waiting.contains_key(&waits), "{preset}: {:?}", bed.log);
            bed.tell(ending.clone());
            pass(&mut bed);
            assert!(bed.running.contains_key(&waits), "{preset} {ending:?}: {:?}", bed.log);
        }
    }
}

#[test]
fn warming_brings_everything_in_and_makes_room_among_the_idle() {
    let mut bed = Bed::new(quiet(&[]), &[&[165]]).functions(&[0, 0, 0]);
    bed.serve(0);
    bed.at(1);
    bed.serve(1);
    bed.tell(Event::FunctionWarmed(FunctionId(2)));
    bed.settle();
    assert!(bed.has(2, Class::Kernel), "{:?}", bed.log);
    bed.take();
    bed.serve(2);
    assert!(!bed.take().iter().any(|words| words.starts_with("load")));
}

#[test]
fn sleep_gives_device_memory_back_and_a_request_wakes() {
    let mut bed = Bed::new(policy("coldframe", &[]), &[&[400]]).functions(&[0]);
    bed.serve(0);
    bed.tell(Event::FunctionSlept { function: FunctionId(0), deep: false });
    bed.settle();
    assert!(!bed.has(0, Class::Adapter));
    bed.at(30);
    bed.settle();
    assert!(!bed.has(0, Class::Adapter), "the plan leaves sleepers alone");
    bed.take();
    bed.serve(0);
    assert!(bed.take().contains(&"load i0 adapter from Host".to_owned()));
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let mut bed = Bed::new(quiet(&[("queue.limit", "1")]), &[&[400]]).functions(&[0]);
    let first = bed.arrive(0);
    bed.cancel(first);
    let second = bed.arrive(0);
    bed.settle();
    assert!(bed.running.contains_key(&second));
    assert!(!bed.take().iter().any(|words| words.starts_with("refuse")));
}

#[test]
fn a_change_of_policy_keeps_who_waits_and_what_runs_keeps_its_memory() {
    for other in ["vllm", "serverlesslora", "coldframe", "serverlessllm"] {
        let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0, 0]);
        let runs = bed.arrive(0);
        bed.settle();
        assert!(bed.running.contains_key(&runs));
        let waits = bed.arrive(1);
        bed.succeed(policy(other, &[]));
        assert!(bed.core.devices()[0].evicting.0 > 0, "what ran holds memory");
        bed.settle();
        assert!(bed.running.contains_key(&waits), "{other}: {:?}", bed.log);
        bed.done(waits);
        bed.serve(0);
        assert_eq!(bed.replayed().parted, None);
    }
}

#[test]
fn a_changed_log_parts_where_it_was_changed() {
    let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0]);
    bed.serve(0);
    assert_eq!(bed.replayed().parted, None);
    let is_admit = |line: &String| line.contains("\"admit\"");
    let at = bed.lines.iter().position(is_admit).expect("it was admitted");
    let whole = bed.lines.clone();
    bed.lines.remove(at);
    let parted = bed.replayed().parted.expect("an action is missing");
    assert!(matches!(parted.decided, Some(Action::Admit { .. })) && parted.logged.is_none());
    bed.lines = whole;
    bed.lines[at] = bed.lines[at].replace("[[0,", "[[7,");
    assert!(bed.replayed().parted.is_some_and(|p| p.logged.is_some() && p.decided.is_some()));
}

#[test]
fn another_version_is_refused_and_a_cut_is_told() {
    let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0]);
    bed.lines
        .push(log::to_text(&Line::Cut { at: coldframe_policy::units::Nanos(1), reason: "full".to_owned() }));
    assert_eq!(bed.replayed().cut.as_deref(), Some("full"));
    let text = bed.lines[0].replace("\"coldframe_log\":1", "\"coldframe_log\":2");
    assert!(matches!(log::Reader::new(text.as_bytes()), Err(log::LogError::Version { found: 2 })));
}
