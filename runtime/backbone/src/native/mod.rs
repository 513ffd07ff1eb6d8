//! The CPU executor: own kernels over the mapped pack, a team of threads, paged KV.
//!
//! A step is planned once (`plan`), then every thread runs the same program (`forward`) and meets the others at
//! barriers. Every sum has a fixed order that depends on the row alone, so a sequence's logits are the same bits whatever
//! it is batched with, however its prompt is cut into chunks, and however many threads there are.

mod attention;
mod cores;
mod forward;
mod ops;
mod pages;
mod plan;
pub mod rope;
mod shared;
mod simd;
mod team;

pub use ops::Ops;
pub use pages::{Ahead, KvFormat};

use crate::error::Result;
use crate::executor::{Chunk, Executor, Logits, PageId};
use crate::kernels::Acts;
use crate::model::ModelConfig;
use crate::pack::Pack;
use forward::{Forward, Input, ThreadMemory};
use pages::KvPages;
use plan::Plan;
use rope::Frequencies;
use shared::SharedMut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use team::Team;

/// Settings of the CPU executor.
#[derive(Debug, Clone, Copy)]
pub struct NativeOptions {
    /// Threads that run a step, the caller among them. More than there are free cores is slower.
    pub threads: usize,
    /// KV pages of [`crate::executor::PAGE_TOKENS`] positions.
    pub pages: usize,
    /// How keys and values are stored.
    pub kv: KvFormat,
}

impl Default for NativeOptions {
    /// All cores, 256 pages (4,096 positions), f16.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { threads, pages: 256, kv: KvFormat::F16 }
    }
}

/// The CPU executor.
#[derive(Debug)]
pub struct Native {
    pack: Arc<Pack>,
    config: ModelConfig,
    ops: &'static Ops,
    team: Team,
    kv: KvPages,
    frequencies: [Frequencies; 2],
    buffers: Buffers,
    memories: Vec<Mutex<ThreadMemory>>,
    counters: Vec<AtomicUsize>,
}

/// Buffers of a step, kept from step to step.
#[derive(Debug, Default)]
struct Buffers {
    angles: [Vec<f32>; 2],
    x: Vec<f32>,
    y: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    shrunk: Vec<f32>,
    width_acts: Acts,
    heads_acts: Acts,
    ffn_acts: Acts,
    head_acts: Acts,
}

impl Buffers {
    fn fit(&mut self, plan: &Plan, config: &ModelConfig) {
        let rows = plan.rows.len();
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let grow = |buffer: &mut Vec<f32>, columns: usize| {
            if buffer.len() < rows * columns {
                buffer.resize(rows * columns, 0.0);
            }
        };
        self.angles.iter_mut().for_each(|angles| grow(angles, config.head_dim));
        for (buffer, columns) in [
            (&mut self.x, config.width),
            (&mut self.y, config.width),
            (&mut self.q, q),
            (&mut self.k, kv),
            (&mut self.v, kv),
            (&mut self.attended, q),
            (&mut self.gate, config.ffn),
            (&mut self.up, config.ffn),
            (&mut self.shrunk, 3 * plan.rank),
        ] {
            grow(buffer, columns);
        }
        self.width_acts.reshape(rows, config.width);
        self.heads_acts.reshape(rows, q);
        self.ffn_acts.reshape(rows, config.ffn);
        self.head_acts.reshape(plan.wanted.len(), config.width);
    }
}

impl Native {
    /// An executor over a pack.
    ///
    /// # Errors
    /// [`crate::Error::NoRoom`] when the KV pages do not fit the address space.
    pub fn new(pack: Arc<Pack>, options: NativeOptions) -> Result<Self> {
        let config = crate::adapter::BaseWeights::config(&*pack).clone();
        let kv = KvPages::new(&config, options.kv, options.pages)?;
        let local = config.local_rope.as_ref().unwrap_or(&config.rope);
        let frequencies = [&config.rope, local].map(|rope| Frequencies::new(rope, config.head_dim));
        let team = Team::new(options.threads);
        let memories = (0..team.threads()).map(|_| Mutex::default()).collect();
        let counters = (0..forward::phases(config.layers)).map(|_| AtomicUsize::new(0)).collect();
        let (ops, buffers) = (Ops::best(), Buffers::default());
        Ok(Self { pack, config, ops, team, kv, frequencies, buffers, memories, counters })
    }

