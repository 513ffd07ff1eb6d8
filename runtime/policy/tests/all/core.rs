//! Small scenes of the core: what it asks for, in order.

use crate::bed::{Bed, quiet};
use coldframe_policy::artifact::Class;
use coldframe_policy::event::Event;
use coldframe_policy::units::{FunctionId, WorkerId};

#[test]
fn a_cold_start_takes_every_class_in_order() {
    let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0]);
    bed.serve(0);
    bed.check(&[
        "start i0 d0 f0",
        "route r0 i0",
        "load i0 container from Disk",
        "load i0 runtime from Disk",
        "load i0 backbone from Disk",
        "load i0 adapter from Disk",
        "load i0 kernel from Disk",
        "admit i0 r0",
    ]);
}

#[test]
fn a_shared_backbone_is_loaded_once_and_dropped_after_its_last_user() {
    let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0, 0]);
    bed.serve(0);
    bed.serve(1);
    let loads = bed.take().iter().filter(|w| w.contains("backbone")).count();
    assert_eq!(loads, 1);
    bed.at(700);
    let drops = bed.take().iter().filter(|w| *w == "evict d0 backbone to Disk").count();
    assert_eq!(drops, 1);
}

#[test]
fn pressure_takes_a_shared_backbone_with_its_dependants_but_none_in_use() {
    let mut bed = Bed::new(quiet(&[]), &[&[160]]).functions(&[0, 1]);
    bed.serve(0);
    bed.serve(1);
    assert!(bed.has(1, Class::Kernel) && !bed.has(0, Class::Backbone) && !bed.has(0, Class::Adapter));
    let running = bed.arrive(1);
    bed.arrive(0);
    bed.settle();
    assert!(bed.running.contains_key(&running) && bed.has(1, Class::Backbone));
    bed.done(running);
    bed.settle();
    assert!(bed.has(0, Class::Kernel));
}

#[test]
fn classes_leave_at_their_own_times() {
    let times =
        "{ kind='fixed', container_s=40.0, runtime_s=30.0, backbone_s=20.0, adapter_s=10.0, kernel_s=5.0 }";
    let mut bed = Bed::new(quiet(&[("keep_alive", times)]), &[&[400]]).functions(&[0]);
    bed.serve(0);
    let mut seen = Vec::new();
    for second in [4, 6, 11, 21, 31, 41] {
        bed.at(second);
        seen.push(Class::ALL.iter().filter(|c| bed.has(0, **c)).count());
    }
    assert_eq!(seen, [5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_failed_shared_load_is_loaded_anew_for_the_next() {
    let mut bed = Bed::new(quiet(&[]), &[&[400]]).functions(&[0, 0]);
    bed.arrive(0);
    bed.one_load(0);
    bed.one_load(0);
    bed.fail_load(0);
    assert!(bed.waiting.is_empty() && bed.take().contains(&"refuse r0 Failed".to_owned()));
    bed.serve(1);
}

#[test]
fn removal_and_loss_refuse_who_waits() {
    let mut bed = Bed::new(quiet(&[]), &[&[400], &[400]]).functions(&[0, 0]);
    bed.arrive(0);
    bed.tell(Event::FunctionRemoved(FunctionId(0)));
    bed.arrive(1);
    bed.tell(Event::WorkerLost(WorkerId(1)));
    let refused: Vec<String> = bed.take().into_iter().filter(|w| w.starts_with("refuse")).collect();
    assert_eq!(refused, ["refuse r0 NoFunction", "refuse r1 Failed"]);
    bed.serve(1);
}

#[test]
fn patience_and_queue_limit() {
    let set = [("queue.patience_s", "5.0"), ("queue.limit", "1")];
    let mut bed = Bed::new(quiet(&set), &[&[400]]).functions(&[0]);
    bed.arrive(0);
    bed.arrive(0);
    bed.at(6);
    let refused: Vec<String> = bed.take().into_iter().filter(|w| w.starts_with("refuse")).collect();
    assert_eq!(refused, ["refuse r1 QueueFull", "refuse r0 TimedOut"]);
}
