//! Scenes of the presets: the mechanism each is named for, seen in what it asks for.
//!
//! Sizes and times are the bed's; which request pays what is left to the simulator's tests.

use crate::bed::{Bed, policy, quiet};
use coldframe_policy::artifact::Class;

fn seen(bed: &mut Bed, start: &str) -> Vec<String> {
    bed.take().into_iter().filter(|w| w.starts_with(start)).collect()
}

#[test]
fn serverful_slots_go_to_the_least_recently_used() {
    let set = [("engine.adapter_slots", "2"), ("engine.max_adapters", "2"), ("engine.host_adapters", "2")];
    let mut bed = Bed::new(policy("vllm", &set), &[&[400]]).functions(&[0, 0, 0]);
    bed.serve(0);
    bed.at(1);
    bed.serve(1);
    bed.at(2);
    bed.serve(0);
    bed.at(3);
    bed.serve(2); // takes the slot of 1; the host tier of two forgets 0, the first that came
    bed.at(4);
    bed.serve(1); // takes the slot of 0
    assert_eq!(
        seen(&mut bed, "load"),
        [
            "load i0 adapter from Disk",
            "load i0 adapter from Disk",
            "load i0 adapter from Disk",
            "load i0 adapter from Host",
        ]
    );
}

#[test]
fn a_slot_in_use_is_never_taken() {
    let set = [("engine.adapter_slots", "1"), ("engine.max_adapters", "1")];
    let mut bed = Bed::new(policy("vllm", &set), &[&[400]]).functions(&[0, 0]);
    let first = bed.arrive(0);
    bed.settle();
    let second = bed.arrive(1);
    bed.settle();
    assert!(bed.running.contains_key(&first) && bed.waiting.contains_key(&second));
    bed.done(first);
    bed.settle();
    assert!(bed.running.contains_key(&second));
}

#[test]
fn whole_devices_change_hands_by_longest_idleness_and_requests_park_meanwhile() {
    let mut bed = Bed::new(policy("serverlessllm", &[]), &[&[400], &[400]]).functions(&[0, 0, 0]);
    bed.serve(0);
    bed.at(1);
    bed.serve(1);
    bed.at(2);
    let (a, b) = (bed.arrive(0), bed.arrive(1));
    bed.settle();
    let parked = bed.arrive(2);
    assert!(bed.waiting.contains_key(&parked), "both devices are busy");
    bed.take();
    bed.done(b);
    bed.settle();
    assert!(bed.running.contains_key(&parked) && bed.running.contains_key(&a));
    assert!(seen(&mut bed, "stop").len() == 1, "the idle one made room");
}

#[test]
fn a_warm_container_waits_for_whoever_comes() {
    let mut bed = Bed::new(policy("serverlesslora", &[]), &[&[400]]).functions(&[0]);
    bed.settle();
    bed.take();
    bed.serve(0);
    let loads = seen(&mut bed, "load i0");
    assert_eq!(loads.first().map(String::as_str), Some("load i0 runtime from Disk"), "no container to start");
}

/// Functions called once each at these seconds; then the plan alone works until it rests.
fn planned(classes: &str, devices: &[&[u64]], calls: &[(u64, u32)], until: u64) -> Bed {
    let set = [
        ("preload.classes", classes),
        ("preload.window_s", "1000.0"),
        ("preload.container_pool", "0"),
        (
            "keep_alive",
            "{ kind='fixed', container_s=900.0, runtime_s=5.0, backbone_s=5.0, adapter_s=5.0, kernel_s=5.0 }",
        ),
    ];
    let mut bed = Bed::new(policy("serverlesslora", &set), devices).functions(&[0, 0]);
    for &(second, f) in calls {
        bed.at(second);
        bed.serve(f);
    }
    for second in calls.last().map_or(0, |c| c.0)..until {
        bed.at(second);
        bed.settle();
    }
    bed
}

#[test]
fn the_plan_holds_what_it_may_and_lets_the_rest_go() {
    let bed = planned("['container', 'runtime', 'backbone']", &[&[400]], &[(0, 0)], 60);
    let held = Class::ALL.map(|c| bed.has(0, c));
    assert_eq!(held, [true, true, true, false, false]);
    let bed = planned("[]", &[&[400]], &[(0, 0)], 60);
    assert_eq!(Class::ALL.map(|c| bed.has(0, c)), [true, false, false, false, false]);
}

#[test]
fn the_plan_brings_artifacts_back_in_load_order_without_a_request() {
    let all = "['container', 'runtime', 'backbone', 'adapter', 'kernel']";
    let mut bed = planned(all, &[&[400]], &[(0, 0), (1, 1)], 2);
    // Pressure takes everything of function 0 while 1 runs with a large request; then the plan loads it again.
    let large = bed.arrive_with(1, 265);
    bed.settle();
    assert!(bed.running.contains_key(&large) && !bed.has(0, Class::Adapter));
    bed.take();
    bed.done(large);
    for second in 3..12 {
        bed.at(second);
        bed.settle();
    }
    let loads = seen(&mut bed, "load i0");
    assert_eq!(loads, ["load i0 adapter from Host", "load i0 kernel from Disk"]);
}

#[test]
fn the_smallest_margin_goes_first() {
    // One batch at work at a time: SLO 2 s over T0 of 2 s.
    let set = [("sharing", "{ kind='shared-weights', isolation_permille=0 }")];
    let mut bed = Bed::new(quiet(&set), &[&[900]]);
    for _ in 0..3 {
        let mut f = crate::bed::function(0);
        f.t0 = coldframe_policy::units::Nanos(2 * crate::bed::S);
        bed.tell(coldframe_policy::event::Event::FunctionAdded(f));
    }
    (0..3).for_each(|f| bed.serve(f));
    let running = bed.arrive(0);
    bed.at(1);
    let (late, early) = (bed.arrive(1), bed.arrive(2));
    bed.at(2);
    let more = bed.arrive(2);
    assert!(bed.waiting.len() == 3, "{:?}", bed.log);
    bed.done(running);
    // Equal waits, but two requests take longer than one: function 2 has the smaller margin.
    assert!(
        bed.running.contains_key(&early)
            && bed.running.contains_key(&more)
            && bed.waiting.contains_key(&late)
    );
}

#[test]
fn a_negative_margin_starts_another_instance_elsewhere() {
    let set = [("scaling", "{ kind='slo-margin', max_instances=2 }"), ("engine.continuous", "false")];
    let mut bed = Bed::new(quiet(&set), &[&[400], &[400]]).functions(&[0]);
    bed.serve(0);
    bed.take();
    // T(b) = 0.2 + 0.05 (b - 1) passes the limit of 2 s at 38 queued, but a start takes 10.5 s: waiting is sooner.
    for _ in 0..100 {
        bed.arrive(0);
    }
    assert_eq!(seen(&mut bed, "start"), [] as [&str; 0]);
    for _ in 0..150 {
        bed.arrive(0);
    }
    assert_eq!(seen(&mut bed, "start"), ["start i1 d1 f0"]);
}

#[test]
fn on_an_engine_that_all_share_nobody_waits_for_another_s_last_token() {
    let functions = 14;
    let mut bed = Bed::new(policy("coldframe", &[]), &[&[4000]]).functions(&vec![0; functions]);
    let requests: Vec<u32> = (0..functions as u32).map(|f| bed.arrive(f)).collect();
    bed.settle();
    let waiting = requests.iter().filter(|request| !bed.running.contains_key(*request)).count();
    assert_eq!(waiting, 0, "{:?}", bed.log);
}
