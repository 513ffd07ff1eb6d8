//! The engine itself: submit, cancel, step.

use super::lanes::Lanes;
use super::plan::Planned;
use super::sequence::{Branch, Phase, Sequence};
use super::{
    Advance, EngineOptions, Event, Reason, Request, Said, SequenceId, Spoken, Step, StepStats, Usage, What,
};
use crate::adapter::Generation;
use crate::error::{Error, Result};
use crate::executor::{Chunk, Executor, Logits, PAGE_TOKENS, Wanted};
use crate::kv::{Book, BookStats, Owner};
use crate::model::ModelConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Runs sequences on an executor.
pub struct Engine {
    pub(super) executor: Box<dyn Executor>,
    pub(super) options: EngineOptions,
    pub(super) book: Book,
    pub(super) lanes: Lanes,
    pub(super) sequences: BTreeMap<SequenceId, Sequence>,
    /// Sequences in the batch, oldest first.
    pub(super) running: BTreeSet<SequenceId>,
    /// Bytes of the sequences put aside.
    pub(super) swapped: u64,
    /// The function that had the last turn of prefill.
    pub(super) turn: Option<Owner>,
    /// Steps since one of those that yield had a token beside the others.
    pub(super) yielded: usize,
    /// Which of those that yield had the last such token.
    pub(super) yielder: Option<SequenceId>,
    pub(super) events: Vec<Event>,
    pub(super) stats: StepStats,
    next: u64,
}

impl Engine {
    /// An engine over an executor, whose pages it owns from now on.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for settings that disagree, [`Error::NoRoom`] for an executor without pages.
    pub fn new(executor: Box<dyn Executor>, options: EngineOptions) -> Result<Self> {
        options.validate()?;
        if executor.pages() == 0 {
            return Err(Error::NoRoom {
                what: "KV pages".to_owned(),
                needed: executor.page_bytes(),
                free: 0,
            });
        }
        let book = Book::new(executor.pages(), executor.page_bytes(), options.book.clone());
        Ok(Self {
            executor,
            options,
            book,
            lanes: Lanes::default(),
            sequences: BTreeMap::new(),
            running: BTreeSet::new(),
            swapped: 0,
            turn: None,
            yielded: 0,
            yielder: None,
            events: Vec::new(),
            stats: StepStats::default(),
            next: 0,
        })
    }

    /// The model.
    pub fn config(&self) -> &ModelConfig {
        self.executor.config()
    }

    /// What it runs on, in words.
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// Counts of its pages.
    pub fn pages(&self) -> BookStats {
        self.book.stats()
    }

    /// Checks the page book; see [`Book::audit`].
    ///
    /// # Errors
    /// The first disagreement, in words.
    pub fn audit(&self) -> Result<(), String> {
        self.book.audit()
    }

    /// Sequences in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Of these, those that yield.
    pub fn yielding(&self) -> usize {
        self.running.iter().filter(|id| self.sequences[id].yields).count()
    }

    /// Sequences that wait to run, those put aside included.
    pub fn waiting(&self) -> usize {
        self.lanes.len()
    }

    /// Host memory of the sequences put aside, bytes.
    pub fn swapped_bytes(&self) -> u64 {
        self.swapped
    }

    /// Called once by the thread that will run every step, where one thread does: it may get a core of its own.
    pub fn settle(&self) {
        self.executor.settle();
    }

