//! The real model (SmolLM2-135M-Instruct, Q4_1) against llama.cpp, transformers and PEFT.
//!
//! `COLDFRAME_MODEL` names the GGUF and `COLDFRAME_DATA` the folder that holds `adapters/`; what is unset is skipped,
//! and said so. The fixtures come from `scripts/make-llamacpp.py` and `scripts/make-golden.py --real`.

use super::driver::{Files, Run, Sequence};
use candle_core::Device;
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::executor::Executor;
use coldframe_backbone::native::{KvFormat, Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::reference::{Reference, ReferenceOptions};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
struct LlamaCpp {
    /// How far llama.cpp's top logits lie from f32's at most: the rounding of the format.
    rounding: f32,
    perplexity: Perplexity,
    prompts: Vec<Prompt>,
}

#[derive(Debug, Deserialize)]
struct Perplexity {
    llamacpp: f64,
    f32: f64,
    ids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Prompt {
    text: String,
    prompt: Vec<u32>,
    /// The most likely next tokens by llama.cpp, with its logits and those of f32.
    ids: Vec<usize>,
    logits: Vec<f32>,
    f32: Vec<f32>,
}

#[derive(Debug, Deserialize)]
struct Adapted {
    cases: Vec<AdaptedCase>,
}

#[derive(Debug, Deserialize)]
struct AdaptedCase {
    adapter: Option<String>,
    prompt: Vec<u32>,
    ids: Vec<usize>,
    logits: Vec<f32>,
}

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(path).expect("fixtures are committed");
    serde_json::from_str(&text).expect("a well-formed fixture")
}

fn model() -> Option<PathBuf> {
    let path = std::env::var_os("COLDFRAME_MODEL").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: set COLDFRAME_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf");
    }
    path
}

fn adapters() -> Option<PathBuf> {
    let path = std::env::var_os("COLDFRAME_DATA").map(|data| Path::new(&data).join("adapters"));
    if path.is_none() {
        eprintln!("skipped: set COLDFRAME_DATA to the folder that holds adapters/");
    }
    path
}

/// The last logits of a prompt.
fn last(executor: &mut dyn Executor, adapter: Option<Arc<Adapter>>, prompt: &[u32]) -> Vec<f32> {
    let mut run = Run::new(executor);
    let mut sequence = run.sequence(adapter, prompt, 0);
    run.finish(&mut sequence, prompt.len());
    sequence.rows.pop().expect("a row")
}

/// The largest difference over the tokens that `ids` name.
fn apart(row: &[f32], ids: &[usize], expected: &[f32]) -> f32 {
    ids.iter().zip(expected).fold(0.0, |most, (&id, value)| most.max((row[id] - value).abs()))
}

/// exp of the mean negative log likelihood of every token but the first.
fn perplexity(sequence: &Sequence) -> f64 {
    let nats = |row: &[f32], next: u32| {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|value| f64::from(value - largest).exp()).sum();
        f64::from(largest - row[next as usize]) + sum.ln()
    };
    let total: f64 =
        sequence.rows.iter().zip(&sequence.tokens[1..]).map(|(row, &next)| nats(row, next)).sum();
    (total / (sequence.tokens.len() - 1) as f64).exp()
}

/// First-token logits: within `share` of the format's rounding of llama.cpp's (which itself is one rounding off f32).
fn first_tokens(executor: &mut dyn Executor, share: f32) {
    let fixture: LlamaCpp = fixture("llamacpp.json");
    let mut worst = (0.0_f32, 0.0_f32);
    for prompt in &fixture.prompts {
        let row = last(executor, None, &prompt.prompt);
        let (theirs, exact) =
            (apart(&row, &prompt.ids, &prompt.logits), apart(&row, &prompt.ids, &prompt.f32));
        worst = (worst.0.max(theirs), worst.1.max(exact));
        assert!(theirs <= share * fixture.rounding, "{:?}: {theirs} off llama.cpp's logits", prompt.text);
    }
    println!(
        "{}: at most {} off llama.cpp, {} off f32; llama.cpp {} off f32",
        executor.device(),
        worst.0,
        worst.1,
        fixture.rounding
    );
}

