//! Random events in any order, failures and losses among them: the book never contradicts itself, and when all is over
//! every request has ended and nothing is held.

use crate::bed::{Bed, S, policy};
use coldframe_policy::config::preset_names;
use coldframe_policy::event::Event;
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_policy::units::{DeviceId, FunctionId, WorkerId};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

fn settings(chance: &mut Chance, name: &str) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("queue.patience_s", chance.of(&["2.0", "30.0"])),
        ("queue.limit", chance.of(&["3", "100000"])),
        ("loader.overlap", chance.of(&["true", "false"])),
        ("loader.host_cache", chance.of(&["true", "false"])),
        (
            "eviction",
            chance.of(&["{kind='none'}", "{kind='lru'}", "{kind='lowest-density', offload_kernels=true}"]),
        ),
        (
            "batching",
            chance.of(&[
                "{kind='immediate', max_batch=2}",
                "{kind='fill-or-expire', delay='current-batch', order='margin', bounded=true}",
            ]),
        ),
    ];
    if name == "vllm" {
        all.push(("engine.adapter_slots", "2"));
        all.push(("engine.max_adapters", "2"));
        return all;
    }
    all.push((
        "scaling",
        chance
            .of(&["{kind='slo-margin', max_instances=3}", "{kind='concurrency', target=1, max_instances=3}"]),
    ));
    all.push((
        "keep_alive",
        chance.of(&[
            "{kind='fixed', container_s=9.0, runtime_s=9.0, backbone_s=5.0, adapter_s=5.0, kernel_s=1.0}",
            "{kind='fixed', container_s=0.0, runtime_s=0.0, backbone_s=0.0, adapter_s=0.0, kernel_s=0.0}",
            "{kind='poisson', container_s=20.0, p_offload=0.9, window_s=60.0, min_s=1.0, max_s=20.0}",
        ]),
    ));
    if name != "instainfer" {
        all.push(("preload", chance.of(&[
            "{kind='none'}",
            "{kind='pckp', window_s=20.0, replan_s=1.0, classes=['container','runtime','backbone','adapter','kernel'], container_pool=2, displace=true}",
            "{kind='pckp', window_s=20.0, replan_s=1.0, classes=['container'], container_pool=1, displace=false}",
        ])));
    }
    all
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let names = preset_names();
    let name = &names[chance.below(names.len() as u64) as usize];
    let settings = settings(&mut chance, name);
    let fleets: [&[&[u64]]; 3] = [&[&[160]], &[&[160, 300], &[160]], &[&[400], &[400], &[160]]];
    let mut workers = fleets[chance.below(3) as usize].to_vec();
    // Some functions say for themselves how long they stay and how many run at once.
    let own = |chance: &mut Chance, most: u64| Some(chance.below(most)).filter(|n| n % 2 == 1);
    let (keep, most) = (own(&mut chance, 40), own(&mut chance, 6).map(|n| n as u32));
    let mut bed = Bed::new(policy(name, &settings), &workers).functions(&[0, 0, 1]).asking(keep, most);
    for _ in 0..400 {
        let pick = chance.below(8) as usize;
        match chance.below(100) {
            0..25 => drop(bed.arrive_with(chance.below(5) as u32, 2 + chance.below(40) as u32)),
            25..55 => bed.one_load(pick % bed.loads.len().max(1)),
            55..70 => bed.one_eviction(pick % bed.evictions.len().max(1)),
            70..85 => {
                let r = bed.running.keys().nth(pick % bed.running.len().max(1)).copied();
                r.into_iter().for_each(|r| bed.done(r));
            }
            85..88 => operate(&mut bed, &mut chance),
            88..95 => bed.at_ns(bed.now + chance.below(3 * S)),
            95..97 => bed.fail_load(pick % bed.loads.len().max(1)),
            97 if chance.below(2) == 0 => {
                bed.tell(Event::FunctionRemoved(FunctionId(chance.below(4) as u32)))
            }
            97 => {
                let set = self::settings(&mut chance, "coldframe");
                let other = ["vllm", "coldframe", "serverlessllm"][chance.below(3) as usize];
                bed.succeed(policy(other, if other == "vllm" { &[] } else { &set }));
            }
            98 => {
                bed.join(&[200], 150);
                workers.push(&[200]);
            }
            _ if chance.below(3) == 0 => lose(&mut bed, &workers, chance.below(workers.len() as u64) as u32),
            _ => {}
        }
    }
    finish(&mut bed, name);
    let replayed = bed.replayed();
    assert!(replayed.parted.is_none() && replayed.equal > 0, "{name}: {replayed:?}");
}

/// What people do by hand.
fn operate(bed: &mut Bed, chance: &mut Chance) {
    let function = FunctionId(chance.below(5) as u32);
    let waits = bed.waiting.keys().nth(chance.below(4) as usize).copied();
    match chance.below(5) {
        0 => bed.tell(Event::FunctionPinned { function, pinned: true }),
        1 => bed.tell(Event::FunctionPinned { function, pinned: false }),
        2 => bed.tell(Event::FunctionWarmed(function)),
        3 => bed.tell(Event::FunctionSlept { function, deep: chance.below(2) == 0 }),
        _ => waits.into_iter().for_each(|r| bed.cancel(r)),
    }
}

/// The worker's running requests and loads end with it, as an executor would see to.
fn lose(bed: &mut Bed, workers: &[&[u64]], w: u32) {
    let first: usize = workers[..w as usize].iter().map(|d| d.len()).sum();
    let gone = |d: DeviceId| (first..first + workers[w as usize].len()).contains(&d.index());
    let devices = bed.devices.clone();
    bed.running.retain(|_, r| !gone(devices[&r.0]));
    bed.evictions.retain(|e| !gone(e.0));
    bed.tell(Event::WorkerLost(WorkerId(w)));
}

fn finish(bed: &mut Bed, name: &str) {
    for function in 0..4 {
        bed.tell(Event::FunctionPinned { function: FunctionId(function), pinned: false });
    }
    for turn in 0.. {
        assert!(turn < 20_000, "{name}: no end");
        bed.settle();
        if let Some((&r, _)) = bed.running.first_key_value() {
            bed.done(r);
        } else if let Some(&(at, _)) = bed.timers.first() {
            bed.at_ns(at);
        } else {
            break;
        }
    }
    assert!(bed.waiting.is_empty(), "{name}: {:?} never ended", bed.waiting);
    let forever = matches!(bed.core.config.keep_alive, KeepAlivePart::Forever {});
    for d in bed.core.devices().iter().filter(|d| d.capacity.0 > 0) {
        assert_eq!((d.active, d.pending, d.starting, d.evicting.0), (0, 0, 0, 0), "{name}: {d:?}");
        assert!(d.waiters.is_empty() && d.ripe.is_empty(), "{name}: {d:?}");
        assert!(forever || d.used.0 == 0 && d.instances.is_empty() && d.exclusive.is_none(), "{name}: {d:?}");
    }
}

#[test]
fn random_events_never_confuse_the_book() {
    (0..1500).for_each(run);
}