    /// Whether a step would do nothing: there may still be sequences held back.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.lanes.len() == 0 && self.events.is_empty()
    }

    /// Takes a request. Returns its first choice's sequence; choice `i` is [`SequenceId::choice`] of it.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for what the model can't take, [`Error::NoRoom`] for a sequence that the pages could never
    /// hold, [`Error::TooLarge`] when too many requests wait.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId> {
        let owner = request.owner();
        self.check_queue(owner)?;
        let most = self.check(&request)?;
        let first = SequenceId(self.next);
        self.next += request.voices.len() as u64;
        let mut voices = request.voices.into_iter();
        let voice = voices.next().expect("checked above: at least one voice");
        let branches =
            voices.enumerate().map(|(i, voice)| Branch { id: first.choice(i + 1), voice }).collect();
        let sequence = Sequence {
            owner,
            yields: request.yields,
            adapter: request.adapter,
            prompt: request.prompt.len(),
            tokens: request.prompt,
            computed: 0,
            pages: Vec::new(),
            most,
            voice,
            branches,
            phase: Phase::Waiting,
            cached: None,
            paused: false,
        };
        self.lanes.put(sequence.lane(), first);
        self.sequences.insert(first, sequence);
        Ok(first)
    }

    /// Ends a sequence now: its pages are free when this returns, and the next step tells of its end.
    ///
    /// Returns whether it was alive.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let usage = sequence.usage();
            let text = if sequence.branches.is_empty() { sequence.voice.finish() } else { String::new() };
            if sequence.branches.is_empty() {
                self.remove(id, false)
            } else {
                self.promote(id)
            }
            self.tell(id, What::Done { reason: Reason::Cancelled, text, usage });
            return true;
        }
        self.cancel_branch(id)
    }

    /// Drops the cached pages of a generation, when its adapter is unloaded. Sequences in flight go on.
    ///
    /// Returns how many.
    pub fn forget(&mut self, generation: Generation) -> u32 {
        self.book.forget(generation)
    }

    /// Advances everything that runs by one step.
    ///
    /// # Errors
    /// What the executor says ([`Error::Changed`] for a model that changed underneath). No sequence survives it: the
    /// caller answers every one with this error.
    pub fn step(&mut self) -> Result<Step> {
        let mut events = Vec::new();
        let step = self.step_telling(&mut |event| events.push(event))?;
        Ok(Step { events, ..step })
    }

    /// As [`Engine::step`], but tells events one by one as the voices speak, in the same order; the returned step has
    /// none. Who hears a token early can pass it on while the next voice still chooses, when the executor's other threads
    /// have nothing to do.
    ///
    /// # Errors
    /// As [`Engine::step`]; then nothing was told.
    pub fn step_telling(&mut self, hear: &mut dyn FnMut(Event)) -> Result<Step> {
        let start = Instant::now();
        self.stats = StepStats::default();
        self.admit();
        let plan = self.plan();
        self.apply_effects();
        if !plan.is_empty() {
            let logits = self.execute(&plan).inspect_err(|_| self.sequences_lost())?;
            self.absorb(&plan, logits, hear);
        }
        self.events.drain(..).for_each(hear);
        self.stats.step_ns = start.elapsed().as_nanos() as u64;
        let advances = plan.iter().map(|part| Advance { sequence: part.id, tokens: part.take }).collect();
        Ok(Step { events: Vec::new(), advances, stats: self.stats })
    }

    fn check_queue(&self, owner: Owner) -> Result<()> {
        let full = |what: &str, limit: usize| {
            let what = format!("requests waiting {what}");
            Err(Error::TooLarge { what, size: limit as u64 + 1, limit: limit as u64 })
        };
        if self.lanes.len() >= self.options.max_waiting {
            return full("in all", self.options.max_waiting);
        }
        if self.lanes.len_of(owner.tenant) >= self.options.max_waiting_per_tenant {
            return full("of this tenant", self.options.max_waiting_per_tenant);
        }
        Ok(())
    }

    /// Checks a request against the model and the pages; gives the tokens it may have, the prompt included.
    fn check(&self, request: &Request) -> Result<usize> {
        let bad = |field, problem: String| Err(Error::BadRequest { field, problem });
        let (config, prompt) = (self.executor.config(), request.prompt.len());
        if prompt == 0 {
            return bad("prompt", "is empty: give at least one token".to_owned());
        }
        if prompt >= config.context {
            return bad(
                "prompt",
                format!("{prompt} tokens leave no room in the context of {}", config.context),
            );
        }
        if let Some(token) = request.prompt.iter().find(|token| **token as usize >= config.vocab) {
            return bad("prompt", format!("token {token} is outside the vocabulary of {}", config.vocab));
        }
        let choices = request.voices.len();
        if choices == 0 || choices > self.options.max_sequences {
            return bad("n", format!("must be from 1 to {}, is {choices}", self.options.max_sequences));
        }
        let most = match request.max_tokens {
            Some(0) => return bad("max_tokens", "must be at least 1".to_owned()),
            Some(tokens) if tokens > config.context - prompt => {
                let left = config.context - prompt;
                return bad(
                    "max_tokens",
                    format!("{tokens} is more than the {left} that the context leaves"),
                );
            }
            Some(tokens) => prompt + tokens,
            None => config.context.min(self.positions() + 1).max(prompt + 1),
        };
        // The last token is only told, never stored.
        if most - 1 > self.positions() {
            let what = format!("a sequence of {most} tokens in the KV pages");
            let bytes =
                |positions: usize| positions.div_ceil(PAGE_TOKENS) as u64 * self.executor.page_bytes();
            return Err(Error::NoRoom { what, needed: bytes(most - 1), free: bytes(self.positions()) });
        }
        Ok(most)
    }

    /// Positions that all pages hold together.
    fn positions(&self) -> usize {
        self.book.len() as usize * PAGE_TOKENS
    }

    fn execute(&mut self, plan: &[Planned]) -> Result<Logits> {
        let batch: Vec<_> =
            plan.iter().map(|planned| chunk(&self.sequences[&planned.id], planned.take)).collect();
        let generations: BTreeSet<_> = batch
            .iter()
            .filter_map(|chunk| chunk.adapter.as_ref().map(|adapter| adapter.generation()))
            .collect();
        let decode = plan.iter().filter(|planned| self.sequences[&planned.id].decoding()).count();
        self.stats.chunks = plan.len();
        self.stats.decode_tokens = decode;
        self.stats.prefill_tokens = plan.iter().map(|planned| planned.take).sum::<usize>() - decode;
        self.stats.adapters = generations.len();
        self.stats.context_tokens = batch.iter().map(|chunk| chunk.start).sum();
        let start = Instant::now();
        let logits = self.executor.step(&batch)?;
        self.stats.executor_ns = start.elapsed().as_nanos() as u64;
        Ok(logits)
    }

    /// Enters what the step computed, and lets the voices speak: first tokens first, since someone waits for each.
    fn absorb(&mut self, plan: &[Planned], mut logits: Logits, hear: &mut dyn FnMut(Event)) {
        let first = |planned: &Planned| {
            let sequence = &self.sequences[&planned.id];
            sequence.tokens.len() == sequence.prompt
        };
        let (firsts, later): (Vec<_>, Vec<_>) = plan.iter().enumerate().partition(|(_, part)| first(part));
        for (index, planned) in firsts.into_iter().chain(later) {
            self.advance(planned);
            let rows = logits.rows.get(index).cloned().unwrap_or_default();
            if let Some(row) = rows.last() {
                let values = &mut logits.values[row * logits.vocab..(row + 1) * logits.vocab];
                self.fork(planned.id, values);
                self.speak(planned.id, values);
                self.events.drain(..).for_each(&mut *hear);
            }
        }
    }

    /// Counts the computed positions and indexes the pages they filled.
    fn advance(&mut self, planned: &Planned) {
        let sequence = self.sequences.get_mut(&planned.id).expect("a planned sequence lives");
        let before = sequence.computed / PAGE_TOKENS;
        sequence.computed += planned.take;
        self.index_pages(planned.id, before);
    }

    /// Indexes the full pages of a sequence from page `from` on.
    pub(super) fn index_pages(&mut self, id: SequenceId, from: usize) {
        let sequence = self.sequences.get_mut(&id).expect("an indexed sequence lives");
        for page in from..sequence.computed / PAGE_TOKENS {
            let tokens = &sequence.tokens[page * PAGE_TOKENS..(page + 1) * PAGE_TOKENS];
            let parent = page.checked_sub(1).map(|above| sequence.pages[above]);
            sequence.pages[page] = self.book.register(sequence.pages[page], parent, tokens);
        }
    }

    /// Has a sequence's voice choose its next token.
    pub(super) fn speak(&mut self, id: SequenceId, logits: &mut [f32]) {
        let sequence = self.sequences.get_mut(&id).expect("a planned sequence lives");
        match sequence.voice.next(logits) {
            Ok(Said::Token(spoken)) => self.enter(id, spoken),
            Ok(Said::End(reason)) => self.end(id, reason),
            Err(error) => {
                let usage = sequence.usage();
                self.remove(id, true);
                self.tell(id, What::Failed { error, usage });
            }
        }
    }

    fn enter(&mut self, id: SequenceId, spoken: Spoken) {
        let sequence = self.sequences.get_mut(&id).expect("a speaking sequence lives");
        sequence.tokens.push(spoken.token);
        let full = (sequence.tokens.len() >= sequence.most).then_some(Reason::Length);
        let end = spoken.end.or(full);
        self.tell(id, What::Token(spoken));
        if let Some(reason) = end {
            self.end(id, reason);
        }
    }

    fn end(&mut self, id: SequenceId, reason: Reason) {
        let sequence = self.sequences.get_mut(&id).expect("an ending sequence lives");
        let (text, usage) = (sequence.voice.finish(), sequence.usage());
        self.remove(id, false);
        self.tell(id, What::Done { reason, text, usage });
    }

    pub(super) fn tell(&mut self, sequence: SequenceId, what: What) {
        self.events.push(Event { sequence, what });
    }

    /// Takes a sequence out of everything. `discard`: no one may see its pages again.
    pub(super) fn remove(&mut self, id: SequenceId, discard: bool) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        self.running.remove(&id);
        self.lanes.take(sequence.lane(), id);
        if let Phase::Swapped(bytes) = &sequence.phase {
            self.swapped -= bytes.len() as u64;
        }
        while let Some(page) = sequence.pages.pop() {
            if discard { self.book.discard(page) } else { self.book.release(page) }
        }
    }

    /// The executor failed: what its pages hold is unknown.
    fn sequences_lost(&mut self) {
        for id in self.sequences.keys().copied().collect::<Vec<_>>() {
            self.remove(id, true);
        }
        self.events.clear();
    }

    /// Usage of a sequence so far.
    pub fn usage(&self, id: SequenceId) -> Option<Usage> {
        self.sequences.get(&id).map(Sequence::usage)
    }
}

/// The next `take` tokens of a sequence.
fn chunk(sequence: &Sequence, take: usize) -> Chunk<'_> {
    let end = sequence.computed + take;
    Chunk {
        adapter: sequence.adapter.clone(),
        tokens: &sequence.tokens[sequence.computed..end],
        start: sequence.computed,
        pages: &sequence.pages,
        wanted: if end == sequence.tokens.len() { Wanted::Last } else { Wanted::None },
    }
}
