//! Sampling as a request sees it: bounds, seeds, penalties, log-probabilities, constraints, hooks.

use crate::text::byte_tokenizer;
use coldframe_backbone::sample::{End, Grammar, Grammars, LogitHook, Sampler, SamplingParams, Verdict};
use coldframe_backbone::text::Tokenizer;
use coldframe_backbone::{Error, Result};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Logits that look like a model's: the same for the same step of the same sequence.
fn logits(sequence: u64, step: usize, vocab: usize) -> Vec<f32> {
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (step as u64 + 1);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 40) as f32 / (1 << 24) as f32 * 8.0 - 4.0
    };
    (0..vocab).map(|_| next()).collect()
}

fn answer(params: &SamplingParams, seed: u64, steps: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(params.clone(), &[], seed);
    (0..steps).map(|step| sampler.sample(&mut logits(7, step, 500)).unwrap().token).collect()
}

#[test]
fn a_seed_gives_the_same_tokens_and_another_seed_others() {
    let params = SamplingParams { top_p: 0.9, temperature: 0.8, ..SamplingParams::default() };
    assert_eq!(answer(&params, 1, 50), answer(&params, 1, 50));
    assert_ne!(answer(&params, 1, 50), answer(&params, 2, 50));
    let seeded = SamplingParams { seed: Some(-5), ..params };
    assert_eq!(answer(&seeded, 1, 50), answer(&seeded, 2, 50), "the request's own seed goes first");
    // A constant: a change of the stream would change every seeded answer, which users must be told.
    let fixed = SamplingParams { seed: Some(42), ..SamplingParams::default() };
    assert_eq!(answer(&fixed, 0, 6), FIRST_TOKENS_OF_SEED_42);
}

const FIRST_TOKENS_OF_SEED_42: [u32; 6] = [334, 462, 228, 323, 142, 69];

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let mut sampler = Sampler::new(SamplingParams::greedy(), &[], 0);
    assert_eq!(sampler.sample(&mut [0.0, 2.0, 1.0, 2.0]).unwrap().token, 1);
    assert_eq!(sampler.sample(&mut [f32::NEG_INFINITY, -3.0]).unwrap().token, 1);
}

