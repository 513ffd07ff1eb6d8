//! The forward pass: one program that every thread of the team runs, ten phases a block.
//!
//! Row phases (norms, LoRA, rotary positions, gates) give each thread whole rows; product phases give each thread whole
//! panels of a matrix for all rows; attention gives each thread tiles. A LoRA's shrink runs in the row phase before its
//! product and its expand in the row phase after, so adapters cost no barrier. Nothing here allocates.

#![expect(unsafe_code, reason = "threads write disjoint rows and columns of shared buffers")]

use super::attention::{Attend, Scratch};
use super::ops::Ops;
use super::pages::KvPages;
use super::plan::Plan;
use super::shared::SharedMut;
use super::team::Worker;
use crate::adapter::{Adapter, Dtype, MatrixView};
use crate::checkpoint::{Part, Weight};
use crate::executor::{Chunk, PAGE_TOKENS};
use crate::kernels::{self, Acts, ActsWriter};
use crate::model::{Activation, ModelConfig};
use crate::pack::{PANEL, Pack, Packed};
use crate::site::{Module, Site};
use std::ops::Range;
use std::sync::atomic::AtomicUsize;

/// Values a thread's product tile may hold: half of a second-level cache of 512 KiB.
const TILE_VALUES: usize = 64 * 1024;

/// Vocabulary entries of a replaced head that one piece computes. Arbitrary.
const HEAD_PIECE: usize = 1024;

/// Phases of a block.
const BLOCK_PHASES: usize = 10;

/// Phases of a step with `layers` blocks.
pub fn phases(layers: usize) -> usize {
    layers * BLOCK_PHASES + 4
}

/// A buffer of activations and the handle to write its rows.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// To read, after the barrier.
    pub acts: &'a Acts,
    /// To write, before it.
    pub writer: ActsWriter,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct ThreadMemory {
    tile: Vec<f32>,
    row: Vec<f32>,
    attention: Scratch,
}

/// Everything a step's threads share.
pub struct Forward<'a> {
    pub config: &'a ModelConfig,
    pub pack: &'a Pack,
    pub ops: &'a Ops,
    pub kv: &'a KvPages,
    pub batch: &'a [Chunk<'a>],
    pub plan: &'a Plan,
    pub counters: &'a [AtomicUsize],
    /// cos and sin of each row, `[rows][2][head_dim / 2]`: of the global layers, and of the local ones.
    pub angles: [SharedMut; 2],
    /// Frequencies of the same two.
    pub frequencies: [&'a super::rope::Frequencies; 2],
    /// Residual stream `[rows][width]`.
    pub x: SharedMut,
    /// Outputs of attention and feed-forward before they join the residual `[rows][width]`.
    pub y: SharedMut,
    pub q: SharedMut,
    pub k: SharedMut,
    pub v: SharedMut,
    /// Attention outputs `[rows][heads * head_dim]`.
    pub attended: SharedMut,
    pub gate: SharedMut,
    pub up: SharedMut,
    /// LoRA intermediates `[rows][3 * rank]`.
    pub shrunk: SharedMut,
    pub logits: SharedMut,
    pub width_input: Input<'a>,
    pub heads_input: Input<'a>,
    pub ffn_input: Input<'a>,
    pub head_input: Input<'a>,
}

/// One matrix of a product phase and where its outputs go.
struct Product<'a> {
    weight: Packed<'a>,
    out: SharedMut,
}

