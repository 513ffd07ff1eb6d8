//! Our numbers against Hugging Face transformers and PEFT, llama.cpp and the real adapters' own samples.
//!
//! `fixtures/golden` is made by `scripts/make-golden.py`: tiny models of every family, adapters of every variant, and
//! the f32 logits PEFT computes from those very files. Each case runs over every executor in one chunk, in chunks, token
//! by token, and beside all the others in one batch. The checks of the real model need `COLDFRAME_MODEL` and say so.

use super::driver::{Files, Run, Sequence};
use candle_core::Device;
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::executor::Executor;
use coldframe_backbone::native::{KvFormat, Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::reference::{Reference, ReferenceOptions};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest difference that is allowed, as a share of the largest logit: the promise for f32 weights.
const TOLERANCE: f32 = 1e-4;

/// The same where keys and values are kept as f16, which alone rounds each of them by up to 2^-11.
const KV_F16: f32 = 3e-3;

/// A prompt, and what PEFT makes of it.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    base: String,
    adapter: Option<String>,
    prompt: Vec<u32>,
    /// Tokens PEFT goes on with; ends early where two logits nearly tie.
    greedy: Vec<u32>,
    /// How far the adapter moves a logit at most.
    change: f32,
}

#[derive(Debug, Deserialize)]
struct Index {
    cases: Vec<Case>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn golden(name: &str) -> PathBuf {
    fixtures().join("golden").join(name)
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden("golden.json")).expect("fixtures are committed");
    serde_json::from_str::<Index>(&text).expect("golden.json is well-formed").cases
}

/// The logits of every case, `[tokens * vocab]`, read without the crate's own reader.
fn logits() -> BTreeMap<String, Vec<f32>> {
    #[derive(Deserialize)]
    struct Entry {
        data_offsets: (usize, usize),
    }
    let bytes = std::fs::read(golden("logits.safetensors")).expect("fixtures are committed");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: BTreeMap<String, Entry> = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let data = &bytes[8 + length..];
    let floats = |(from, to): (usize, usize)| {
        data[from..to]
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().expect("four")))
            .collect()
    };
    header.into_iter().map(|(name, entry)| (name, floats(entry.data_offsets))).collect()
}

/// A base with an executor of its own and every adapter the cases of that base need.
struct Bench {
    cases: Vec<Case>,
    expected: BTreeMap<String, Vec<f32>>,
    adapters: BTreeMap<String, Arc<Adapter>>,
    executor: Box<dyn Executor>,
    tolerance: f32,
}

/// Makes the executor that is tested, and the base weights its adapters are loaded against; packs go to the folder.
type Make = fn(Checkpoint, &Path) -> (Box<dyn Executor>, Arc<dyn BaseWeights>);

const BASES: [&str; 6] = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3"];

fn bench(base: &str, make: Make, tolerance: f32, cache: &Path) -> Bench {
    let checkpoint = Checkpoint::open(&golden(base)).expect("a base model");
    let (executor, weights) = make(checkpoint, cache);
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.base == base).collect();
    let named = cases.iter().filter_map(|case| case.adapter.clone());
    let adapters = named.map(|name| (name.clone(), load(&golden(&name), &*weights))).collect();
    Bench { cases, expected: logits(), adapters, executor, tolerance }
}

fn load(path: &Path, weights: &dyn BaseWeights) -> Arc<Adapter> {
    Arc::new(Adapter::load(path, weights, &Limits::default()).unwrap_or_else(|error| panic!("{error}")))
}

fn reference(checkpoint: Checkpoint, _: &Path) -> (Box<dyn Executor>, Arc<dyn BaseWeights>) {
    let executor =
        Reference::new(&checkpoint, Device::Cpu, ReferenceOptions::default()).expect("an executor");
    (Box::new(executor), Arc::new(Files(checkpoint)))
}

fn native(checkpoint: &Checkpoint, cache: &Path, kv: KvFormat) -> (Box<dyn Executor>, Arc<dyn BaseWeights>) {
    let pack = Arc::new(Pack::open(checkpoint, cache).expect("a pack"));
    let options = NativeOptions { threads: 2, pages: 256, kv };
    (Box::new(Native::new(Arc::clone(&pack), options).expect("an executor")), pack)
}

impl Case {
    fn adapter(&self, adapters: &BTreeMap<String, Arc<Adapter>>) -> Option<Arc<Adapter>> {
        self.adapter.as_ref().map(|name| adapters[name].clone())
    }
}

/// The largest difference between a case's rows and PEFT's, as a share of the largest logit.
fn distance(expected: &[f32], rows: &[Vec<f32>]) -> f32 {
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let got = rows.iter().flatten();
    let worst = got
        .zip(expected)
        .fold(0.0_f32, |most, (a, b)| most.max(if a.is_nan() { f32::MAX } else { (a - b).abs() }));
    worst / largest
}

