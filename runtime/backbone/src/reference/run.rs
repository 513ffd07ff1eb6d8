//! One step of the model: embedding, blocks, head, with each run of rows under its own adapter.

use super::Reference;
use super::attention::{attend, mask, rms_norm};
use super::cache::Place;
use super::delta::{Delta, Deltas};
use super::rope::Angles;
use super::weights::{Block, Linear, dense_product};
use crate::executor::{Chunk, Logits, Wanted};
use crate::model::Activation;
use crate::site::{Module, Site};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// A chunk's rows within the step.
struct Run<'a> {
    chunk: &'a Chunk<'a>,
    deltas: Option<&'a Deltas>,
    first: usize,
    count: usize,
    place: Place,
}

impl Run<'_> {
    fn of(&self, rows: &Tensor) -> Result<Tensor> {
        rows.narrow(0, self.first, self.count)
    }

    fn delta(&self, site: Site) -> Option<&Delta> {
        self.deltas.and_then(|deltas| deltas.delta(site))
    }

    fn replaced(&self, site: Site) -> Option<&Tensor> {
        self.deltas.and_then(|deltas| deltas.replaced(site))
    }
}

struct Step<'a> {
    model: &'a Reference,
    runs: Vec<Run<'a>>,
}

/// Advances `batch`, whose chunks were checked; `deltas` are their adapters.
///
/// # Errors
/// Only those of the device.
pub fn step(model: &Reference, batch: &[Chunk<'_>], deltas: &[Option<Arc<Deltas>>]) -> Result<Logits> {
    let mut runs = Vec::with_capacity(batch.len());
    let mut first = 0;
    for (chunk, deltas) in batch.iter().zip(deltas) {
        let count = chunk.tokens.len();
        let place = Place::new(chunk.pages, chunk.start, count, &model.device)?;
        runs.push(Run { chunk, deltas: deltas.as_deref(), first, count, place });
        first += count;
    }
    if runs.is_empty() {
        return Ok(Logits { vocab: model.config.vocab, ..Logits::default() });
    }
    let step = Step { model, runs };
    let mut x = step.embed()?;
    for (layer, block) in model.weights.blocks.iter().enumerate() {
        x = step.block(layer, block, &x)?;
    }
    step.logits(&x)
}

impl Step<'_> {
    /// Puts together what `part` gives for each run's rows.
    fn by_run(&self, part: impl Fn(&Run<'_>) -> Result<Tensor>) -> Result<Tensor> {
        Tensor::cat(&self.runs.iter().map(part).collect::<Result<Vec<_>>>()?, 0)
    }

    fn embed(&self) -> Result<Tensor> {
        let table = self.model.weights.linear(Site::Embed);
        let rows = self.by_run(|run| {
            let tokens = Tensor::new(run.chunk.tokens, &self.model.device)?;
            let rows = match run.replaced(Site::Embed) {
                Some(replaced) => replaced.index_select(&tokens, 0)?,
                None => table.gather(&tokens)?,
            };
            match run.delta(Site::Embed) {
                Some(delta) => delta.apply_to_rows(&tokens, &rows),
                None => Ok(rows),
            }
        })?;
        rows * f64::from(self.model.config.embed_scale)
    }

    fn linear(&self, layer: usize, module: Module, x: &Tensor) -> Result<Tensor> {
        let site = Site::Block(layer as u32, module);
        let linear: &Linear = self.model.weights.linear(site);
        let base = linear.product(x)?;
        let y = self.by_run(|run| match run.delta(site) {
            Some(delta) => delta.apply(&run.of(x)?, &run.of(&base)?),
            None => run.of(&base),
        })?;
        match &linear.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        rms_norm(x, weight, self.model.config.rms_eps)
    }

    fn norm_if(&self, x: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        weight.map_or(Ok(x.clone()), |weight| self.norm(&x, weight))
    }

    fn block(&self, layer: usize, block: &Block, x: &Tensor) -> Result<Tensor> {
        let attended = self.attention(layer, block, &self.norm(x, &block.attn_norm)?)?;
        let x = (x + self.norm_if(attended, block.post_attn_norm.as_ref())?)?;
        let fed = self.feed_forward(layer, &self.norm(&x, &block.ffn_norm)?)?;
        x + self.norm_if(fed, block.post_ffn_norm.as_ref())?
    }

    fn attention(&self, layer: usize, block: &Block, x: &Tensor) -> Result<Tensor> {
        let config = &self.model.config;
        let heads = |module, heads| {
            let rows = self.linear(layer, module, x)?;
            rows.reshape((rows.dim(0)?, heads, config.head_dim))
        };
        let q = self.norm_if(heads(Module::Q, config.heads)?, block.q_norm.as_ref())?;
        let k = self.norm_if(heads(Module::K, config.kv_heads)?, block.k_norm.as_ref())?;
        let v = heads(Module::V, config.kv_heads)?;
        let mixed = self.by_run(|run| self.attend_run(layer, run, [&q, &k, &v]))?;
        self.linear(layer, Module::O, &mixed)
    }

    fn attend_run(&self, layer: usize, run: &Run<'_>, [q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
        let (config, device) = (&self.model.config, &self.model.device);
        let angles = Angles::new(config.rope_of(layer), config.head_dim, run.chunk.start, run.count, device)?;
        let (q, k, v) = (angles.rotate(&run.of(q)?)?, angles.rotate(&run.of(k)?)?, run.of(v)?);
        let [k, v] = self.model.cache.extend(layer, &run.place, [&k, &v])?;
        let mask = mask(run.chunk.start, run.count, config.window_of(layer), device)?;
        attend(&q, &k, &v, &mask, config.attention_scale)
    }

    fn feed_forward(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let gate = self.linear(layer, Module::Gate, x)?;
        let gate = match self.model.config.activation {
            Activation::Silu => gate.silu()?,
            // candle's `gelu` is the tanh form.
            Activation::GeluTanh => gate.gelu()?,
        };
        let up = self.linear(layer, Module::Up, x)?;
        self.linear(layer, Module::Down, &(gate * up)?)
    }

    fn logits(&self, x: &Tensor) -> Result<Logits> {
        let mut logits = Logits { vocab: self.model.config.vocab, ..Logits::default() };
        for run in &self.runs {
            let before = logits.values.len() / logits.vocab;
            let wanted = match run.chunk.wanted {
                Wanted::None => 0,
                Wanted::Last => 1,
                Wanted::All => run.count,
            };
            if wanted > 0 {
                let rows = x.narrow(0, run.first + run.count - wanted, wanted)?;
                logits.values.extend(self.head(run, &rows)?.flatten_all()?.to_vec1::<f32>()?);
            }
            logits.rows.push(before..before + wanted);
        }
        Ok(logits)
    }

    fn head(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let x = self.norm(x, &self.model.weights.final_norm)?;
        let base = match run.replaced(Site::Head) {
            Some(replaced) => dense_product(&x, replaced)?,
            None => self.model.weights.linear(Site::Head).product(&x)?,
        };
        match run.delta(Site::Head) {
            Some(delta) => delta.apply(&x, &base),
            None => Ok(base),
        }
    }
}
