//! One test body over every executor: chunks, mixed adapters, windows, pages, and agreement with the yardstick.
//!
//! The yardstick is the candle executor with dequantised f32 weights on the CPU. Beside it run the candle executor over
//! the mapped file, the native executor with either kind of KV pages, and with the `cuda` feature the candle executor on
//! the first GPU, where there is one.

use super::driver::{Run, Sequence};
use super::tiny::{Float, Tiny};
use super::tiny_adapters::TinyAdapter;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::error::Error;
use coldframe_backbone::executor::{Chunk, Executor, PageId, Wanted};
use coldframe_backbone::model::Family;
use coldframe_backbone::native::{KvFormat, Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::reference::{Reference, ReferenceOptions};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const PAGES: u32 = 48;

/// How far two ways to the same f32 sums may differ, as a share of the largest logit.
const F32_TOLERANCE: f32 = 1e-4;

/// Matrices quantised in the file: candle's block kernels round the activations too, to 8 bits with a scale for every 32
/// (256) of them, each product anew. 3.3 % was the worst of all block types on a tiny model; the bound is about twice that.
const ROUNDED_TOLERANCE: f32 = 0.06;

/// Keys and values kept as f16 on both sides: where two f32 sums fall on either side of an f16's border, they part by one
/// rounding. 1.1e-4 was the worst of all families and adapters.
const KV_F16_TOLERANCE: f32 = 3e-4;

/// Keys and values kept as 8-bit integers against f32. 1.3 % was the worst of the base models; adapters that make keys
/// many times larger, as the all-linear ones here do, make attention sharper and this rounding weigh up to 12 %.
const KV_Q8_TOLERANCE: f32 = 0.2;

const FAMILIES: [Family; 5] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gemma3];

/// An executor, what it is compared with, and how far it may be from that.
struct Subject {
    executor: Box<dyn Executor>,
    /// What the yardstick keeps keys and values as.
    kv: DType,
    tolerance: f32,
}

impl Subject {
    fn new(executor: impl Executor + 'static, tolerance: f32) -> Self {
        Self { executor: Box::new(executor), kv: DType::F32, tolerance }
    }
}

fn yardstick(checkpoint: &Checkpoint) -> Reference {
    let options = ReferenceOptions { pages: PAGES, dtype: DType::F32 };
    Reference::new(checkpoint, Device::Cpu, options).expect("the yardstick")
}

/// What the yardstick makes of `tokens` in one chunk, with keys and values kept as `kv`.
fn expected(
    checkpoint: &Checkpoint,
    kv: DType,
    adapter: Option<&Arc<Adapter>>,
    tokens: &[u32],
) -> Vec<Vec<f32>> {
    let mut yardstick = yardstick(checkpoint).keeping(kv).expect("pages");
    rows(&mut yardstick, adapter, tokens, tokens.len())
}

/// Every executor there is, for a model whose matrices are f32 in the file or not.
fn subjects(checkpoint: &Arc<Checkpoint>, plain: bool) -> Vec<Subject> {
    let rounded = if plain { F32_TOLERANCE } else { ROUNDED_TOLERANCE };
    let in_place = Reference::in_place(Arc::clone(checkpoint), PAGES).expect("an executor over the map");
    let mut all = vec![Subject::new(yardstick(checkpoint), F32_TOLERANCE), Subject::new(in_place, rounded)];
    all.extend(native(checkpoint, plain));
    all.extend(gpu(checkpoint));
    all
}

fn native(checkpoint: &Checkpoint, plain: bool) -> [Subject; 3] {
    let pack = Arc::new(Pack::in_memory(checkpoint).expect("a pack"));
    let executor = |kv| {
        let options = NativeOptions { threads: 2, pages: PAGES as usize, kv };
        Native::new(Arc::clone(&pack), options).expect("the native executor")
    };
    let (f16, q8) =
        if plain { (KV_F16_TOLERANCE, KV_Q8_TOLERANCE) } else { (ROUNDED_TOLERANCE, ROUNDED_TOLERANCE) };
    [
        Subject::new(executor(KvFormat::F32), if plain { F32_TOLERANCE } else { ROUNDED_TOLERANCE }),
        Subject { kv: DType::F16, ..Subject::new(executor(KvFormat::F16), f16) },
        Subject::new(executor(KvFormat::Q8), q8),
    ]
}

