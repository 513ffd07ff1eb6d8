//! The engine over an executor without weights: the schedule, its bounds, its ends.

use crate::fake::{FAIL_TOKEN, Fake, NAN_TOKEN, Seen, Teller, VOCAB};
use coldframe_backbone::engine::{Advance, Engine, EngineOptions, Reason, Request, SequenceId, What};
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_backbone::kv::TenantId;
use std::collections::BTreeMap;

/// What came of a sequence.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Outcome {
    /// Its tokens and digests of the logits they were chosen from.
    pub tokens: Vec<(u32, u32)>,
    /// Prompt tokens found in cached pages.
    pub cached: usize,
    /// How it ended, once it has.
    pub end: Option<Result<Reason, &'static str>>,
    pub(crate) started: bool,
}

/// Outcomes by sequence.
pub type Outcomes = BTreeMap<SequenceId, Outcome>;

/// Steps once and enters what happened.
pub fn step(engine: &mut Engine, outcomes: &mut Outcomes) {
    let step = engine.step().expect("the executor works");
    engine.audit().expect("the book agrees with itself");
    for event in step.events {
        let outcome = outcomes.entry(event.sequence).or_default();
        assert_eq!(outcome.end, None, "{:?} after the end", event.what);
        match event.what {
            What::Started { cached, .. } => {
                assert!(!outcome.started, "started twice");
                (outcome.cached, outcome.started) = (cached, true);
            }
            What::Token(spoken) => outcome.tokens.push((spoken.token, spoken.top[0].0)),
            What::Done { reason, usage, .. } => {
                assert_eq!(usage.completion, outcome.tokens.len());
                outcome.end = Some(Ok(reason));
            }
            What::Failed { error, .. } => outcome.end = Some(Err(error.code())),
        }
    }
}

/// Steps until nothing is left.
pub fn run(engine: &mut Engine) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for _ in 0..10_000 {
        if engine.is_idle() {
            assert_eq!(engine.pages().used, 0, "pages are left in use");
            assert_eq!(engine.swapped_bytes(), 0, "bytes are left in host memory");
            return outcomes;
        }
        step(engine, &mut outcomes);
    }
    panic!("does not end: {} running, {} waiting", engine.running(), engine.waiting());
}

fn engine(pages: u32, options: EngineOptions) -> (Engine, Seen) {
    let fake = Fake::new(pages);
    let seen = fake.seen();
    (Engine::new(Box::new(fake), options).unwrap(), seen)
}

fn request(tenant: u32, seed: u32, prompt: usize, max_tokens: usize) -> Request {
    let token = |i: u32| (seed * 7 + i * (i + seed) + 3) % (VOCAB as u32 - 2);
    Request {
        tenant: TenantId(tenant),
        adapter: None,
        yields: false,
        prompt: (0..prompt as u32).map(token).collect(),
        max_tokens: Some(max_tokens),
        voices: vec![Teller::boxed(u64::from(seed), VOCAB)],
    }
}

fn solo(request: Request) -> Outcome {
    let (mut engine, _) = engine(64, EngineOptions::default());
    let id = engine.submit(request).unwrap();
    run(&mut engine).remove(&id).unwrap()
}

fn tokens(outcome: &Outcome) -> &[(u32, u32)] {
    &outcome.tokens
}

#[test]
fn decode_rows_come_first_and_prefill_keeps_to_its_budget() {
    let options = EngineOptions { max_batched_tokens: 40, max_sequences: 8, ..EngineOptions::default() };
    let (mut engine, seen) = engine(64, options);
    let mut outcomes = Outcomes::new();
    engine.submit(request(1, 1, 10, 20)).unwrap();
    step(&mut engine, &mut outcomes);
    engine.submit(request(1, 2, 100, 2)).unwrap();
    for _ in 0..3 {
        step(&mut engine, &mut outcomes);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], [(0, 10)]);
    assert_eq!(seen[1..], [[(10, 1), (0, 39)], [(11, 1), (39, 39)], [(12, 1), (78, 22)]]);
}

