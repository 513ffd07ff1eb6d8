//! The candle executor: plain tensors on any candle device; the yardstick of the others, and the way to a GPU.
//!
//! Every formula stands here as its definition says it, in f32, with nothing packed, fused or skipped. Weights are
//! either dequantised to the device ([`Reference::new`]) or read in the mapped file ([`Reference::in_place`]), which runs
//! every GGUF type without a pack. It leaves speed out.

mod attention;
mod cache;
mod delta;
mod mapped;
pub mod rope;
mod run;
mod weights;

use crate::adapter::{Adapter, BaseWeights, Generation};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::executor::{Chunk, Executor, Logits, PAGE_TOKENS, PageId};
use crate::model::ModelConfig;
use crate::site::Site;
use cache::Cache;
use candle_core::{DType, Device, Tensor};
use delta::Deltas;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use weights::{Place, Weights};

/// What a [`Reference`] is made with.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceOptions {
    /// KV pages to hold.
    pub pages: u32,
    /// Type of the weights and the KV pages: f32, or on a GPU bf16 or f16. Activations are f32 either way.
    pub dtype: DType,
}

impl Default for ReferenceOptions {
    fn default() -> Self {
        Self { pages: 256, dtype: DType::F32 }
    }
}

/// An executor of candle tensors.
pub struct Reference {
    config: ModelConfig,
    device: Device,
    /// Of the weights.
    dtype: DType,
    weights: Weights,
    cache: Cache,
    /// Adapters on the device, as long as somebody holds them on the host.
    adapters: HashMap<Generation, (Weak<Adapter>, Arc<Deltas>)>,
    /// The files, where weights are read in place.
    mapped: Option<Arc<Checkpoint>>,
    /// A device failure of a call that returns nothing; the next step gives it.
    fault: Mutex<Option<Error>>,
}

impl Reference {
    /// Dequantises a model to `device`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a type other than f32, and on a GPU bf16 and f16; [`Error::NotFound`] for a missing
    /// tensor; [`Error::Candle`] from the device (no memory).
    pub fn new(checkpoint: &Checkpoint, device: Device, options: ReferenceOptions) -> Result<Self> {
        let half = matches!(options.dtype, DType::BF16 | DType::F16);
        let fits = options.dtype == DType::F32 || (half && !device.is_cpu());
        if !fits {
            let problem = format!("{:?} does not run on {}: use f32", options.dtype, name_of(&device));
            return Err(Error::BadRequest { field: "dtype", problem });
        }
        let weights = Weights::load(checkpoint, Place::Device(&device, options.dtype))?;
        Self::with(checkpoint, device, options, weights, None)
    }

    /// Runs a model on the CPU with its matrices read from the map, in the file's own types, nothing copied but norms
    /// and biases.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a missing tensor, [`Error::Candle`] where the KV pages find no memory.
    pub fn in_place(checkpoint: Arc<Checkpoint>, pages: u32) -> Result<Self> {
        let weights = Weights::load(&checkpoint, Place::Map(&checkpoint))?;
        let options = ReferenceOptions { pages, dtype: DType::F32 };
        Self::with(&checkpoint, Device::Cpu, options, weights, Some(Arc::clone(&checkpoint)))
    }

    fn with(
        checkpoint: &Checkpoint,
        device: Device,
        options: ReferenceOptions,
        weights: Weights,
        mapped: Option<Arc<Checkpoint>>,
    ) -> Result<Self> {
        let config = checkpoint.config().clone();
        let cache = Cache::new(&config, options.pages, options.dtype, &device)?;
        let dtype = options.dtype;
        let (adapters, fault) = (HashMap::new(), Mutex::new(None));
        Ok(Self { config, device, dtype, weights, cache, adapters, mapped, fault })
    }

    /// Keeps keys and values in another type from now on, in pages of zeros: to compare with an executor that does.
    ///
    /// # Errors
    /// [`Error::Candle`] where the pages find no memory.
    pub fn keeping(mut self, kv: DType) -> Result<Self> {
        self.cache = Cache::new(&self.config, self.cache.pages(), kv, &self.device)?;
        Ok(self)
    }