/// Compiled with or without the feature, so that it cannot rot where no toolkit is.
fn gpu(checkpoint: &Checkpoint) -> Vec<Subject> {
    if !cfg!(feature = "cuda") {
        return Vec::new();
    }
    let device = match Device::new_cuda(0) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("skipped on the GPU: {error}");
            return Vec::new();
        }
    };
    // bf16 keeps 8 bits of each weight and of each product's activations.
    [(DType::F32, 1e-3), (DType::BF16, 0.1)]
        .map(|(dtype, tolerance)| {
            let options = ReferenceOptions { pages: PAGES, dtype };
            let executor =
                Reference::new(checkpoint, device.clone(), options).expect("an executor on the GPU");
            Subject::new(executor, tolerance)
        })
        .into()
}

fn plain(tiny: &Tiny, folder: &Path) -> Arc<Checkpoint> {
    tiny.write_hf(folder, Float::F32);
    Arc::new(Checkpoint::open(folder).expect("a tiny model opens"))
}

fn gguf(tiny: &Tiny, folder: &Path, dtype: GgmlDType) -> Arc<Checkpoint> {
    let path = folder.join(format!("{dtype:?}.gguf"));
    tiny.write_gguf(&path, dtype);
    Arc::new(Checkpoint::open(&path).expect("a tiny GGUF model opens"))
}

fn adapters(tiny: &Tiny, base: &dyn BaseWeights, folder: &Path) -> Vec<Arc<Adapter>> {
    let load = |(index, adapter): (usize, &TinyAdapter)| {
        let folder = folder.join(format!("adapter-{index}"));
        adapter.write(tiny, &folder);
        Arc::new(Adapter::load(&folder, base, &Limits::default()).expect("a tiny adapter loads"))
    };
    TinyAdapter::assorted().iter().enumerate().map(load).collect()
}

/// `count` tokens of the vocabulary in no order.
fn tokens(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 97 + seed * 31 + i * i * 7) % 300).collect()
}

fn rows(
    executor: &mut dyn Executor,
    adapter: Option<&Arc<Adapter>>,
    tokens: &[u32],
    size: usize,
) -> Vec<Vec<f32>> {
    let mut run = Run::new(executor);
    let mut sequence = run.sequence(adapter.cloned(), tokens, 0);
    run.finish(&mut sequence, size);
    sequence.rows
}

/// The largest difference, as a share of the largest value of `expected`.
fn distance(expected: &[Vec<f32>], found: &[Vec<f32>]) -> f32 {
    assert_eq!(expected.len(), found.len(), "rows");
    let largest = expected.iter().flatten().fold(0f32, |most, value| most.max(value.abs()));
    let pairs = expected.iter().flatten().zip(found.iter().flatten());
    let worst = pairs.fold(0f32, |most, (a, b)| {
        if a.is_finite() && b.is_finite() { most.max((a - b).abs()) } else { f32::INFINITY }
    });
    worst / largest
}

fn assert_near(expected: &[Vec<f32>], found: &[Vec<f32>], tolerance: f32, what: &str) {
    let distance = distance(expected, found);
    eprintln!("{what}: {distance:.1e}");
    assert!(distance <= tolerance, "{what}: off by {distance:e} of the largest logit");
}

#[test]
fn chunks_change_nothing_and_every_executor_agrees_with_the_yardstick() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().expect("a folder");
        let tiny = Tiny { family, ..Tiny::default() };
        let checkpoint = plain(&tiny, folder.path());
        let tokens = tokens(37, 1);
        for mut subject in subjects(&checkpoint, true) {
            let expected = expected(&checkpoint, subject.kv, None, &tokens);
            for size in [tokens.len(), 16, 7, 1] {
                let found = rows(&mut *subject.executor, None, &tokens, size);
                let what = format!("{family:?} on {} by {size}", subject.executor.device());
                assert_near(&expected, &found, subject.tolerance, &what);
            }
        }
    }
}