impl Forward<'_> {
    /// Runs the step on one thread of the team.
    pub fn run(&self, worker: &Worker<'_>, memory: &mut ThreadMemory) {
        memory.row.resize(self.config.width.max(self.config.ffn).max(self.q_width()), 0.0);
        let mut phase = Phase { worker, counters: self.counters, next: 0 };
        let rows = self.plan.rows.len();
        phase.rows(rows, |row| self.embed(row));
        for layer in 0..self.config.layers {
            self.block(layer, &mut phase, memory);
        }
        self.head(&mut phase, memory);
    }

    fn block(&self, layer: usize, phase: &mut Phase<'_, '_>, memory: &mut ThreadMemory) {
        let rows = self.plan.rows.len();
        phase.rows(rows, |row| self.enter_attention(layer, row, memory));
        let [q, k, v] = [Module::Q, Module::K, Module::V].map(|module| self.weight(layer, module));
        let parts = [
            Product { weight: q, out: self.q },
            Product { weight: k, out: self.k },
            Product { weight: v, out: self.v },
        ];
        self.product(phase, &parts, self.width_input.acts, rows, memory);
        phase.rows(rows, |row| self.rotate_and_store(layer, row, memory));
        self.attention(layer, phase, memory);
        phase.rows(rows, |row| self.leave_attention(layer, row));
        let out = [Product { weight: self.weight(layer, Module::O), out: self.y }];
        self.product(phase, &out, self.heads_input.acts, rows, memory);
        phase.rows(rows, |row| self.enter_feed_forward(layer, row, memory));
        let parts = [
            Product { weight: self.weight(layer, Module::Gate), out: self.gate },
            Product { weight: self.weight(layer, Module::Up), out: self.up },
        ];
        self.product(phase, &parts, self.width_input.acts, rows, memory);
        phase.rows(rows, |row| self.gate(layer, row));
        let down = [Product { weight: self.weight(layer, Module::Down), out: self.y }];
        self.product(phase, &down, self.ffn_input.acts, rows, memory);
    }

    fn weight(&self, layer: usize, module: Module) -> Packed<'_> {
        self.pack.linear(Site::Block(layer as u32, module))
    }

    fn q_width(&self) -> usize {
        self.config.heads * self.config.head_dim
    }

    fn kv_width(&self) -> usize {
        self.config.kv_heads * self.config.head_dim
    }

    fn vector(&self, layer: usize, part: Part) -> Option<&[f32]> {
        self.pack.vector(Weight::Block(layer as u32, part))
    }

    /// Row `row` of a buffer of `columns`.
    #[expect(clippy::mut_from_ref, reason = "rows are apart; see SharedMut")]
    fn row<'b>(&self, buffer: &'b SharedMut, row: usize, columns: usize) -> &'b mut [f32] {
        // SAFETY: in a row phase a row belongs to the one thread that claimed it.
        unsafe { buffer.part(row * columns, columns) }
    }

    fn adapter(&self, row: usize) -> Option<&Adapter> {
        self.plan.rows[row].adapter.map(|tenant| &*self.plan.tenants[tenant].adapter)
    }

    /// The adapter of a row, if it changes the blocks.
    fn block_adapter(&self, row: usize) -> Option<&Adapter> {
        let tenant = &self.plan.tenants[self.plan.rows[row].adapter?];
        tenant.blocks.then_some(&*tenant.adapter)
    }

    /// Place `slot` of a row's LoRA intermediates.
    #[expect(clippy::mut_from_ref, reason = "rows are apart; see SharedMut")]
    fn shrunk(&self, row: usize, slot: usize, rank: usize) -> &mut [f32] {
        // SAFETY: in a row phase a row belongs to the one thread that claimed it.
        unsafe { self.shrunk.part((row * 3 + slot) * self.plan.rank, rank) }
    }

    /// The first half of the deltas of `modules`: `t = scale * A x`, one slot for each module.
    fn shrink(&self, row: usize, layer: usize, modules: &[Module], x: &[f32]) {
        let Some(adapter) = self.block_adapter(row) else { return };
        for (slot, module) in modules.iter().enumerate() {
            if let Some(delta) = adapter.delta(Site::Block(layer as u32, *module)) {
                self.ops.shrink(&delta.a, x, delta.scale, self.shrunk(row, slot, delta.rank));
            }
        }
    }

    /// The rest of a linear layer after its base product: `y = row_scale * (y + t B) + biases`.
    fn finish(&self, row: usize, layer: usize, module: Module, slot: usize, y: &mut [f32]) {
        if let Some(adapter) = self.block_adapter(row) {
            self.finish_delta(adapter, row, Site::Block(layer as u32, module), slot, y);
        }
        if let Some(bias) = self.vector(layer, Part::Bias(module)) {
            self.ops.add(y, bias);
        }
    }

    fn finish_delta(&self, adapter: &Adapter, row: usize, site: Site, slot: usize, y: &mut [f32]) {
        let Some(delta) = adapter.delta(site) else { return };
        self.ops.expand(&delta.b, self.shrunk(row, slot, delta.rank), y);
        if let Some(scale) = delta.row_scale {
            y.iter_mut().zip(scale).for_each(|(y, scale)| *y *= scale);
        }
        if let Some(bias) = delta.bias {
            self.ops.add(y, bias);
        }
    }

    /// Embeds a token and works out its angles.
    fn embed(&self, row: usize) {
        let (token, position) = (self.plan.rows[row].token as usize, self.plan.rows[row].position);
        let x = self.row(&self.x, row, self.config.width);
        let replaced = self.adapter(row).and_then(|adapter| adapter.replaced(Site::Embed));
        match replaced {
            Some(matrix) => read_row(&matrix, token, x),
            None => self.pack.linear(Site::Embed).row(token, x),
        }
        if let Some(delta) = self.adapter(row).and_then(|adapter| adapter.delta(Site::Embed)) {
            let t = &mut self.shrunk(row, 0, delta.rank)[..];
            read_row(&delta.a, token, t);
            t.iter_mut().for_each(|t| *t *= delta.scale);
            self.ops.expand(&delta.b, t, x);
            if let Some(scale) = delta.row_scale {
                x.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale);
            }
        }
        if self.config.embed_scale != 1.0 {
            x.iter_mut().for_each(|x| *x *= self.config.embed_scale);
        }
        for (angles, frequencies) in self.angles.iter().zip(self.frequencies) {
            let (cos, sin) =
                self.row(angles, row, self.config.head_dim).split_at_mut(self.config.head_dim / 2);
            frequencies.angles(position, cos, sin);
        }
    }

    /// Adds the feed-forward's output of the block before to the residual.
    fn join_feed_forward(&self, before: usize, row: usize, memory: &mut ThreadMemory) {
        let width = self.config.width;
        let (x, y) = (self.row(&self.x, row, width), self.row(&self.y, row, width));
        self.finish(row, before, Module::Down, 0, y);
        self.join(x, y, self.vector(before, Part::PostFfnNorm), memory);
    }

    fn join(&self, x: &mut [f32], y: &[f32], norm: Option<&[f32]>, memory: &mut ThreadMemory) {
        match norm {
            Some(weight) => {
                let normed = &mut memory.row[..y.len()];
                self.ops.rms_norm(y, weight, self.config.rms_eps, normed);
                self.ops.add(x, normed);
            }
            None => self.ops.add(x, y),
        }
    }

    fn enter_attention(&self, layer: usize, row: usize, memory: &mut ThreadMemory) {
        if layer > 0 {
            self.join_feed_forward(layer - 1, row, memory);
        }
        let x = self.row(&self.x, row, self.config.width);
        let weight = self.vector(layer, Part::AttnNorm).expect("a block has a norm before attention");
        let normed = &mut memory.row[..x.len()];
        self.ops.rms_norm(x, weight, self.config.rms_eps, normed);
        let integers = !self.weight(layer, Module::Q).format.is_float();
        // SAFETY: the row is this thread's until the barrier.
        unsafe { self.width_input.writer.put(row, normed, integers) };
        self.shrink(row, layer, &[Module::Q, Module::K, Module::V], normed);
    }

    fn rotate_and_store(&self, layer: usize, row: usize, memory: &mut ThreadMemory) {
        let (q, k) = (self.row(&self.q, row, self.q_width()), self.row(&self.k, row, self.kv_width()));
        let v = self.row(&self.v, row, self.kv_width());
        self.finish(row, layer, Module::Q, 0, q);
        self.finish(row, layer, Module::K, 1, k);
        self.finish(row, layer, Module::V, 2, v);
        self.norm_heads(q, self.vector(layer, Part::QNorm), memory);
        self.norm_heads(k, self.vector(layer, Part::KNorm), memory);
        let local = self.config.local_rope.is_some() && self.config.window_of(layer).is_some();
        let dim = self.config.head_dim;
        let (cos, sin) = self.row(&self.angles[usize::from(local)], row, dim).split_at(dim / 2);
        q.chunks_exact_mut(dim)
            .chain(k.chunks_exact_mut(dim))
            .for_each(|head| self.ops.rotate(head, cos, sin));
        let place = self.plan.rows[row];
        let page = self.batch[place.chunk].pages[place.position / PAGE_TOKENS];
        for (head, (key, value)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            // SAFETY: the position is this row's own; pages are read only after the barrier.
            unsafe { self.kv.write(page, layer, head, place.position % PAGE_TOKENS, key, value) };
        }
    }

    fn norm_heads(&self, heads: &mut [f32], weight: Option<&[f32]>, memory: &mut ThreadMemory) {
        let Some(weight) = weight else { return };
        for head in heads.chunks_exact_mut(self.config.head_dim) {
            let normed = &mut memory.row[..head.len()];
            self.ops.rms_norm(head, weight, self.config.rms_eps, normed);
            head.copy_from_slice(normed);
        }
    }

    fn attention(&self, layer: usize, phase: &mut Phase<'_, '_>, memory: &mut ThreadMemory) {
        let group = self.config.heads / self.config.kv_heads;
        let tiles = self.plan.tiles.len() * self.config.kv_heads;
        // Few tiles: one query head a piece, so that every thread has some. The numbers are the same.
        let split = if tiles < 4 * phase.worker.threads() { group } else { 1 };
        phase.pieces(tiles * split, 1, |piece| {
            for item in piece {
                let (tile, rest) =
                    (item / (self.config.kv_heads * split), item % (self.config.kv_heads * split));
                self.attend(layer, tile, rest / split, rest % split, group / split, memory);
            }
        });
    }

    /// One tile, KV head and `group` of its query heads from the `first`.
    fn attend(
        &self,
        layer: usize,
        tile: usize,
        head: usize,
        first: usize,
        group: usize,
        memory: &mut ThreadMemory,
    ) {
        let tile = self.plan.tiles[tile];
        let place = self.plan.rows[tile.row];
        let per_head = self.config.heads / self.config.kv_heads;
        let column = (head * per_head + first * group) * self.config.head_dim;
        let at = tile.row * self.q_width() + column;
        self.ops.attend(&mut Attend {
            kv: self.kv,
            layer,
            head,
            pages: self.batch[place.chunk].pages,
            start: place.position,
            rows: tile.rows,
            group,
            head_dim: self.config.head_dim,
            window: self.config.window_of(layer).unwrap_or(usize::MAX),
            scale: self.config.attention_scale,
            q: self.q.address(at),
            out: self.attended.address(at),
            stride: self.q_width(),
            scratch: &mut memory.attention,
        });
    }

    fn leave_attention(&self, layer: usize, row: usize) {
        let attended = self.row(&self.attended, row, self.q_width());
        let integers = !self.weight(layer, Module::O).format.is_float();
        // SAFETY: the row is this thread's until the barrier.
        unsafe { self.heads_input.writer.put(row, attended, integers) };
        self.shrink(row, layer, &[Module::O], attended);
    }

    fn enter_feed_forward(&self, layer: usize, row: usize, memory: &mut ThreadMemory) {
        let width = self.config.width;
        let (x, y) = (self.row(&self.x, row, width), self.row(&self.y, row, width));
        self.finish(row, layer, Module::O, 0, y);
        self.join(x, y, self.vector(layer, Part::PostAttnNorm), memory);
        let weight = self.vector(layer, Part::FfnNorm).expect("a block has a norm before the feed-forward");
        let normed = &mut memory.row[..width];
        self.ops.rms_norm(x, weight, self.config.rms_eps, normed);
        let integers = !self.weight(layer, Module::Gate).format.is_float();
        // SAFETY: the row is this thread's until the barrier.
        unsafe { self.width_input.writer.put(row, normed, integers) };
        self.shrink(row, layer, &[Module::Gate, Module::Up], normed);
    }

    fn gate(&self, layer: usize, row: usize) {
        let ffn = self.config.ffn;
        let (gate, up) = (self.row(&self.gate, row, ffn), self.row(&self.up, row, ffn));
        self.finish(row, layer, Module::Gate, 0, gate);
        self.finish(row, layer, Module::Up, 1, up);
        match self.config.activation {
            Activation::Silu => self.ops.silu_mul(gate, up),
            Activation::GeluTanh => self.ops.gelu_mul(gate, up),
        }
        let integers = !self.weight(layer, Module::Down).format.is_float();
        // SAFETY: the row is this thread's until the barrier.
        unsafe { self.ffn_input.writer.put(row, up, integers) };
        self.shrink(row, layer, &[Module::Down], up);
    }

    /// The final norm and the head, for the wanted rows only.
    fn head(&self, phase: &mut Phase<'_, '_>, memory: &mut ThreadMemory) {
        let weight = self.pack.linear(Site::Head);
        let wanted = &self.plan.wanted;
        phase.rows(wanted.len(), |place| self.enter_head(wanted[place], place, &weight, memory));
        let parts = [Product { weight, out: self.logits }];
        self.product(phase, &parts, self.head_input.acts, wanted.len(), memory);
        let pieces = self.config.vocab.div_ceil(HEAD_PIECE);
        phase.pieces(wanted.len() * pieces, 1, |items| {
            for item in items {
                self.adapt_head(item / pieces, item % pieces);
            }
        });
    }

    fn enter_head(&self, row: usize, place: usize, weight: &Packed<'_>, memory: &mut ThreadMemory) {
        self.join_feed_forward(self.config.layers - 1, row, memory);
        let x = self.row(&self.x, row, self.config.width);
        let norm = self.pack.vector(Weight::FinalNorm).expect("a model has a final norm");
        let normed = &mut memory.row[..x.len()];
        self.ops.rms_norm(x, norm, self.config.rms_eps, normed);
        // SAFETY: the place is this thread's until the barrier.
        unsafe { self.head_input.writer.put(place, normed, !weight.format.is_float()) };
        if let Some(delta) = self.adapter(row).and_then(|adapter| adapter.delta(Site::Head)) {
            self.ops.shrink(&delta.a, normed, delta.scale, self.shrunk(row, 0, delta.rank));
        }
    }

    /// A piece of one row's logits under an adapter that changes the head.
    fn adapt_head(&self, place: usize, piece: usize) {
        let row = self.plan.wanted[place];
        let Some(adapter) = self.adapter(row) else { return };
        let (vocab, changed) = (self.config.vocab, adapter.delta(Site::Head).is_some());
        // A delta reaches over the whole row, so the first piece then does all of it.
        let part = if changed { 0..vocab } else { piece * HEAD_PIECE..((piece + 1) * HEAD_PIECE).min(vocab) };
        if changed && piece > 0 {
            return;
        }
        // SAFETY: pieces of a row are apart, or the first one is alone.
        let logits = unsafe { self.logits.part(place * vocab + part.start, part.len()) };
        if let Some(matrix) = adapter.replaced(Site::Head) {
            self.ops.shrink(&rows_of(&matrix, part), self.head_input.acts.row(place), 1.0, logits);
        }
        self.finish_delta(adapter, row, Site::Head, 0, logits);
    }

    /// Products of all `rows` with some matrices of equal input, panels shared out among the threads.
    fn product(
        &self,
        phase: &mut Phase<'_, '_>,
        parts: &[Product<'_>],
        acts: &Acts,
        rows: usize,
        memory: &mut ThreadMemory,
    ) {
        let total: usize = parts.iter().map(|part| part.weight.panels()).sum();
        let fair = total.div_ceil(4 * phase.worker.threads());
        let grain = (TILE_VALUES / (rows.max(1) * PANEL)).clamp(1, fair.max(1));
        let total = if rows == 0 { 0 } else { total };
        phase.pieces(total, grain, |mut piece| {
            let mut before = 0;
            for part in parts {
                let panels = part.weight.panels();
                let end = piece.end.min(before + panels);
                if piece.start < end {
                    tile(part, acts, rows, piece.start - before..end - before, memory);
                    piece.start = end;
                }
                before += panels;
            }
        });
    }
}