#[test]
fn bad_logits_are_this_sequences_error() {
    let mut sampler = Sampler::new(SamplingParams::default(), &[], 0);
    for bad in [[0.0, f32::NAN], [0.0, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
        assert!(matches!(sampler.sample(&mut bad.clone()), Err(Error::NonFinite(_))), "{bad:?}");
    }
    assert_eq!(sampler.sample(&mut [0.0, -100.0]).unwrap().token, 0);
    assert_eq!(sampler.output(), [0]);
}

#[test]
fn penalties_and_bias_count_what_they_say() {
    let greedy = SamplingParams::greedy;
    let first = |params: SamplingParams, prompt: &[u32], row: [f32; 3]| {
        Sampler::new(params, prompt, 0).sample(&mut row.clone()).unwrap().token
    };
    let repetition = SamplingParams { repetition_penalty: 2.0, ..greedy() };
    assert_eq!(first(repetition.clone(), &[0], [1.9, 1.0, 0.0]), 1, "the prompt counts");
    assert_eq!(first(repetition, &[0, 1], [-1.0, -1.5, -1.9]), 2, "negative logits grow");
    let bias = SamplingParams { logit_bias: [(2, 5.0)].into(), ..greedy() };
    assert_eq!(first(bias, &[], [4.0, 1.0, 0.0]), 2);
    let outputs = |params: SamplingParams| {
        let mut sampler = Sampler::new(params, &[0, 0, 0, 0], 0);
        (0..5).map(|_| sampler.sample(&mut [1.0, 0.9, 0.0]).unwrap().token).collect::<Vec<_>>()
    };
    let frequency = SamplingParams { frequency_penalty: 0.4, ..greedy() };
    assert_eq!(outputs(frequency), [0, 1, 0, 1, 0], "the prompt does not count, each output does");
    let presence = SamplingParams { presence_penalty: 0.4, ..greedy() };
    assert_eq!(outputs(presence), [0, 1, 0, 0, 0], "an output counts once");
}

#[test]
fn logprobs_are_of_the_models_own_distribution() {
    let params = SamplingParams {
        logprobs: true,
        top_logprobs: 2,
        logit_bias: [(3, 100.0)].into(),
        temperature: 0.3,
        ..SamplingParams::default()
    };
    let mut row = [0.5f32, 0.25, 0.15, 0.1].map(f32::ln);
    let sampled = Sampler::new(params, &[], 0).sample(&mut row).unwrap();
    assert_eq!(sampled.token, 3);
    assert!((sampled.logprob.unwrap() - 0.1f32.ln()).abs() < 1e-5);
    assert_eq!(sampled.top.iter().map(|top| top.0).collect::<Vec<_>>(), [0, 1]);
    assert!((sampled.top[1].1 - 0.25f32.ln()).abs() < 1e-5);
    let sampled = Sampler::new(SamplingParams::greedy(), &[], 0).sample(&mut row).unwrap();
    assert_eq!((sampled.logprob, sampled.top.len()), (None, 0));
}

#[test]
fn parameters_out_of_bounds_are_named() {
    let plain = SamplingParams::default;
    plain().validate(10).unwrap();
    SamplingParams { top_k: -1, ..SamplingParams::greedy() }.validate(10).unwrap();
    let check = |params: SamplingParams, expected: &str| match params.validate(10) {
        Err(Error::BadRequest { field, .. }) => assert_eq!(field, expected),
        other => panic!("{expected}: {other:?}"),
    };
    for temperature in [f32::NAN, -0.1, 2.1, f32::INFINITY] {
        check(SamplingParams { temperature, ..plain() }, "temperature");
    }
    check(SamplingParams { top_p: 0.0, ..plain() }, "top_p");
    check(SamplingParams { top_k: -2, ..plain() }, "top_k");
    check(SamplingParams { min_p: 1.5, ..plain() }, "min_p");
    check(SamplingParams { repetition_penalty: 0.0, ..plain() }, "repetition_penalty");
    check(SamplingParams { frequency_penalty: 3.0, ..plain() }, "frequency_penalty");
    check(SamplingParams { presence_penalty: f32::NAN, ..plain() }, "presence_penalty");
    check(SamplingParams { logit_bias: [(10, 1.0)].into(), ..plain() }, "logit_bias");
    check(SamplingParams { logit_bias: [(1, 101.0)].into(), ..plain() }, "logit_bias");
    check(SamplingParams { logit_bias: (0..2000).map(|id| (id, 0.0)).collect(), ..plain() }, "logit_bias");
    check(SamplingParams { top_logprobs: 21, logprobs: true, ..plain() }, "top_logprobs");
    check(SamplingParams { top_logprobs: 1, ..plain() }, "top_logprobs");
    check(SamplingParams { max_tokens: Some(0), ..plain() }, "max_tokens");
    check(SamplingParams { max_tokens: Some(u32::MAX), ..plain() }, "max_tokens");
    check(SamplingParams { stop: vec![String::new()], ..plain() }, "stop");
    check(SamplingParams { stop: vec!["x".into(); 100_000], ..plain() }, "stop");
}

#[test]
fn parameters_are_read_by_their_public_names() {
    let text = r#"{"temperature": 0.5, "logit_bias": {"5": -100}, "stop": ["a"], "seed": -1, "top_k": -1}"#;
    let params: SamplingParams = serde_json::from_str(text).unwrap();
    assert_eq!(
        (params.temperature, params.logit_bias[&5], params.seed, params.top_p),
        (0.5, -100.0, Some(-1), 1.0)
    );
}

/// Samples under a grammar from logits that mean nothing until it is complete.
fn constrained(grammars: &Grammars, tokenizer: &Tokenizer, grammar: &Grammar, sequence: u64) -> String {
    let constraint = grammars.compile(grammar).unwrap();
    let params = SamplingParams { seed: Some(sequence as i64), ..SamplingParams::default() };
    let mut sampler = Sampler::new(params, &[], 0).with_constraint(constraint);
    // The head has more rows than the vocabulary has tokens, as many models' heads do.
    let rows = tokenizer.vocab_size() + 13;
    for step in 0..3000 {
        let sampled = sampler.sample(&mut logits(sequence, step, rows)).unwrap();
        assert!((sampled.token as usize) < tokenizer.vocab_size());
        if sampled.end == Some(End::Complete) || tokenizer.eos().contains(&sampled.token) {
            return tokenizer.decode(sampler.output(), true);
        }
    }
    panic!("no end after 3,000 tokens: {}", tokenizer.decode(sampler.output(), true));
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[test]
fn random_logits_under_a_schema_give_valid_json() {
    let tokenizer = Arc::new(byte_tokenizer());
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let person = Grammar::JsonSchema(json!({
        "type": "object", "additionalProperties": false, "required": ["name", "age", "tags"],
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b\"c", "d"]}, "minItems": 1, "maxItems": 3},
        },
    }));
    let either = Grammar::JsonSchema(json!({"anyOf": [{"type": "boolean"}, {"type": "null"}, {"const": 7}]}));
    let nested = Grammar::JsonSchema(json!({
        "$defs": {"leaf": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}},
        "type": "array", "prefixItems": [{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/leaf"}], "items": false, "minItems": 2,
    }));
    for sequence in 0..12 {
        let value = parsed(&constrained(&grammars, &tokenizer, &person, sequence));
        assert_eq!(value.as_object().unwrap().len(), 3, "{value}");
        assert!(value["name"].as_str().unwrap().chars().count() <= 8, "{value}");
        assert!((0..=150).contains(&value["age"].as_i64().unwrap()), "{value}");
        let tags = value["tags"].as_array().unwrap();
        assert!((1..=3).contains(&tags.len()), "{value}");
        assert!(tags.iter().all(|tag| [json!("a"), json!("b\"c"), json!("d")].contains(tag)), "{value}");
        let value = parsed(&constrained(&grammars, &tokenizer, &either, sequence));
        assert!(value.is_boolean() || value.is_null() || value == 7, "{value}");
        let value = parsed(&constrained(&grammars, &tokenizer, &nested, sequence));
        assert!(
            (0..2)
                .all(|i| (0..2).all(|j| value[i][j].is_boolean()) && value[i].as_array().unwrap().len() == 2),
            "{value}"
        );
    }
}