impl Bench {
    fn check(&self, case: &Case, how: &str, rows: &[Vec<f32>]) -> f32 {
        let expected = &self.expected[&case.name];
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), expected.len(), "{}: logits", case.name);
        let distance = distance(expected, rows);
        assert!(distance <= self.tolerance, "{} {how}: off by {distance:e} of the largest logit", case.name);
        distance
    }

    /// Each case by itself, `size` tokens a step.
    fn alone(&mut self, size: usize) -> f32 {
        let mut worst = 0.0_f32;
        for case in &self.cases {
            let mut run = Run::new(&mut *self.executor);
            let mut sequence = run.sequence(case.adapter(&self.adapters), &case.prompt, 0);
            run.finish(&mut sequence, size);
            worst = worst.max(self.check(
                case,
                &format!("in chunks of {}", size.min(case.prompt.len())),
                &sequence.rows,
            ));
        }
        worst
    }

    /// All cases of the base in one batch, each at its own pace, so that prefill runs beside decode; then greedily on.
    fn mixed(&mut self) -> f32 {
        let mut run = Run::new(&mut *self.executor);
        let mut sequences: Vec<Sequence> = self
            .cases
            .iter()
            .map(|case| run.sequence(case.adapter(&self.adapters), &case.prompt, case.greedy.len()))
            .collect();
        let mut round = 0;
        while sequences
            .iter()
            .zip(&self.cases)
            .any(|(sequence, case)| sequence.tokens.len() < case.prompt.len() + case.greedy.len())
        {
            let mut batch: Vec<(&mut Sequence, usize)> = Vec::new();
            for (index, (sequence, case)) in sequences.iter_mut().zip(&self.cases).enumerate() {
                let left = sequence.tokens.len() - sequence.done();
                if left == 0 && sequence.tokens.len() < case.prompt.len() + case.greedy.len() {
                    sequence.tokens.push(sequence.greedy());
                }
                let left = sequence.tokens.len() - sequence.done();
                batch.push((sequence, left.min(1 + (index + round) % 4)));
            }
            run.step(&mut batch);
            round += 1;
        }
        let mut worst = 0.0_f32;
        for (case, sequence) in self.cases.iter().zip(&sequences) {
            assert_eq!(sequence.tokens[case.prompt.len()..], case.greedy, "{}: greedy tokens", case.name);
            let prompt = &sequence.rows[..case.prompt.len()];
            worst = worst.max(self.check(case, "in a mixed batch", prompt));
        }
        worst
    }

    /// Without its adapter a case must miss by as much as PEFT says the adapter moves it: the comparison is not blind.
    fn blind(&mut self) {
        for case in self.cases.iter().filter(|case| case.adapter.is_some()) {
            let mut run = Run::new(&mut *self.executor);
            let mut sequence = run.sequence(None, &case.prompt, 0);
            run.finish(&mut sequence, case.prompt.len());
            let expected = &self.expected[&case.name];
            let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let moved = distance(expected, &sequence.rows) * largest;
            assert!(
                (moved / case.change - 1.0).abs() < 0.01,
                "{}: moved {moved}, PEFT {}",
                case.name,
                case.change
            );
        }
    }
}

/// Every case of every base over one kind of executor.
fn every_case(name: &str, tolerance: f32, make: Make) {
    let cache = tempfile::tempdir().expect("a folder");
    let mut worst = 0.0_f32;
    for base in BASES {
        let mut bench = bench(base, make, tolerance, cache.path());
        for size in [usize::MAX, 7, 3, 1] {
            worst = worst.max(bench.alone(size));
        }
        worst = worst.max(bench.mixed());
        bench.blind();
    }
    println!("{name}: largest difference from PEFT {worst:.1e} of the largest logit");
}

#[test]
fn candle_computes_what_peft_computes() {
    every_case("candle, f32", TOLERANCE, reference);
}

#[test]
fn native_computes_what_peft_computes() {
    every_case("native, KV in f32", TOLERANCE, |checkpoint, cache| native(&checkpoint, cache, KvFormat::F32));
}

#[test]
fn native_computes_what_peft_computes_but_for_its_f16_kv() {
    every_case("native, KV in f16", KV_F16, |checkpoint, cache| native(&checkpoint, cache, KvFormat::F16));
}

#[test]
fn fixtures_cover_what_is_promised() {
    let cases = cases();
    let expected = logits();
    assert!(cases.iter().all(|case| expected.contains_key(&case.name)));
    let on_one_base = cases.iter().filter(|case| case.base == "llama" && case.adapter.is_some()).count();
    assert!(on_one_base >= 8, "a mixed batch of eight different adapters");
    assert!(BASES.iter().all(|base| cases.iter().any(|case| case.base == *base && case.adapter.is_none())));
    // Every adapter must move the logits far beyond the tolerance, or its case proves nothing.
    let least = |case: &Case| {
        expected[&case.name].iter().fold(0.0_f32, |most, value| most.max(value.abs())) * TOLERANCE * 100.0
    };
    assert!(cases.iter().filter(|case| case.adapter.is_some()).all(|case| case.change > least(case)));
}