    fn deltas(&mut self, adapter: &Arc<Adapter>) -> Result<Arc<Deltas>> {
        if let Some((_, deltas)) = self.adapters.get(&adapter.generation()) {
            return Ok(Arc::clone(deltas));
        }
        let deltas = Arc::new(Deltas::new(adapter, &self.config, &self.device)?);
        self.adapters.insert(adapter.generation(), (Arc::downgrade(adapter), Arc::clone(&deltas)));
        Ok(deltas)
    }

    fn note(&self, done: candle_core::Result<()>) {
        if let Err(error) = done {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.into());
        }
    }

    fn check(&self, chunk: &Chunk<'_>) -> Result<()> {
        let bad = |field, problem| Err(Error::BadRequest { field, problem });
        if chunk.tokens.is_empty() {
            return bad("tokens", "a chunk has none".to_owned());
        }
        if let Some(token) = chunk.tokens.iter().find(|token| **token as usize >= self.config.vocab) {
            return bad("tokens", format!("{token} is past the vocabulary of {}", self.config.vocab));
        }
        let end = chunk.start.saturating_add(chunk.tokens.len());
        if end > self.config.context {
            return bad("tokens", format!("{end} positions are past the context of {}", self.config.context));
        }
        if end > chunk.pages.len() * PAGE_TOKENS {
            return bad("pages", format!("{} pages cannot hold {end} positions", chunk.pages.len()));
        }
        match chunk.pages.iter().find(|page| page.0 >= self.cache.pages()) {
            Some(page) => bad("pages", format!("page {} of {}", page.0, self.cache.pages())),
            None => Ok(()),
        }
    }
}

impl Executor for Reference {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn device(&self) -> String {
        let place = if self.mapped.is_some() { "in place" } else { self.dtype.as_str() };
        format!("{} (candle, {place})", name_of(&self.device))
    }

    fn page_bytes(&self) -> u64 {
        let values = 2 * self.config.layers * PAGE_TOKENS * self.config.kv_heads * self.config.head_dim;
        (values * self.cache.dtype().size_in_bytes()) as u64
    }

    fn pages(&self) -> u32 {
        self.cache.pages()
    }

    fn step(&mut self, batch: &[Chunk<'_>]) -> Result<Logits> {
        if let Some(fault) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(fault);
        }
        if let Some(mapped) = &self.mapped {
            mapped.fence()?;
        }
        batch.iter().try_for_each(|chunk| self.check(chunk))?;
        self.adapters.retain(|_, (adapter, _)| adapter.strong_count() > 0);
        let deltas = batch
            .iter()
            .map(|chunk| chunk.adapter.as_ref().map(|adapter| self.deltas(adapter)).transpose())
            .collect::<Result<Vec<_>>>()?;
        Ok(run::step(self, batch, &deltas)?)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.note(self.cache.copy(from, to));
    }

    fn export_page(&self, page: PageId, out: &mut Vec<u8>) {
        self.note(self.cache.export(page, out));
    }

    fn import_page(&mut self, page: PageId, bytes: &[u8]) {
        self.note(self.cache.import(page, bytes));
    }

    fn clear_page(&mut self, page: PageId) {
        self.note(self.cache.clear(page));
    }
}

impl BaseWeights for Reference {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A device that fails gives not-a-number here, which an adapter's loader refuses, and its error at the next step.
    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        let read = || {
            let id = Tensor::new(&[row as u32], &self.device)?;
            self.weights.linear(site).gather(&id)?.flatten_all()?.to_vec1::<f32>()
        };
        match read() {
            Ok(values) => out.copy_from_slice(&values),
            Err(error) => {
                out.fill(f32::NAN);
                self.note(Err(error));
            }
        }
    }
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reference").field("model", &self.config.name).field("device", &self.device()).finish()
    }
}

fn name_of(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}