fn same_perplexity(executor: &mut dyn Executor) {
    let fixture: LlamaCpp = fixture("llamacpp.json");
    let mut run = Run::new(executor);
    let mut sequence = run.sequence(None, &fixture.perplexity.ids, 0);
    run.finish(&mut sequence, 256);
    let ours = perplexity(&sequence);
    let Perplexity { llamacpp, f32, .. } = fixture.perplexity;
    println!("{}: perplexity {ours:.4}; llama.cpp {llamacpp}, f32 {f32}", executor.device());
    assert!((ours / llamacpp - 1.0).abs() <= 0.005 || (ours / f32 - 1.0).abs() <= 0.005, "perplexity {ours}");
}

/// The real adapters: the first token PEFT gives, and its logits to `tolerance`.
fn real_adapters(executor: &mut dyn Executor, weights: &dyn BaseWeights, folder: &Path, tolerance: f32) {
    let mut worst = 0.0_f32;
    for case in fixture::<Adapted>("real_adapters.json").cases {
        let load = |name: &String| {
            Adapter::load(&folder.join(name), weights, &Limits::default()).expect("a real adapter")
        };
        let adapter = case.adapter.as_ref().map(|name| Arc::new(load(name)));
        let row = last(executor, adapter, &case.prompt);
        let off = apart(&row, &case.ids, &case.logits);
        worst = worst.max(off);
        assert!(off <= tolerance, "{:?}: {off} off PEFT's logits", case.adapter);
        let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a vocabulary");
        let clear = case.logits[0] - case.logits[1] > 2.0 * tolerance;
        assert!(
            !clear || best == case.ids[0],
            "{:?}: begins with {best}, PEFT with {}",
            case.adapter,
            case.ids[0]
        );
    }
    println!("{}: at most {worst} off PEFT under the real adapters", executor.device());
}

fn reference(model: &Path) -> (Reference, Files) {
    let checkpoint = Checkpoint::open(model).expect("the real model");
    let executor =
        Reference::new(&checkpoint, Device::Cpu, ReferenceOptions::default()).expect("an executor");
    (executor, Files(checkpoint))
}

#[test]
fn candle_is_one_rounding_away_from_llamacpp() {
    let Some(model) = model() else { return };
    let (mut executor, _) = reference(&model);
    // candle in f32 is transformers in f32 but for the order of sums, which is far below the format's rounding.
    first_tokens(&mut executor, 1.02);
    same_perplexity(&mut executor);
}

#[test]
fn candle_follows_peft_under_the_real_adapters() {
    let (Some(model), Some(folder)) = (model(), adapters()) else { return };
    let (mut executor, weights) = reference(&model);
    real_adapters(&mut executor, &weights, &folder, 0.01);
}

fn native(model: &Path) -> (Native, Arc<Pack>) {
    let checkpoint = Checkpoint::open(model).expect("the real model");
    let pack = Arc::new(Pack::in_memory(&checkpoint).expect("a pack"));
    let options = NativeOptions { threads: 2, pages: 256, kv: KvFormat::F16 };
    (Native::new(Arc::clone(&pack), options).expect("an executor"), pack)
}

#[test]
fn native_is_within_two_roundings_of_llamacpp() {
    let Some(model) = model() else { return };
    let (mut executor, _) = native(&model);
    // Both round activations to 8 bits, each in its own way: llama.cpp lies one rounding off f32, and so may we.
    first_tokens(&mut executor, 2.0);
    same_perplexity(&mut executor);
}

#[test]
fn native_follows_peft_under_the_real_adapters() {
    let (Some(model), Some(folder)) = (model(), adapters()) else { return };
    let (mut executor, weights) = native(&model);
    real_adapters(&mut executor, &*weights, &folder, 1.0);
}
