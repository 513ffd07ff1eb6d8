//! Scenes of functions that say for themselves how long they stay and how many of their requests run at once.

use crate::bed::{Bed, policy, quiet};
use coldframe_policy::artifact::Class;
use coldframe_policy::config::PolicyConfig;
use coldframe_policy::log::Line;
use coldframe_policy::units::FunctionId;

/// Policies of both kinds: a process for each function, and one engine for all.
fn kinds(settings: &[(&str, &str)]) -> [PolicyConfig; 2] {
    [quiet(settings), policy("vllm", settings)]
}

fn refused(bed: &Bed) -> usize {
    bed.log.iter().filter(|line| line.starts_with("refuse")).count()
}

#[test]
fn a_functions_own_keep_alive_beats_the_policys() {
    // The policy's own: an adapter leaves after 60 s, a container after 600 s.
    let fixed = "{ kind = 'fixed', container_s = 600, runtime_s = 600, backbone_s = 60, adapter_s = 60, kernel_s = 60 }";
    let bed = Bed::new(quiet(&[("keep_alive", fixed)]), &[&[1000]]);
    let mut bed = bed.asking(None, None).asking(Some(5), None).asking(Some(900), None);
    (0..3).for_each(|f| bed.serve(f));
    let there = |bed: &Bed| [0, 1, 2].map(|i| bed.has(i, Class::Adapter));
    bed.at(4);
    assert_eq!(there(&bed), [true; 3]);
    bed.at(6);
    assert_eq!(there(&bed), [true, false, true]);
    bed.at(61);
    assert_eq!(there(&bed), [false, false, true]);
    // What it depends on stays with it, and it goes in its own time.
    bed.at(890);
    assert_eq!((there(&bed)[2], bed.has(2, Class::Container)), (true, true));
    bed.at(902);
    assert!(!there(&bed)[2]);
}

#[test]
fn one_engine_drops_the_adapter_of_whoever_asks_and_keeps_the_others() {
    let mut bed = Bed::new(policy("vllm", &[]), &[&[1000]]).asking(None, None).asking(Some(5), None);
    (0..2).for_each(|f| bed.serve(f));
    let slots = |bed: &Bed| {
        let instance = bed.core.instances().iter().find(|i| i.alive).expect("a replica");
        instance.slots.keys().copied().collect::<Vec<_>>()
    };
    bed.at(4);
    assert_eq!(slots(&bed), [FunctionId(0), FunctionId(1)]);
    bed.at(100);
    assert_eq!(slots(&bed), [FunctionId(0)]);
    bed.serve(1);
    assert_eq!(slots(&bed), [FunctionId(0), FunctionId(1)]);
}

#[test]
fn no_more_run_at_once_than_a_function_allows_and_the_rest_wait_in_turn() {
    for policy in kinds(&[]) {
        let name = policy.name.clone();
        let mut bed = Bed::new(policy, &[&[1000]]).asking(None, Some(2)).asking(None, None);
        let calls: Vec<u32> = (0..5).map(|_| bed.arrive(0)).collect();
        bed.settle();
        assert_eq!(bed.running.keys().copied().collect::<Vec<_>>(), calls[..2], "{name}");
        // Another function is not in their queue.
        let other = bed.arrive(1);
        bed.settle();
        assert!(bed.running.contains_key(&other), "{name}: {:?}", bed.log);
        for (place, call) in calls.iter().enumerate() {
            assert!(bed.running.contains_key(call), "{name}: {:?}", bed.log);
            bed.done(*call);
            bed.settle();
            let run = bed.running.len() - 1;
            assert_eq!(run, 2.min(calls.len() - place - 1), "{name}: {:?}", bed.log);
        }
        bed.replayed();
    }
}

#[test]
fn beyond_the_bounded_queue_calls_are_refused() {
    for policy in kinds(&[("queue.limit", "3")]) {
        let name = policy.name.clone();
        let mut bed = Bed::new(policy, &[&[1000]]).asking(None, Some(1));
        let first = bed.arrive(0);
        bed.settle();
        (0..5).for_each(|_| {
            bed.arrive(0);
        });
        bed.settle();
        assert_eq!((bed.running.len(), bed.waiting.len(), refused(&bed)), (1, 3, 2), "{name}: {:?}", bed.log);
        // Who gives up makes room; nobody is forgotten when the last that runs is done.
        let waiting = *bed.waiting.keys().next().expect("they wait");
        bed.cancel(waiting);
        bed.done(first);
        bed.settle();
        assert_eq!((bed.running.len(), bed.waiting.len()), (1, 1), "{name}: {:?}", bed.log);
    }
}

#[test]
fn a_log_without_these_words_is_read_as_before() {
    let mut bed = Bed::new(quiet(&[]), &[&[500]]).asking(None, None).asking(Some(7), Some(3));
    bed.serve(1);
    let (plain, asking): (Vec<_>, Vec<_>) =
        bed.lines.iter().partition(|line| !line.contains("keep_alive\":7"));
    assert_eq!(asking.len(), 1);
    assert!(asking[0].contains("\"max_concurrency\":3"));
    assert!(
        plain.iter().filter(|line| line.contains("function-added")).all(|line| !line.contains("max_conc"))
    );
    assert!(serde_json::from_str::<Line>(asking[0]).is_ok());
}