#[test]
fn expressions_choices_and_grammars_bind_too() {
    let tokenizer = Arc::new(byte_tokenizer());
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let run = |grammar: Grammar, sequence| constrained(&grammars, &tokenizer, &grammar, sequence);
    let expression = regex::Regex::new(r"^[a-f]{2,4}-\d{3}$").unwrap();
    for sequence in 0..10 {
        assert!(expression.is_match(&run(Grammar::Regex(r"[a-f]{2,4}-\d{3}".into()), sequence)));
        let choice = run(Grammar::Choice(vec!["yes/no?".into(), "no (a+b)".into(), "é".into()]), sequence);
        assert!(["yes/no?", "no (a+b)", "é"].contains(&choice.as_str()), "{choice}");
        let lark = run(Grammar::Lark("start: \"x\" num \"y\"\nnum: /[0-9]{1,3}/".into()), sequence);
        assert!(lark.starts_with('x') && lark.ends_with('y') && (3..=5).contains(&lark.len()), "{lark}");
    }
    // An object of any kind may go on for ever under random logits, so its beginning is looked at.
    let mut open = grammars.compile(&Grammar::JsonObject).unwrap();
    let mut row = vec![0.0; tokenizer.vocab_size()];
    open.mask(&mut row).unwrap();
    let brace = tokenizer.encode("{", coldframe_backbone::text::Special::AsText).unwrap()[0];
    let letter = tokenizer.encode("x", coldframe_backbone::text::Special::AsText).unwrap()[0];
    assert_eq!((row[brace as usize], row[letter as usize]), (0.0, f32::NEG_INFINITY));
    assert!(!open.may_end().unwrap());
}