#[test]
fn functions_take_turns() {
    let options = EngineOptions {
        max_batched_tokens: 32,
        prefill_quantum: 16,
        max_sequences: 8,
        ..EngineOptions::default()
    };
    let (mut engine, _) = engine(128, options);
    let ids: Vec<_> = (0..4).map(|i| engine.submit(request(1, i, 64, 1)).unwrap()).collect();
    let late = engine.submit(request(2, 9, 64, 1)).unwrap();
    let (mut outcomes, mut order) = (Outcomes::new(), Vec::new());
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
        let ended = outcomes.iter().filter(|(_, outcome)| outcome.end.is_some()).map(|(id, _)| *id);
        let new: Vec<_> = ended.filter(|id| !order.contains(id)).collect();
        order.extend(new);
    }
    // The other tenant's one request ends beside the first of the four before it, not after them all.
    assert_eq!(order, [ids[0], late, ids[1], ids[2], ids[3]]);
}

/// A request that gives way.
fn yielding(request: Request) -> Request {
    Request { yields: true, ..request }
}

#[test]
fn who_yields_has_short_steps_alone_and_a_token_now_and_then_beside_others() {
    let options = EngineOptions { yielding_tokens: 8, yielding_steps: 4, ..EngineOptions::default() };
    let (mut engine, seen) = engine(64, options);
    let mut outcomes = Outcomes::new();
    let slow = engine.submit(yielding(request(1, 1, 20, 3))).unwrap();
    step(&mut engine, &mut outcomes);
    let quick = engine.submit(request(1, 2, 100, 6)).unwrap();
    let (mut order, mut steps) = (Vec::new(), 0);
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
        steps += 1;
        for id in [slow, quick] {
            if outcomes.get(&id).is_some_and(|outcome| outcome.end.is_some()) && !order.contains(&id) {
                order.push(id);
            }
        }
    }
    assert_eq!(order, [quick, slow]);
    let seen = seen.lock().unwrap();
    // Alone a short step; beside the other nothing, then one token in the fourth step; alone again in short steps.
    assert_eq!(seen[..3], [vec![(0, 8)], vec![(0, 100)], vec![(100, 1)]]);
    assert_eq!(seen[3..5], [vec![(101, 1)], vec![(102, 1), (8, 1)]]);
    assert_eq!(
        seen[5..],
        [vec![(103, 1)], vec![(104, 1)], vec![(9, 8)], vec![(17, 3)], vec![(20, 1)], vec![(21, 1)]]
    );
    assert_eq!(steps, seen.len() - 1);
    assert_eq!(outcomes[&slow], solo(request(1, 1, 20, 3)), "it says what it would have said");
}

#[test]
fn who_yields_keeps_no_seat_and_no_page_from_others() {
    let options = EngineOptions { yielding_tokens: 2, max_sequences: 4, ..EngineOptions::default() };
    let (mut engine, _) = engine(8, options);
    let mut outcomes = Outcomes::new();
    let hogs: Vec<_> =
        (0..4).map(|seed| engine.submit(yielding(request(1, seed, 30, 30))).unwrap()).collect();
    step(&mut engine, &mut outcomes);
    assert_eq!((engine.running(), engine.waiting()), (2, 2));
    // Six of the eight pages, and older ones have some of them.
    let ids: Vec<_> = (8..10).map(|seed| engine.submit(request(1, seed, 30, 18)).unwrap()).collect();
    step(&mut engine, &mut outcomes);
    assert!(ids.iter().all(|id| outcomes.contains_key(id)), "newcomers do not wait for those that yield");
    while !ids.iter().all(|id| outcomes.get(id).is_some_and(|outcome| outcome.end.is_some())) {
        step(&mut engine, &mut outcomes);
        engine.audit().unwrap();
    }
    assert!(hogs.iter().all(|id| outcomes.get(id).is_none_or(|outcome| outcome.end.is_none())));
    let rest = run(&mut engine);
    assert!(hogs.iter().all(|id| rest[id].end.is_some()));
}