/// Products of all rows with some panels, through the thread's own tile into the shared buffer.
fn tile(part: &Product<'_>, acts: &Acts, rows: usize, panels: Range<usize>, memory: &mut ThreadMemory) {
    let stride = panels.len() * PANEL;
    if memory.tile.len() < rows * stride {
        memory.tile.resize(rows * stride, 0.0);
    }
    kernels::tile(&part.weight, acts, 0..rows, panels.clone(), &mut memory.tile, stride);
    let n = part.weight.n;
    let first = panels.start * PANEL;
    let columns = (panels.end * PANEL).min(n) - first;
    for row in 0..rows {
        // SAFETY: panels are apart, and so are their columns.
        let out = unsafe { part.out.part(row * n + first, columns) };
        out.copy_from_slice(&memory.tile[row * stride..row * stride + columns]);
    }
}

/// The phases of a step, in order; each has a counter of its own and ends in a barrier.
struct Phase<'a, 'w> {
    worker: &'a Worker<'w>,
    counters: &'a [AtomicUsize],
    next: usize,
}

impl Phase<'_, '_> {
    fn pieces(&mut self, count: usize, grain: usize, mut work: impl FnMut(Range<usize>)) {
        let counter = &self.counters[self.next];
        self.next += 1;
        self.worker.claim(counter, count, grain).for_each(&mut work);
        self.worker.barrier();
    }