#[test]
fn bad_grammars_are_named_in_bounded_time() {
    let grammars = Grammars::new(Arc::new(byte_tokenizer()));
    let check = |grammar: Grammar, expected: &str| {
        let began = Instant::now();
        match grammars.compile(&grammar) {
            Err(Error::BadRequest { field, .. }) => assert_eq!(field, expected),
            other => panic!("{grammar:?}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{grammar:?}: {:?}", began.elapsed());
    };
    check(Grammar::JsonSchema(json!({"type": "strange"})), "response_format");
    check(Grammar::JsonSchema(json!({"$ref": "#/nowhere"})), "response_format");
    check(Grammar::JsonSchema(json!({"$ref": "http://example.com/schema"})), "response_format");
    check(Grammar::JsonSchema(json!({"description": "x".repeat(300_000)})), "response_format");
    check(Grammar::Regex("(".into()), "regex");
    check(Grammar::Choice(Vec::new()), "choice");
    check(Grammar::Lark("start: nowhere".into()), "grammar");
}

#[test]
fn an_evil_grammar_costs_bounded_time() {
    let tokenizer = Arc::new(byte_tokenizer());
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let deep = (0..100).fold(
        json!({"type": "string", "pattern": "(a|b)*a(a|b){9}"}),
        |schema, _| json!({"type": "array", "items": {"anyOf": [schema, {"type": "null"}]}}),
    );
    for grammar in [
        Grammar::Regex("((a{1,1000}){1,1000}){1,1000}".into()),
        Grammar::Regex("(a|b)*a(a|b){200}".into()),
        Grammar::Lark("start: start start | \"a\" | start \"a\"".into()),
        Grammar::JsonSchema(deep),
    ] {
        let began = Instant::now();
        // It may be refused at once, run past its limits later or be served; none of it may take long.
        let outcome = grammars.compile(&grammar).and_then(|mut constraint| {
            for step in 0..40 {
                let mut row = logits(9, step, tokenizer.vocab_size());
                constraint.mask(&mut row)?;
                let token = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                constraint.commit(token as u32)?;
            }
            Ok(())
        });
        assert!(matches!(outcome, Ok(()) | Err(Error::BadRequest { .. })), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{grammar:?}: {:?}", began.elapsed());
        eprintln!("evil grammar: {outcome:?} in {:?}", began.elapsed());
    }
}

#[test]
fn a_trie_of_the_real_vocabulary_is_built_once() {
    let Some(path) = crate::text::real_model() else { return };
    let file = coldframe_backbone::gguf::Gguf::open(&path).unwrap();
    let source = coldframe_backbone::checkpoint::TextSource::Gguf(&file);
    let tokenizer = Arc::new(Tokenizer::open(source).unwrap());
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let schema = Grammar::JsonSchema(json!({
        "type": "object", "required": ["answer"], "additionalProperties": false,
        "properties": {"answer": {"type": "string", "maxLength": 30}, "lang": {"enum": ["en", "it"]}},
    }));
    let time = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    let first = time(&mut || drop(grammars.compile(&schema).unwrap()));
    let second = time(&mut || drop(grammars.compile(&schema).unwrap()));
    let mut constraint = grammars.compile(&schema).unwrap();
    let mut row = vec![0.0; tokenizer.vocab_size()];
    let mask = time(&mut || constraint.mask(&mut row).unwrap());
    eprintln!("first grammar {first:?}, next {second:?}, first mask {mask:?}");
    assert!(second < first, "the trie is kept");
    for sequence in 0..3 {
        let value = parsed(&constrained(&grammars, &tokenizer, &schema, sequence));
        assert!(value["answer"].is_string(), "{value}");
    }
}

/// Forbids one token and ends the answer after some.
struct Forbid(u32, usize);

impl LogitHook for Forbid {
    fn before_token(&mut self, output: &[u32], logits: &mut [f32]) -> Result<Verdict> {
        logits[self.0 as usize] = f32::NEG_INFINITY;
        Ok(if output.len() < self.1 { Verdict::Continue } else { Verdict::End })
    }
}

#[test]
fn a_hook_sees_the_output_changes_logits_and_ends() {
    let mut sampler = Sampler::new(SamplingParams::greedy(), &[], 0).with_hook(Box::new(Forbid(0, 2)));
    for _ in 0..2 {
        let sampled = sampler.sample(&mut [9.0, 1.0]).unwrap();
        assert_eq!((sampled.token, sampled.end), (1, None));
    }
    assert_eq!(sampler.sample(&mut [9.0, 1.0]).unwrap().end, Some(End::Hook));
    assert_eq!(sampler.output(), [1, 1]);
}

#[test]
fn a_large_vocabulary_is_sampled_quickly() {
    let row = logits(3, 0, 256_000);
    let time = |params: SamplingParams| {
        let mut sampler = Sampler::new(params, &[], 1);
        let mut one = || {
            let mut row = row.clone();
            let began = Instant::now();
            sampler.sample(&mut row).unwrap();
            began.elapsed()
        };
        (0..5).map(|_| one()).min().unwrap()
    };
    let plain = SamplingParams::default;
    for (name, params) in [
        ("greedy", SamplingParams::greedy()),
        ("plain", plain()),
        ("top-p", SamplingParams { top_p: 0.95, ..plain() }),
        ("top-k and top-p", SamplingParams { top_k: 50, top_p: 0.95, ..plain() }),
        ("logprobs", SamplingParams { logprobs: true, top_logprobs: 20, ..plain() }),
    ] {
        let took = time(params);
        eprintln!("{name}: {took:?} for 256,000 logits");
        assert!(took < Duration::from_millis(250), "{name}: {took:?}");
    }
}

proptest! {
    #[test]
    fn what_is_drawn_was_allowed(
        row in proptest::collection::vec(-20.0f32..20.0, 1..200), seed in any::<u64>(),
        temperature in 0.0f32..2.0, top_p in 0.01f32..=1.0, top_k in -1i64..50, min_p in 0.0f32..1.0,
    ) {
        let params = SamplingParams { temperature, top_p, top_k, min_p, ..SamplingParams::default() };
        params.validate(row.len()).unwrap();
        let token = Sampler::new(params, &[], seed).sample(&mut row.clone()).unwrap().token as usize;
        let above = row.iter().enumerate().filter(|&(index, &logit)| logit > row[token] || (logit == row[token] && index < token)).count();
        prop_assert!(top_k <= 0 || (above as i64) < top_k);
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        prop_assert!(temperature < 1e-5 || ((row[token] - top) / temperature).exp() >= min_p * 0.999);
    }
}