#[test]
fn a_newcomer_has_the_seat_of_one_that_yields_which_goes_on_later() {
    let options = EngineOptions { yielding_tokens: 3, max_sequences: 4, ..EngineOptions::default() };
    let (mut engine, _) = engine(64, options);
    let mut outcomes = Outcomes::new();
    let slow: Vec<_> =
        (0..3).map(|seed| engine.submit(yielding(request(seed, seed, 20, 20))).unwrap()).collect();
    (0..5).for_each(|_| step(&mut engine, &mut outcomes));
    let quick: Vec<_> = (3..7).map(|seed| engine.submit(request(seed, seed, 9, 5)).unwrap()).collect();
    step(&mut engine, &mut outcomes);
    assert_eq!((engine.running(), engine.yielding(), engine.waiting()), (4, 0, 3));
    assert!(quick.iter().all(|id| outcomes[id].started));
    // One that finds all seats taken by such as itself puts none aside, nor do those that yield come back before it.
    let late = engine.submit(request(1, 8, 9, 5)).unwrap();
    step(&mut engine, &mut outcomes);
    assert_eq!((engine.running(), engine.yielding(), engine.waiting()), (4, 0, 4));
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
        engine.audit().unwrap();
    }
    assert!(outcomes[&late].end.is_some());
    for (seed, id) in slow.iter().enumerate() {
        let seed = seed as u32;
        assert_eq!(
            tokens(&outcomes[id]),
            tokens(&solo(request(seed, seed, 20, 20))),
            "it says what it would have said"
        );
    }
}

#[test]
fn what_a_sequence_says_does_not_depend_on_the_batch() {
    let (mut engine, _) = engine(64, EngineOptions { max_batched_tokens: 64, ..EngineOptions::default() });
    let sizes = [(1, 30), (17, 9), (33, 20), (70, 3), (16, 16), (5, 40)];
    let requests = || {
        sizes.iter().enumerate().map(|(i, (prompt, most))| request(i as u32 % 2, i as u32, *prompt, *most))
    };
    let ids: Vec<_> = requests().map(|request| engine.submit(request).unwrap()).collect();
    let outcomes = run(&mut engine);
    for (id, request) in ids.iter().zip(requests()) {
        assert_eq!(tokens(&outcomes[id]), tokens(&solo(request)));
        assert_eq!(outcomes[id].end, Some(Ok(Reason::Length)));
    }
}

#[test]
fn a_prefix_is_reused_by_its_own_tenant_and_says_the_same() {
    let (mut engine, seen) = engine(64, EngineOptions::default());
    let first = engine.submit(request(1, 1, 50, 4)).unwrap();
    let before = run(&mut engine);
    let own = engine.submit(request(1, 1, 50, 4)).unwrap();
    let stranger = engine.submit(request(2, 1, 50, 4)).unwrap();
    let after = run(&mut engine);
    assert_eq!((after[&own].cached, after[&stranger].cached), (48, 0));
    assert_eq!(tokens(&after[&own]), tokens(&before[&first]));
    assert_eq!(tokens(&after[&stranger]), tokens(&before[&first]), "the same model, so the same words");
    assert!(seen.lock().unwrap()[4].contains(&(48, 2)), "only the rest of the prompt is computed");
}

#[test]
fn choices_share_the_prompt_and_part_at_the_first_token() {
    let (mut engine, seen) = engine(64, EngineOptions::default());
    let mut many = request(1, 1, 40, 12);
    many.voices = (0..4).map(|seed| Teller::boxed(seed, VOCAB)).collect();
    let first = engine.submit(many).unwrap();
    let outcomes = run(&mut engine);
    assert_eq!(seen.lock().unwrap()[0], [(0, 40)], "the prompt is computed once");
    for seed in 0..4 {
        let mut alone = request(1, 1, 40, 12);
        alone.voices = vec![Teller::boxed(seed, VOCAB)];
        assert_eq!(tokens(&outcomes[&first.choice(seed as usize)]), tokens(&solo(alone)));
    }
    assert_eq!(engine.pages().copies, 3, "the shared tail page is copied for all but the last writer");
}

#[test]
fn a_cancelled_choice_leaves_the_others_be() {
    for victim in 0..3 {
        for steps in 0..3 {
            let options =
                EngineOptions { max_batched_tokens: 30, max_sequences: 8, ..EngineOptions::default() };
            let (mut engine, _) = engine(64, options);
            let mut many = request(1, 1, 40, 6);
            many.voices = (0..3).map(|seed| Teller::boxed(seed, VOCAB)).collect();
            let first = engine.submit(many).unwrap();
            let mut outcomes = Outcomes::new();
            (0..steps).for_each(|_| step(&mut engine, &mut outcomes));
            assert!(engine.cancel(first.choice(victim)));
            assert!(!engine.cancel(first.choice(victim)), "already gone");
            while !engine.is_idle() {
                step(&mut engine, &mut outcomes);
            }
            for seed in (0..3).filter(|seed| *seed != victim) {
                let mut alone = request(1, 1, 40, 6);
                alone.voices = vec![Teller::boxed(seed as u64, VOCAB)];
                assert_eq!(tokens(&outcomes[&first.choice(seed)]), tokens(&solo(alone)));
            }
            assert_eq!(outcomes[&first.choice(victim)].end, Some(Ok(Reason::Cancelled)));
        }
    }
}