    fn rows(&mut self, count: usize, mut work: impl FnMut(usize)) {
        let grain = (count / (4 * self.worker.threads())).clamp(1, 8);
        self.pieces(count, grain, |rows| rows.for_each(&mut work));
    }
}

/// Some rows of a matrix.
fn rows_of<'a>(matrix: &MatrixView<'a>, rows: Range<usize>) -> MatrixView<'a> {
    let row_bytes = matrix.bytes.len() / matrix.rows;
    let bytes = &matrix.bytes[rows.start * row_bytes..rows.end * row_bytes];
    MatrixView { rows: rows.len(), bytes, ..*matrix }
}

/// Writes row `row` of a matrix as f32.
pub fn read_row(matrix: &MatrixView<'_>, row: usize, out: &mut [f32]) {
    let bytes = rows_of(matrix, row..row + 1).bytes;
    match matrix.dtype {
        Dtype::F32 => {
            let words = bytes.as_chunks::<4>().0;
            out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_ne_bytes(*word));
        }
        Dtype::F16 => {
            let words = bytes.as_chunks::<2>().0;
            out.iter_mut().zip(words).for_each(|(out, word)| *out = half::f16::from_ne_bytes(*word).to_f32());
        }
        Dtype::Bf16 => {
            let words = bytes.as_chunks::<2>().0;
            out.iter_mut()
                .zip(words)
                .for_each(|(out, word)| *out = half::bf16::from_ne_bytes(*word).to_f32());
        }
    }
}
