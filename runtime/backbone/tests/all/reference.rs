//! The candle executor against transformers: greedy answers of the real model, made once in f32.
//!
//! Skipped, saying so, where `COLDFRAME_MODEL` (the SmolLM2 GGUF) or `COLDFRAME_DATA` (the recorded answers) is unset.

use candle_core::{DType, Device};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::executor::{Chunk, Executor, PageId, Wanted};
use coldframe_backbone::reference::{Reference, ReferenceOptions};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Sample {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
}

/// The model and the recorded answers of `file`, where both are at hand.
fn real(file: &str) -> Option<(Arc<Checkpoint>, Vec<Sample>)> {
    let (Some(model), Some(data)) = (std::env::var_os("COLDFRAME_MODEL"), std::env::var_os("COLDFRAME_DATA"))
    else {
        eprintln!("skipped: set COLDFRAME_MODEL and COLDFRAME_DATA to run the real model");
        return None;
    };
    let samples = std::fs::read(PathBuf::from(data).join("adapters").join(file)).expect("recorded answers");
    let checkpoint = Checkpoint::open(model.as_ref()).expect("the real model opens");
    Some((Arc::new(checkpoint), serde_json::from_slice(&samples).expect("recorded answers parse")))
}

fn greedy(executor: &mut dyn Executor, prompt: &[u32], count: usize) -> Vec<u32> {
    let pages: Vec<PageId> = (0..executor.pages()).map(PageId).collect();
    let (mut start, mut next, mut answer) = (0, prompt.to_vec(), Vec::new());
    while answer.len() < count {
        let chunk = Chunk { adapter: None, tokens: &next, start, pages: &pages, wanted: Wanted::Last };
        let logits = executor.step(&[chunk]).expect("a step");
        let row = logits.last(0).expect("the last row");
        let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a vocabulary");
        start += next.len();
        next = vec![best as u32];
        answer.push(best as u32);
    }
    answer
}

#[test]
fn the_dequantised_model_answers_as_transformers_does() {
    let Some((checkpoint, samples)) = real("samples_base.json") else { return };
    let options = ReferenceOptions { pages: 8, dtype: DType::F32 };
    let mut executor = Reference::new(&checkpoint, Device::Cpu, options).expect("an executor");
    for sample in samples {
        // Ten tokens of each: some seconds on a quiet machine.
        let count = sample.greedy_ids.len().min(10);
        let answer = greedy(&mut executor, &sample.prompt_ids, count);
        assert_eq!(answer, sample.greedy_ids[..count], "{}", sample.prompt);
    }
}

/// candle's block kernels round activations to 8 bits, so only the first tokens have to agree.
#[test]
fn the_model_in_place_begins_its_answers_as_transformers_does() {
    let Some((checkpoint, samples)) = real("samples_base.json") else { return };
    let mut executor = Reference::in_place(checkpoint, 8).expect("an executor");
    for sample in samples {
        let answer = greedy(&mut executor, &sample.prompt_ids, 1);
        assert_eq!(answer, sample.greedy_ids[..1], "{}", sample.prompt);
    }
}