#[test]
fn cancelling_frees_the_pages_at_once() {
    let (mut engine, _) = engine(64, EngineOptions::default());
    let id = engine.submit(request(1, 1, 100, 50)).unwrap();
    let mut outcomes = Outcomes::new();
    step(&mut engine, &mut outcomes);
    assert_eq!(engine.pages().used, 7);
    assert!(engine.cancel(id));
    assert_eq!((engine.pages().used, engine.running(), engine.waiting()), (0, 0, 0));
    step(&mut engine, &mut outcomes);
    assert_eq!(outcomes[&id].end, Some(Ok(Reason::Cancelled)));
    assert!(engine.is_idle());
}

#[test]
fn too_few_pages_delay_but_change_nothing() {
    for swap_bytes in [0, 1 << 20] {
        let options = EngineOptions { swap_bytes, max_sequences: 8, ..EngineOptions::default() };
        let (mut engine, _) = engine(9, options);
        let requests = || (0..5).map(|i| request(i % 2, i, 20 + i as usize, 60));
        let ids: Vec<_> = requests().map(|request| engine.submit(request).unwrap()).collect();
        let (mut outcomes, mut preempted) = (Outcomes::new(), 0);
        let mut engine_steps = 0;
        while !engine.is_idle() {
            let events = engine.step().unwrap();
            preempted += events.stats.preempted;
            for event in events.events {
                if let What::Token(spoken) = event.what {
                    let outcome = outcomes.entry(event.sequence).or_default();
                    outcome.tokens.push((spoken.token, spoken.top[0].0));
                }
            }
            engine_steps += 1;
            assert!(engine_steps < 1000, "does not end");
            engine.audit().unwrap();
        }
        assert!(preempted > 0, "nine pages cannot hold five sequences of five pages");
        assert_eq!(engine.swapped_bytes(), 0);
        for (id, request) in ids.iter().zip(requests()) {
            assert_eq!(tokens(&outcomes[id]), tokens(&solo(request)), "with {swap_bytes} bytes of swap");
        }
    }
}

#[test]
fn a_sequence_put_aside_at_any_time_says_the_same() {
    for swap_bytes in [0, 1 << 20] {
        for when in 1..8 {
            let options = EngineOptions {
                swap_bytes,
                max_batched_tokens: 16,
                max_sequences: 4,
                ..EngineOptions::default()
            };
            let (mut engine, _) = engine(32, options);
            let id = engine.submit(request(1, 3, 40, 30)).unwrap();
            let mut outcomes = Outcomes::new();
            (0..when).for_each(|_| step(&mut engine, &mut outcomes));
            assert!(engine.preempt(id));
            assert!(!engine.preempt(id), "it is not running");
            assert_eq!((engine.pages().used, engine.waiting()), (0, 1));
            assert_eq!(engine.swapped_bytes() > 0, swap_bytes > 0);
            while !engine.is_idle() {
                step(&mut engine, &mut outcomes);
            }
            assert_eq!(tokens(&outcomes[&id]), tokens(&solo(request(1, 3, 40, 30))));
        }
    }
}

#[test]
fn numbers_that_are_none_end_their_own_sequence_only() {
    let (mut engine, _) = engine(32, EngineOptions::default());
    let mut broken = request(1, 1, 33, 8);
    broken.prompt[32] = NAN_TOKEN;
    let broken_id = engine.submit(broken).unwrap();
    let fine = engine.submit(request(1, 2, 20, 8)).unwrap();
    let outcomes = run(&mut engine);
    assert_eq!(outcomes[&broken_id].end, Some(Err("non_finite")));
    assert_eq!(tokens(&outcomes[&fine]), tokens(&solo(request(1, 2, 20, 8))));
    assert_eq!(engine.pages().cached, 1, "of its pages none is kept");
}