/// The same weights as a Hugging Face folder and as f32 GGUF, whose q and k rows lie in another order and whose Gemma
/// norms are stored another way, are the same model.
#[test]
fn a_gguf_file_is_the_same_model_as_its_hugging_face_folder() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().expect("a folder");
        let tiny = Tiny { family, ..Tiny::default() };
        let hf = plain(&tiny, folder.path());
        let gguf = gguf(&tiny, folder.path(), GgmlDType::F32);
        let base = yardstick(&hf);
        let adapters = adapters(&tiny, &base, folder.path());
        let tokens = tokens(21, 2);
        for adapter in std::iter::once(None).chain(adapters.iter().map(Some)) {
            for mut subject in subjects(&gguf, true) {
                let expected = expected(&hf, subject.kv, adapter, &tokens);
                let what = format!("{family:?} GGUF on {}", subject.executor.device());
                let found = rows(&mut *subject.executor, adapter, &tokens, 21);
                assert_near(&expected, &found, subject.tolerance, &what);
            }
        }
    }
}

#[test]
fn every_block_type_runs_in_place_to_the_rounding_of_its_activations() {
    use GgmlDType::{F16, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = Tiny::wide();
    for dtype in [F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        let checkpoint = gguf(&tiny, folder.path(), dtype);
        let tokens = tokens(19, 3);
        for mut subject in subjects(&checkpoint, false) {
            let expected = expected(&checkpoint, subject.kv, None, &tokens);
            let found = rows(&mut *subject.executor, None, &tokens, 19);
            let what = format!("{dtype:?} on {}", subject.executor.device());
            assert_near(&expected, &found, subject.tolerance, &what);
        }
    }
}

#[test]
fn a_mixed_batch_gives_each_sequence_what_it_gets_alone() {
    for family in [Family::Llama, Family::Qwen2, Family::Gemma3] {
        let folder = tempfile::tempdir().expect("a folder");
        let tiny = Tiny { family, tied: family == Family::Gemma3, ..Tiny::default() };
        let checkpoint = plain(&tiny, folder.path());
        let base = yardstick(&checkpoint);
        let adapters = adapters(&tiny, &base, folder.path());
        let chosen: Vec<_> = adapters.iter().map(Some).chain([None, Some(&adapters[1])]).collect();
        for mut subject in subjects(&checkpoint, true) {
            let executor = &mut *subject.executor;
            let prompt = |index: usize| tokens(9 + 3 * index, index as u32);
            let alone: Vec<_> = chosen
                .iter()
                .enumerate()
                .map(|(i, adapter)| rows(executor, *adapter, &prompt(i), 64))
                .collect();
            let mixed = together(executor, &chosen, prompt);
            for (index, (alone, mixed)) in alone.iter().zip(&mixed).enumerate() {
                let what = format!("{family:?} sequence {index} on {}", subject.executor.device());
                assert_near(alone, mixed, subject.tolerance, &what);
            }
            let bare = rows(&mut *subject.executor, None, &prompt(0), 64);
            assert!(distance(&alone[0], &bare) > 0.05, "the adapter changes nothing that a test could see");
        }
    }
}

/// Runs all sequences in shared steps, each at a pace of its own.
fn together(
    executor: &mut dyn Executor,
    adapters: &[Option<&Arc<Adapter>>],
    prompt: impl Fn(usize) -> Vec<u32>,
) -> Vec<Vec<Vec<f32>>> {
    let mut run = Run::new(executor);
    let mut sequences: Vec<Sequence> = adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| run.sequence(adapter.cloned(), &prompt(index), 0))
        .collect();
    while sequences.iter().any(|sequence| sequence.done() < sequence.tokens.len()) {
        let mut batch: Vec<(&mut Sequence, usize)> = sequences
            .iter_mut()
            .enumerate()
            .map(|(index, sequence)| {
                let left = sequence.tokens.len() - sequence.done();
                (sequence, left.min(1 + index % 4 * 2))
            })
            .collect();
        run.step(&mut batch);
    }
    sequences.into_iter().map(|sequence| sequence.rows).collect()
}

