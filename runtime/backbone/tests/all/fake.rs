//! An executor without weights for tests of the bookkeeping: each position's value is a hash of its token, its place,
//! its adapter and *every* value before it, read from the pages. A page that is missing, stale, foreign or not copied
//! changes the logits, and a slot that was never written for its reader is named at once.

use coldframe_backbone::adapter::Generation;
use coldframe_backbone::engine::{Reason, Said, Spoken, Voice};
use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::executor::{Chunk, Executor, Logits, PAGE_TOKENS, PageId, Wanted};
use coldframe_backbone::model::{Activation, Family, ModelConfig, Rope, RopeScaling};
use std::sync::{Arc, Mutex};

/// What lies in pages that no one has written: no value is ever this one.
pub const POISON: u64 = 0xDEAD_BEEF_DEAD_BEEF;

/// Tokens of the fake's vocabulary.
pub const VOCAB: usize = 48;

/// A token that makes all later logits of its sequence NaN.
pub const NAN_TOKEN: u32 = 47;

/// A token on which the executor fails as a whole.
pub const FAIL_TOKEN: u32 = 46;

type Slots = [u64; PAGE_TOKENS];

/// What a step looked like: rows of tokens and start, for tests of the schedule.
pub type Seen = Arc<Mutex<Vec<Vec<(usize, usize)>>>>;

/// The executor.
pub struct Fake {
    config: ModelConfig,
    pages: Vec<Slots>,
    seen: Seen,
}

impl Fake {
    /// With this many pages, all poisoned.
    pub fn new(pages: u32) -> Self {
        Self { config: config(), pages: vec![[POISON; PAGE_TOKENS]; pages as usize], seen: Seen::default() }
    }

    /// The batches it is given: `(start, tokens)` of each chunk.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    fn slot(&mut self, pages: &[PageId], at: usize) -> &mut u64 {
        &mut self.pages[pages[at / PAGE_TOKENS].0 as usize][at % PAGE_TOKENS]
    }

    fn value(&mut self, chunk: &Chunk<'_>, at: usize, token: u32) -> u64 {
        let generation = chunk.adapter.as_ref().map(|adapter| adapter.generation());
        let mut value = seed(generation);
        for before in 0..at {
            let there = *self.slot(chunk.pages, before);
            assert_ne!(there, POISON, "position {at} reads position {before}, which no one wrote");
            value = mix(value, there);
        }
        mix(mix(value, u64::from(token)), at as u64)
    }
}

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        name: "fake".to_owned(),
        layers: 1,
        width: 16,
        ffn: 16,
        heads: 1,
        kv_heads: 1,
        head_dim: 16,
        vocab: VOCAB,
        context: 256,
        rms_eps: 1e-5,
        rope: Rope { theta: 1e4, scaling: RopeScaling::None },
        local_rope: None,
        window: None,
        attention_scale: 0.25,
        tied: true,
        embed_scale: 1.0,
        activation: Activation::Silu,
        bos: None,
        eos: Vec::new(),
    }
}

fn seed(generation: Option<Generation>) -> u64 {
    let bytes = generation.map_or([7; 32], |generation| generation.0);
    bytes.chunks(8).fold(1, |hash, part| part.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte))))
}

/// SplitMix64's finaliser over both.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.rotate_left(17) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Executor for Fake {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn device(&self) -> String {
        "fake".to_owned()
    }

    fn page_bytes(&self) -> u64 {
        size_of::<Slots>() as u64
    }

    fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    fn step(&mut self, batch: &[Chunk<'_>]) -> Result<Logits> {
        self.seen.lock().unwrap().push(batch.iter().map(|chunk| (chunk.start, chunk.tokens.len())).collect());
        if batch.iter().any(|chunk| chunk.tokens.contains(&FAIL_TOKEN)) {
            return Err(Error::Changed { path: "model".into(), what: "its size".to_owned() });
        }
        let mut logits = Logits { vocab: VOCAB, ..Logits::default() };
        for chunk in batch {
            let first = logits.values.len() / VOCAB;
            for (offset, token) in chunk.tokens.iter().enumerate() {
                let at = chunk.start + offset;
                let value = self.value(chunk, at, *token);
                *self.slot(chunk.pages, at) = value;
                if offset + 1 == chunk.tokens.len() && chunk.wanted == Wanted::Last {
                    let nan = *token == NAN_TOKEN;
                    let row = (0..VOCAB as u64).map(|i| (mix(value, i) >> 40) as f32);
                    logits.values.extend(row.map(|x| if nan { f32::NAN } else { x }));
                }
            }
            logits.rows.push(first..logits.values.len() / VOCAB);
        }
        Ok(logits)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.pages[to.0 as usize] = self.pages[from.0 as usize];
    }

    fn export_page(&self, page: PageId, out: &mut Vec<u8>) {
        out.extend(self.pages[page.0 as usize].iter().flat_map(|slot| slot.to_le_bytes()));
    }

    fn import_page(&mut self, page: PageId, bytes: &[u8]) {
        let slots = bytes.chunks_exact(8).map(|slot| u64::from_le_bytes(slot.try_into().unwrap()));
        self.pages[page.0 as usize].iter_mut().zip(slots).for_each(|(slot, value)| *slot = value);
    }

    fn clear_page(&mut self, page: PageId) {
        self.pages[page.0 as usize] = [POISON; PAGE_TOKENS];
    }
}

/// A voice whose choice depends on every bit of the logits; `top` carries a digest of them.
pub struct Teller {
    seed: u64,
    told: u64,
    /// A token that ends it.
    eos: Option<u32>,
    tokens: u32,
}

impl Teller {
    /// A voice that says something else for each seed and ends only at its length.
    pub fn boxed(seed: u64, vocab: usize) -> Box<dyn Voice> {
        Box::new(Self { seed, told: 0, eos: None, tokens: vocab as u32 })
    }

    /// One that ends with `eos`.
    pub fn ending(seed: u64, vocab: usize, eos: u32) -> Box<dyn Voice> {
        Box::new(Self { seed, told: 0, eos: Some(eos), tokens: vocab as u32 })
    }
}

impl Voice for Teller {
    fn next(&mut self, logits: &mut [f32]) -> Result<Said> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NonFinite("logits".to_owned()));
        }
        let digest = logits.iter().fold(0, |hash, logit| mix(hash, u64::from(logit.to_bits())));
        self.told += 1;
        // The last tokens are kept for tests of failure.
        let token = (mix(mix(digest, self.seed), self.told) % u64::from(self.tokens - 2)) as u32;
        logits.fill(f32::NAN);
        let end = (self.eos == Some(token)).then_some(Reason::Eos);
        let top = vec![(digest as u32, 0.0)];
        Ok(Said::Token(Spoken { token, top, text: format!("{token} "), end, logprob: None }))
    }

    fn finish(&mut self) -> String {
        "end".to_owned()
    }
}