#[test]
fn a_failing_executor_leaves_nothing_behind() {
    let (mut engine, _) = engine(32, EngineOptions::default());
    engine.submit(request(1, 2, 20, 8)).unwrap();
    engine.step().unwrap();
    let mut fails = request(1, 1, 33, 8);
    fails.prompt[32] = FAIL_TOKEN;
    engine.submit(fails).unwrap();
    assert_eq!(engine.step().unwrap_err().code(), "file_changed");
    assert!(engine.is_idle());
    assert_eq!((engine.pages().used, engine.running(), engine.waiting()), (0, 0, 0));
    engine.audit().unwrap();
}

#[test]
fn a_voice_ends_its_sequence() {
    let (mut engine, _) = engine(32, EngineOptions::default());
    let said = solo(request(1, 1, 12, 30));
    let eos = said.tokens[5].0;
    let mut ends = request(1, 1, 12, 30);
    ends.voices = vec![Teller::ending(1, VOCAB, eos)];
    let id = engine.submit(ends).unwrap();
    let outcome = run(&mut engine).remove(&id).unwrap();
    let first = said.tokens.iter().position(|(token, _)| *token == eos).unwrap();
    assert_eq!(outcome.tokens, said.tokens[..=first]);
    assert_eq!(outcome.end, Some(Ok(Reason::Eos)));
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_their_field() {
    let (mut engine, _) = engine(8, EngineOptions { max_sequences: 4, ..EngineOptions::default() });
    let mut check = |change: &dyn Fn(&mut Request), expected: &str| {
        let mut request = request(1, 1, 20, 8);
        change(&mut request);
        assert_eq!(engine.submit(request).unwrap_err().to_string(), expected);
    };
    check(&|r| r.prompt.clear(), "prompt: is empty: give at least one token");
    check(&|r| r.prompt = vec![1; 256], "prompt: 256 tokens leave no room in the context of 256");
    check(&|r| r.prompt[3] = 48, "prompt: token 48 is outside the vocabulary of 48");
    check(&|r| r.max_tokens = Some(0), "max_tokens: must be at least 1");
    check(&|r| r.max_tokens = Some(237), "max_tokens: 237 is more than the 236 that the context leaves");
    check(&|r| r.voices.clear(), "n: must be from 1 to 4, is 0");
    check(
        &|r| r.max_tokens = Some(110),
        "no room for a sequence of 130 tokens in the KV pages: needs 1152 bytes, 1024 free",
    );
    assert!(engine.is_idle());
}

#[test]
fn without_a_limit_a_sequence_fills_what_there_is() {
    let (mut engine, _) = engine(2, EngineOptions::default());
    let mut endless = request(1, 1, 20, 1);
    endless.max_tokens = None;
    let id = engine.submit(endless).unwrap();
    let outcome = run(&mut engine).remove(&id).unwrap();
    assert_eq!(outcome.tokens.len(), 2 * PAGE_TOKENS + 1 - 20);
    assert_eq!(outcome.end, Some(Ok(Reason::Length)));
}

#[test]
fn queues_are_bounded() {
    let options = EngineOptions { max_waiting: 3, max_waiting_per_tenant: 2, ..EngineOptions::default() };
    let (mut engine, _) = engine(8, options);
    engine.submit(request(1, 1, 4, 4)).unwrap();
    engine.submit(request(1, 2, 4, 4)).unwrap();
    let refused = engine.submit(request(1, 3, 4, 4)).unwrap_err();
    assert_eq!(refused.to_string(), "requests waiting of this tenant: 3 exceeds the limit of 2");
    engine.submit(request(2, 1, 4, 4)).unwrap();
    let refused = engine.submit(request(3, 1, 4, 4)).unwrap_err();
    assert_eq!(refused.to_string(), "requests waiting in all: 4 exceeds the limit of 3");
    run(&mut engine);
    engine.submit(request(1, 3, 4, 4)).unwrap();
}

#[test]
fn a_tenant_beyond_its_share_waits_for_itself_and_ends() {
    // Tenant 2's cached pages fill half; tenant 1 asks for more than the rest, twice.
    let (mut engine, _) = engine(16, EngineOptions::default());
    engine.submit(request(2, 5, 8 * PAGE_TOKENS, 1)).unwrap();
    run(&mut engine);
    assert_eq!(engine.pages().cached, 8);
    let ids = [1, 2].map(|seed| engine.submit(request(1, seed, 10 * PAGE_TOKENS, 20)).unwrap());
    let outcomes = run(&mut engine);
    for (id, seed) in ids.iter().zip([1, 2]) {
        assert_eq!(tokens(&outcomes[id]), tokens(&solo(request(1, seed, 10 * PAGE_TOKENS, 20))));
    }
}

#[test]
fn settings_that_disagree_are_named() {
    let check = |options: EngineOptions, expected: &str| {
        let error = Engine::new(Box::new(Fake::new(1)), options).err().unwrap();
        assert_eq!(error.to_string(), expected);
    };
    let few = EngineOptions { max_batched_tokens: 3, max_sequences: 4, ..EngineOptions::default() };
    check(few, "max_batched_tokens: must be at least max_sequences");
    check(
        EngineOptions { max_sequences: 0, ..EngineOptions::default() },
        "max_sequences: must be at least 1",
    );
    assert_eq!(
        Engine::new(Box::new(Fake::new(0)), EngineOptions::default()).err().unwrap().code(),
        "no_room"
    );
}

#[test]
fn ten_thousand_sequences_leave_nothing() {
    let (mut engine, _) = engine(32, EngineOptions { max_sequences: 16, ..EngineOptions::default() });
    let mut outcomes = Outcomes::new();
    for round in 0..10_000_u32 {
        let id = engine.submit(request(round % 5, round % 11, 1 + round as usize % 20, 4)).unwrap();
        step(&mut engine, &mut outcomes);
        if round % 3 == 0 {
            engine.cancel(id);
        }
    }
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
    }
    assert_eq!(outcomes.values().filter(|outcome| outcome.end.is_some()).count(), 10_000);
    let pages = engine.pages();
    assert_eq!((pages.used, pages.free + pages.cached), (0, 32));
}

