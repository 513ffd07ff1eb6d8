//! Guests nobody thought of: scripts of random deeds, and components with random damage. Each call ends by name, leaves nothing
//! alive and no one worse off. `fuzz/` does the same for as long as one likes.

use crate::bed::{Bed, call, code, grants, limits, sandbox};
use crate::guests::{Script, bare, hook, script};
use coldframe_sandbox::{Limits, ModuleLimits, check};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Every word a call may end with: `asked` is the guest's own.
const ENDS: [&str; 17] = [
    "ok",
    "out_of_fuel",
    "deadline",
    "memory",
    "table",
    "stack",
    "trap",
    "output",
    "tokens",
    "generations",
    "host_calls",
    "http_calls",
    "state",
    "not_granted",
    "busy",
    "instantiate",
    "asked",
];

fn tight() -> Limits {
    Limits {
        fuel: 3_000_000,
        memory_bytes: 8 << 20,
        output_bytes: 64 << 10,
        tokens: 64,
        generations: 4,
        host_calls: 2_000,
        log_bytes: 4 << 10,
        wall: Duration::from_secs(20),
        ..limits()
    }
}

/// One deed with arguments that are small, huge or just at an edge.
fn deed() -> impl Strategy<Value = Vec<u8>> {
    let argument = prop_oneof![
        4 => 0u32..64,
        2 => Just(4096u32),
        2 => 16_000u32..140_000,
        1 => any::<u32>(),
        1 => prop_oneof![Just(u32::MAX), Just(0x8000_0000), Just(131_072)],
    ];
    let op = prop_oneof![12 => 1u8..8, 6 => 13u8..25, 6 => 26u8..40, 1 => 8u8..13];
    (op, vec(argument, 0..4), vec(any::<u8>(), 0..3)).prop_map(|(op, words, bytes)| {
        let mut deed = vec![op];
        deed.extend(bytes);
        deed.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        deed
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn any_script_of_deeds_ends_by_name_and_leaves_nothing() {
    let runtime = runtime();
    let sandbox = sandbox();
    let load = |limits| runtime.block_on(sandbox.load(script(), limits, grants())).expect("it loads");
    let (function, control) = (load(tight()), load(limits()));
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(deeds in vec(deed(), 0..40), repeats in any::<bool>())| {
        let mut body = deeds.concat();
        if repeats {
            body.push(17);
        }
        let bed = Bed::new();
        let (end, got) = runtime.block_on(call(&function, &body, &bed));
        prop_assert!(ENDS.contains(&code(&end)), "{end:?}");
        prop_assert_eq!(bed.alive.load(Ordering::SeqCst), 0);
        prop_assert!(end.usage.fuel <= tight().fuel && end.usage.log_bytes <= tight().log_bytes);
        prop_assert!(got.bytes.len() as u64 <= tight().output_bytes && end.usage.tokens <= tight().tokens);
        prop_assert!(end.usage.memory_bytes_max <= tight().memory_bytes);
        let (end, got) = runtime.block_on(call(&control, &Script::new().op(29, &[]).0, &bed));
        prop_assert_eq!(code(&end), "ok");
        prop_assert_eq!(got.text(), "clean");
    });
}

#[test]
fn any_damage_to_a_component_is_refused_or_contained() {
    let runtime = runtime();
    let sandbox = sandbox();
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    proptest!(config, |(which in 0usize..3, damage in damage, cut in cut)| {
        let mut bytes = [script(), hook(), bare()][which].to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if check(&bytes, &ModuleLimits::default()).is_ok()
            && let Ok(function) = runtime.block_on(sandbox.load(&bytes, tight(), grants()))
        {
            let (end, _) = runtime.block_on(call(&function, &Script::new().say("x").0, &Bed::new()));
            prop_assert!(!code(&end).is_empty());
        }
    });
}