/// With one layer, a row behind a window of 8 is the same whatever stood before the window.
#[test]
fn a_window_hides_what_lies_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let extra = json!({"sliding_window": 8}).as_object().expect("an object").clone();
    let tiny = Tiny { family: Family::Mistral, layers: 1, extra, ..Tiny::default() };
    let checkpoint = plain(&tiny, folder.path());
    let long = tokens(40, 4);
    let mut other = long.clone();
    other[..32].reverse();
    for mut subject in subjects(&checkpoint, true) {
        for size in [40, 5] {
            let found = rows(&mut *subject.executor, None, &long, size);
            let changed = rows(&mut *subject.executor, None, &other, size);
            let what = format!("window on {}", subject.executor.device());
            assert_near(&found[39..], &changed[39..], subject.tolerance, &what);
            assert!(
                distance(&found[38..39], &changed[38..39]) > 0.01,
                "{what}: the row before still sees one of them"
            );
        }
    }
}

fn last(executor: &mut dyn Executor, tokens: &[u32], start: usize, pages: &[PageId]) -> Vec<f32> {
    let chunk = Chunk { adapter: None, tokens, start, pages, wanted: Wanted::Last };
    executor.step(&[chunk]).expect("a step").last(0).expect("a row").to_vec()
}

#[test]
fn pages_are_copied_swapped_and_cleared_to_the_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = plain(&Tiny::default(), folder.path());
    let prompt = tokens(30, 5);
    for mut subject in subjects(&checkpoint, true) {
        let executor = &mut *subject.executor;
        let (first, second, spare) = (PageId(5), PageId(2), PageId(9));
        last(executor, &prompt, 0, &[first, second]);
        let expected = last(executor, &[7], 30, &[first, second]);
        executor.copy_page(second, spare);
        assert_eq!(last(executor, &[7], 30, &[first, spare]), expected, "a copy");

        let mut bytes = vec![0xAA];
        executor.export_page(first, &mut bytes);
        assert_eq!(bytes.len() as u64 - 1, executor.page_bytes(), "a page's bytes, appended");
        executor.clear_page(first);
        assert_ne!(last(executor, &[7], 30, &[first, second]), expected, "a cleared page");
        executor.import_page(PageId(0), &bytes[1..]);
        assert_eq!(last(executor, &[7], 30, &[PageId(0), second]), expected, "swapped in elsewhere");

        executor.clear_page(second);
        let mut cleared = Vec::new();
        executor.export_page(second, &mut cleared);
        assert!(cleared.iter().all(|byte| *byte == 0), "clearing leaves zeros");
    }
}

#[test]
fn logits_come_for_the_rows_that_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = plain(&Tiny::default(), folder.path());
    let tokens = tokens(6, 6);
    for mut subject in subjects(&checkpoint, true) {
        let wanted = [Wanted::All, Wanted::None, Wanted::Last];
        let pages = [[PageId(0)], [PageId(1)], [PageId(2)]];
        let chunks: Vec<Chunk<'_>> = wanted
            .iter()
            .zip(&pages)
            .map(|(&wanted, pages)| Chunk { adapter: None, tokens: &tokens, start: 0, pages, wanted })
            .collect();
        let logits = subject.executor.step(&chunks).expect("a step");
        assert_eq!(logits.rows, [0..6, 6..6, 6..7]);
        assert_eq!(logits.values.len(), 7 * logits.vocab);
        let (all, one) = (logits.last(0).expect("a row").to_vec(), logits.last(2).expect("a row").to_vec());
        assert_near(&[all], &[one], F32_TOLERANCE, "the last row");
        assert!(subject.executor.step(&[]).expect("an empty step").values.is_empty());
    }
}

#[test]
fn what_is_out_of_range_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = plain(&Tiny::default(), folder.path());
    let page = [PageId(0)];
    let long = vec![1; 17];
    let bad: [(&[u32], usize, &[PageId], &str); 5] = [
        (&[], 0, &page, "tokens"),
        (&[300], 0, &page, "tokens"),
        (&long, 0, &page, "pages"),
        (&[1], 0, &[PageId(PAGES)], "pages"),
        (&[1], usize::MAX, &page, "tokens"),
    ];
    for mut subject in subjects(&checkpoint, true) {
        for (tokens, start, pages, expected) in bad {
            let chunk = Chunk { adapter: None, tokens, start, pages, wanted: Wanted::Last };
            match subject.executor.step(&[chunk]) {
                Err(Error::BadRequest { field, .. }) => assert_eq!(field, expected),
                other => panic!("{tokens:?} at {start}: {other:?}"),
            }
        }
    }
}