#[test]
fn a_sequence_held_back_gives_up_its_place_and_then_says_the_same() {
    let (mut engine, _) = engine(64, EngineOptions::default());
    let held = engine.submit(request(1, 1, 40, 30)).unwrap();
    let other = engine.submit(request(2, 2, 40, 30)).unwrap();
    let mut outcomes = Outcomes::new();
    for _ in 0..5 {
        step(&mut engine, &mut outcomes);
    }
    let told = outcomes[&held].tokens.len();
    assert!(engine.pause(held) && !engine.pause(held), "it can be held back once");
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
    }
    assert_eq!((engine.paused(), engine.pages().used), (1, 0), "it holds no pages");
    assert_eq!(outcomes[&held].tokens.len(), told, "it says nothing meanwhile");
    assert_eq!(outcomes[&other].end, Some(Ok(Reason::Length)));
    assert!(engine.resume(held) && !engine.resume(held));
    while !engine.is_idle() {
        step(&mut engine, &mut outcomes);
    }
    assert_eq!(tokens(&outcomes[&held]), tokens(&solo(request(1, 1, 40, 30))));
}

#[test]
fn a_sequence_held_back_can_be_cancelled() {
    let (mut engine, _) = engine(64, EngineOptions::default());
    let id = engine.submit(request(1, 1, 40, 30)).unwrap();
    let mut outcomes = Outcomes::new();
    step(&mut engine, &mut outcomes);
    assert!(engine.pause(id) && engine.cancel(id));
    step(&mut engine, &mut outcomes);
    assert_eq!(outcomes[&id].end, Some(Ok(Reason::Cancelled)));
    assert!(engine.is_idle() && engine.paused() == 0 && engine.swapped_bytes() == 0);
}

#[test]
fn a_step_says_whose_tokens_it_computed() {
    let (mut engine, _) = engine(64, EngineOptions::default());
    let first = engine.submit(request(1, 1, 20, 4)).unwrap();
    let advances = engine.step().unwrap().advances;
    assert_eq!(advances, [Advance { sequence: first, tokens: 20 }]);
    let second = engine.submit(request(2, 2, 9, 4)).unwrap();
    let advances = engine.step().unwrap().advances;
    let expected = [Advance { sequence: first, tokens: 1 }, Advance { sequence: second, tokens: 9 }];
    assert_eq!(advances, expected);
}
