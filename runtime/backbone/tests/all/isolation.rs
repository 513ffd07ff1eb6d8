//! Isolation of results: whatever is loaded, replaced, mixed, cancelled or put aside, every sequence says bit for bit
//! what it says alone.

use crate::engine::{Outcome, Outcomes, run, step};
use crate::fake::{Fake, Teller, VOCAB};
use crate::peft::adapters;
use crate::tiny::{Float, Tiny, real_model};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::engine::{Engine, EngineOptions, Reason, Request, SequenceId};
use coldframe_backbone::error::Result;
use coldframe_backbone::executor::{Chunk, Executor, Logits, PageId};
use coldframe_backbone::kv::{BookOptions, Chain, TenantId};
use coldframe_backbone::model::ModelConfig;
use coldframe_backbone::native::{KvFormat, Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Something a host does.
#[derive(Debug, Clone)]
enum Move {
    Submit {
        tenant: u32,
        name: usize,
        prompt: u32,
        length: usize,
        most: usize,
        choices: usize,
    },
    /// The name means this adapter from now on; `None` is the base model.
    Replace {
        name: usize,
        adapter: Option<usize>,
    },
    Cancel {
        which: usize,
    },
    Preempt {
        which: usize,
    },
    Steps(usize),
}

fn moves(adapters: usize) -> impl Strategy<Value = Vec<Move>> {
    let submit = (0_u32..2, 0_usize..3, 0_u32..3, 1_usize..70, 1_usize..24, 1_usize..4).prop_map(
        |(tenant, name, prompt, length, most, choices)| Move::Submit {
            tenant,
            name,
            prompt,
            length,
            most,
            choices,
        },
    );
    let replace = (0_usize..3, prop::option::of(0..adapters.max(1)))
        .prop_map(|(name, adapter)| Move::Replace { name, adapter });
    let one = prop_oneof![
        5 => submit,
        2 => replace,
        1 => (0_usize..20).prop_map(|which| Move::Cancel { which }),
        2 => (0_usize..20).prop_map(|which| Move::Preempt { which }),
        5 => (1_usize..8).prop_map(Move::Steps),
    ];
    prop::collection::vec(one, 1..40)
}

fn options() -> impl Strategy<Value = (u32, EngineOptions)> {
    let swap = prop_oneof![Just(0_u64), Just(2000), Just(1 << 30)];
    let bits = prop_oneof![3 => Just(128_u32), 1 => 0_u32..4];
    let batch = (4_usize..90, 4_usize..12, 1_usize..40, (1_usize..9, 1_usize..6));
    (8_u32..24, batch, swap, any::<bool>(), bits, 0.0..=1.0).prop_map(
        |(pages, (tokens, sequences, quantum, yielding), swap_bytes, prefix_reuse, bits, tenant_share)| {
            let book = BookOptions { prefix_reuse, tenant_share, chain: Chain::new().shortened(bits) };
            let options = EngineOptions {
                max_batched_tokens: tokens.max(sequences),
                max_sequences: sequences,
                prefill_quantum: quantum,
                yielding_tokens: yielding.0,
                yielding_steps: yielding.1,
                swap_bytes,
                book,
                ..EngineOptions::default()
            };
            (pages, options)
        },
    )
}

/// A request, without its voices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    adapter: Option<usize>,
    prompt: Vec<u32>,
    most: usize,
    seed: u64,
}

/// Executors of one model, and adapters for it.
pub struct World<'a> {
    /// Makes an executor with this many pages.
    pub executor: &'a dyn Fn(u32) -> Box<dyn Executor>,
    /// Adapters that differ from each other.
    pub adapters: &'a [Arc<Adapter>],
    /// Tokens.
    pub vocab: usize,
}