    /// What has the KV pages' memory ready before it is used, to be called beside the executor while that rests.
    pub fn ahead(&self) -> Ahead {
        self.kv.ahead()
    }

    /// The weights it runs.
    pub fn pack(&self) -> &Arc<Pack> {
        &self.pack
    }
}

impl Executor for Native {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn device(&self) -> String {
        let kv = match self.kv.format() {
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::Q8 => "q8",
        };
        format!("cpu ({}, {} threads, {kv} KV)", crate::kernels::features().tier, self.team.threads())
    }

    fn settle(&self) {
        cores::keep(0, self.team.threads());
    }

    fn page_bytes(&self) -> u64 {
        self.kv.page_bytes() as u64
    }

    fn pages(&self) -> u32 {
        self.kv.pages() as u32
    }

    fn step(&mut self, batch: &[Chunk<'_>]) -> Result<Logits> {
        self.pack.fence()?;
        let plan = Plan::new(batch, &self.config, self.kv.pages())?;
        self.buffers.fit(&plan, &self.config);
        self.counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        let vocab = self.config.vocab;
        let mut logits =
            Logits { vocab, values: vec![0.0; plan.wanted.len() * vocab], rows: plan.logits.clone() };
        if plan.rows.is_empty() {
            return Ok(logits);
        }
        let buffers = &mut self.buffers;
        let writers = [
            buffers.width_acts.writer(),
            buffers.heads_acts.writer(),
            buffers.ffn_acts.writer(),
            buffers.head_acts.writer(),
        ];
        let [global, local] = &mut buffers.angles;
        let forward = Forward {
            config: &self.config,
            pack: &self.pack,
            ops: self.ops,
            kv: &self.kv,
            batch,
            plan: &plan,
            counters: &self.counters,
            angles: [SharedMut::new(global), SharedMut::new(local)],
            frequencies: [&self.frequencies[0], &self.frequencies[1]],
            x: SharedMut::new(&mut buffers.x),
            y: SharedMut::new(&mut buffers.y),
            q: SharedMut::new(&mut buffers.q),
            k: SharedMut::new(&mut buffers.k),
            v: SharedMut::new(&mut buffers.v),
            attended: SharedMut::new(&mut buffers.attended),
            gate: SharedMut::new(&mut buffers.gate),
            up: SharedMut::new(&mut buffers.up),
            shrunk: SharedMut::new(&mut buffers.shrunk),
            logits: SharedMut::new(&mut logits.values),
            width_input: Input { acts: &buffers.width_acts, writer: writers[0] },
            heads_input: Input { acts: &buffers.heads_acts, writer: writers[1] },
            ffn_input: Input { acts: &buffers.ffn_acts, writer: writers[2] },
            head_input: Input { acts: &buffers.head_acts, writer: writers[3] },
        };
        let memories = &self.memories;
        self.team.run(&|worker| {
            let mut memory = memories[worker.index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            forward.run(worker, &mut memory);
        });
        Ok(logits)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.kv.copy(from, to);
    }

    fn export_page(&self, page: PageId, out: &mut Vec<u8>) {
        out.extend_from_slice(self.kv.page(page));
    }

    fn import_page(&mut self, page: PageId, bytes: &[u8]) {
        self.kv.page_mut(page).copy_from_slice(bytes);
    }

    fn clear_page(&mut self, page: PageId) {
        self.kv.page_mut(page).fill(0);
    }
}