impl World<'_> {
    fn request(&self, tenant: u32, asked: &Asked, choices: usize) -> Request {
        let voice = |choice| Teller::boxed(asked.seed + choice as u64, self.vocab);
        Request {
            tenant: TenantId(tenant),
            adapter: asked.adapter.map(|adapter| self.adapters[adapter].clone()),
            yields: asked.seed.is_multiple_of(3),
            prompt: asked.prompt.clone(),
            max_tokens: Some(asked.most),
            voices: (0..choices).map(voice).collect(),
        }
    }

    /// What a request says when nothing else ever ran.
    fn alone(&self, asked: &Asked) -> Outcome {
        let book = BookOptions { prefix_reuse: false, ..BookOptions::default() };
        let options = EngineOptions { book, ..EngineOptions::default() };
        let mut engine = Engine::new((self.executor)(8), options).unwrap();
        let id = engine.submit(self.request(0, asked, 1)).unwrap();
        run(&mut engine).remove(&id).unwrap()
    }

    /// Plays `moves` and compares everything said with what is said alone.
    fn check(
        &self,
        pages: u32,
        options: EngineOptions,
        moves: &[Move],
    ) -> std::result::Result<(), TestCaseError> {
        let mut engine = Engine::new((self.executor)(pages), options).unwrap();
        let mut names: [Option<usize>; 3] = [None; 3];
        let mut asked: BTreeMap<SequenceId, Asked> = BTreeMap::new();
        let mut outcomes = Outcomes::new();
        for one in moves {
            match one {
                Move::Submit { tenant, name, prompt, length, most, choices } => {
                    let token = |i: u32| (prompt * 5 + i * i + 1) % (self.vocab as u32 - 2);
                    let what = Asked {
                        adapter: names[*name],
                        prompt: (0..*length as u32).map(token).collect(),
                        most: *most,
                        seed: u64::from(*prompt),
                    };
                    let id = engine.submit(self.request(*tenant, &what, *choices)).unwrap();
                    for choice in 0..*choices {
                        let seed = what.seed + choice as u64;
                        asked.insert(id.choice(choice), Asked { seed, ..what.clone() });
                    }
                }
                Move::Replace { name, adapter } => {
                    let adapter = adapter.filter(|adapter| *adapter < self.adapters.len());
                    let before = std::mem::replace(&mut names[*name], adapter);
                    if let Some(before) = before.filter(|before| !names.contains(&Some(*before))) {
                        engine.forget(self.adapters[before].generation());
                    }
                }
                Move::Cancel { which } => {
                    asked.keys().nth(*which).copied().map(|id| engine.cancel(id));
                }
                Move::Preempt { which } => {
                    asked.keys().nth(*which).copied().map(|id| engine.preempt(id));
                }
                Move::Steps(count) => (0..*count).for_each(|_| step(&mut engine, &mut outcomes)),
            }
        }
        let mut steps = 0;
        while !engine.is_idle() {
            step(&mut engine, &mut outcomes);
            steps += 1;
            prop_assert!(steps < 5000, "does not end");
        }
        prop_assert_eq!((engine.pages().used, engine.swapped_bytes()), (0, 0));
        let mut known: BTreeMap<&Asked, Outcome> = BTreeMap::new();
        for (id, what) in &asked {
            let alone = known.entry(what).or_insert_with(|| self.alone(what));
            let Some(outcome) = outcomes.get(id) else {
                return Err(TestCaseError::fail(format!("{id:?} never ended")));
            };
            if outcome.end == Some(Ok(Reason::Cancelled)) {
                prop_assert_eq!(&outcome.tokens[..], &alone.tokens[..outcome.tokens.len()]);
            } else {
                prop_assert_eq!((&outcome.tokens, outcome.end), (&alone.tokens, alone.end));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn everything_said_in_company_is_said_alone((pages, options) in options(), moves in moves(5)) {
        let executor = |pages: u32| Box::new(Fake::new(pages)) as Box<dyn Executor>;
        let adapters = adapters(Fake::new(1).config());
        let world = World { executor: &executor, adapters: &adapters, vocab: VOCAB };
        world.check(pages, options, &moves)?;
    }
}

#[test]
fn a_replaced_name_never_finds_the_old_pages() {
    let fake = Fake::new(64);
    let (old, new) = {
        let all = adapters(fake.config());
        (all[0].clone(), all[3].clone())
    };
    assert_ne!(old.generation(), new.generation(), "of one shape, of different weights");
    let mut engine = Engine::new(Box::new(fake), EngineOptions::default()).unwrap();
    let ask = |engine: &mut Engine, adapter: &Arc<Adapter>| {
        let request = Request {
            tenant: TenantId(1),
            adapter: Some(adapter.clone()),
            yields: false,
            prompt: (0..40).collect(),
            max_tokens: Some(4),
            voices: vec![Teller::boxed(1, VOCAB)],
        };
        let id = engine.submit(request).unwrap();
        run(engine).remove(&id).unwrap()
    };
    let first = ask(&mut engine, &old);
    let replaced = ask(&mut engine, &new);
    let rolled_back = ask(&mut engine, &old);
    assert_eq!((first.cached, replaced.cached, rolled_back.cached), (0, 0, 32));
    assert_ne!(first.tokens, replaced.tokens);
    assert_eq!(first.tokens, rolled_back.tokens);
    assert_eq!(engine.forget(old.generation()), 2);
    assert_eq!(ask(&mut engine, &old).cached, 0, "unloaded, so computed again");
}

/// An executor whose pages hold NaN wherever nothing was written, and again after they are cleared.
struct Poisoned(Box<dyn Executor>);

impl Poisoned {
    fn new(mut executor: Box<dyn Executor>) -> Self {
        (0..executor.pages()).for_each(|page| poison(&mut *executor, PageId(page)));
        Self(executor)
    }
}

fn poison(executor: &mut dyn Executor, page: PageId) {
    // All ones are NaN in f16 and f32.
    let nan = vec![0xFF; executor.page_bytes() as usize];
    executor.import_page(page, &nan);
}

impl Executor for Poisoned {
    fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    fn device(&self) -> String {
        self.0.device()
    }

    fn page_bytes(&self) -> u64 {
        self.0.page_bytes()
    }

    fn pages(&self) -> u32 {
        self.0.pages()
    }

    fn step(&mut self, batch: &[Chunk<'_>]) -> Result<Logits> {
        self.0.step(batch)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.0.copy_page(from, to);
    }

    fn export_page(&self, page: PageId, out: &mut Vec<u8>) {
        self.0.export_page(page, out);
    }

    fn import_page(&mut self, page: PageId, bytes: &[u8]) {
        self.0.import_page(page, bytes);
    }

    fn clear_page(&mut self, page: PageId) {
        poison(&mut *self.0, page);
    }
}

/// Random histories over the CPU executor and a tiny model with adapters of every shape.
fn check_native(checkpoint: &Checkpoint, kv: KvFormat, threads: usize, cases: u32) {
    let pack = Arc::new(Pack::in_memory(checkpoint).unwrap());
    let executor = |pages: u32| {
        let options = NativeOptions { threads, pages: pages as usize, kv };
        Box::new(Poisoned::new(Box::new(Native::new(pack.clone(), options).unwrap()))) as Box<dyn Executor>
    };
    let adapters = adapters(checkpoint.config());
    let world = World { executor: &executor, adapters: &adapters, vocab: checkpoint.config().vocab };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let checked =
        runner.run(&(options(), moves(5)), |((pages, options), moves)| world.check(pages, options, &moves));
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn everything_said_by_a_model_in_company_is_said_alone() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::default().write_hf(folder.path(), Float::F32);
    check_native(&Checkpoint::open(folder.path()).unwrap(), KvFormat::F16, 1, 12);
}

#[test]
fn everything_said_by_a_quantised_model_in_company_is_said_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    Tiny::default().write_gguf(&path, GgmlDType::Q4_1);
    check_native(&Checkpoint::open(&path).unwrap(), KvFormat::Q8, 2, 8);
}

#[test]
fn the_real_model_says_in_a_mixed_batch_what_it_says_alone() {
    let Some(path) = real_model() else { return };
    let pack = Arc::new(Pack::in_memory(&Checkpoint::open(&path).unwrap()).unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/adapters");
    let load = |name| Arc::new(Adapter::load(&folder.join(name), &*pack, &Limits::default()).unwrap());
    let adapters = ["pirate", "json", "shout"].map(load);
    let executor = |pages: u32| {
        let options = NativeOptions { threads: 2, pages: pages as usize, kv: KvFormat::F16 };
        Box::new(Poisoned::new(Box::new(Native::new(pack.clone(), options).unwrap()))) as Box<dyn Executor>
    };
    let vocab = pack.config().vocab;
    let world = World { executor: &executor, adapters: &adapters, vocab };
    let mut moves: Vec<_> = (0..3).map(|name| Move::Replace { name, adapter: Some(name) }).collect();
    for (prompt, length) in [(0, 33), (1, 7), (2, 20), (0, 33)] {
        for name in 0..3 {
            moves.push(Move::Submit { tenant: 0, name, prompt, length, most: 10, choices: 1 });
        }
        moves.push(Move::Steps(3));
        moves.push(Move::Preempt { which: prompt as usize });
    }
    moves.push(Move::Replace { name: 0, adapter: None });
    moves.push(Move::Submit { tenant: 0, name: 0, prompt: 0, length: 33, most: 10, choices: 2 });
    // So many sequences of three pages cannot all run at once.
    let options = EngineOptions { max_batched_tokens: 48, max_sequences: 12, ..EngineOptions::default() };
    world.check(16, options, &moves).unwrap();
}
