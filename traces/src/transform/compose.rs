//! One trace from three: arrivals of one source, token lengths of another, adapter popularity of a third.
//!
//! Lengths are resampled from a pool (at most [`POOL_MAX`] pairs are held), or drawn from a law. Functions stay, are
//! drawn from a law, or follow another stream row by row, starting over when it ends.

use super::forward;
use super::map::{Draw, MapSpec};
use super::repeat::Opener;
use crate::generate::tokens::TokenLaw;
use crate::record::{Catalog, Item, Record, TraceError, TraceStream};
use crate::rng::Stream;

/// Most length pairs held (16 MB). Beyond it, later rows of the length source are left out and a note says so.
pub const POOL_MAX: usize = 2_000_000;

/// Where token lengths come from.
pub enum Lengths {
    /// The arrivals' own.
    Keep,
    /// Pairs of a pool, drawn with replacement; see [`pool`].
    Resample(Vec<(u32, u32)>),
    /// Laws for prompt and output, independent.
    Law(TokenLaw),
}

/// Where functions come from.
pub enum Popularity {
    /// The arrivals' own.
    Keep,
    /// A Zipf law.
    Zipf(MapSpec),
    /// Another stream's functions in its order, again from its start when it ends.
    Follow(Opener),
}

/// Reads the (prompt, output) pairs of a stream into a pool.
pub fn pool(stream: &mut dyn TraceStream) -> Result<Vec<(u32, u32)>, TraceError> {
    let mut pairs = vec![];
    while let Some(item) = stream.next_item()? {
        if let Item::Record(record) = item {
            if pairs.len() == POOL_MAX {
                break;
            }
            pairs.push((record.prompt_tokens, record.output_tokens));
        }
    }
    if pairs.is_empty() {
        return Err(TraceError::Setting("the length source has no rows".into()));
    }
    Ok(pairs)
}

enum Functions {
    Keep,
    Draw(Box<Draw>),
    Follow { opener: Opener, current: Box<dyn TraceStream>, mapped: Vec<u32>, any: bool },
}

/// The composed stream.
pub struct Compose<S> {
    arrivals: S,
    lengths: Lengths,
    functions: Functions,
    catalog: Catalog,
    rng: Stream,
    notes: Vec<String>,
}

impl<S: TraceStream> Compose<S> {
    /// Composes; `seed` draws the lengths.
    pub fn new(arrivals: S, lengths: Lengths, popularity: Popularity, seed: u64) -> Result<Self, TraceError> {
        let mut notes = vec![];
        match &lengths {
            Lengths::Keep => {}
            Lengths::Resample(pairs) if pairs.is_empty() => {
                return Err(TraceError::Setting("the length pool is empty".into()));
            }
            Lengths::Resample(pairs) => {
                notes.push(format!("lengths resampled from {} pairs, seed {seed}", pairs.len()));
            }
            Lengths::Law(law) => notes.push(format!("lengths drawn from the law {}, seed {seed}", law.name)),
        }
        let mut catalog = Catalog::new();
        let functions = match popularity {
            Popularity::Keep => Functions::Keep,
            Popularity::Zipf(spec) => {
                notes.push(spec.note());
                let draw = Draw::new(&spec)?;
                (0..spec.functions).for_each(|i| {
                    catalog.intern(spec.function(i));
                });
                Functions::Draw(Box::new(draw))
            }
            Popularity::Follow(mut opener) => {
                notes.push("functions follow another stream's order".into());
                let current = opener()?;
                Functions::Follow { opener, current, mapped: vec![], any: false }
            }
        };
        Ok(Self { arrivals, lengths, functions, catalog, rng: Stream::new(seed, "compose-lengths"), notes })
    }

    /// The function of the next row of the followed stream.
    fn follow(&mut self) -> Result<Option<u32>, TraceError> {
        let Functions::Follow { opener, current, mapped, any } = &mut self.functions else { return Ok(None) };
        loop {
            match current.next_item()? {
                Some(Item::Record(record)) => {
                    *any = true;
                    let theirs = current.catalog().functions();
                    while mapped.len() <= record.function as usize {
                        mapped.push(self.catalog.intern(theirs[mapped.len()].clone()));
                    }
                    return Ok(Some(mapped[record.function as usize]));
                }
                Some(Item::Refused(_)) => {}
                None if !*any => return Err(TraceError::Setting("the popularity source has no rows".into())),
                None => {
                    *current = opener()?;
                    mapped.clear();
                    *any = false;
                }
            }
        }
    }

    fn compose(&mut self, record: &mut Record) -> Result<(), TraceError> {
        match &self.lengths {
            Lengths::Keep => {}
            Lengths::Resample(pairs) => {
                let (prompt, output) = pairs[self.rng.below(pairs.len() as u64) as usize];
                (record.prompt_tokens, record.output_tokens, record.duration_ns) = (prompt, output, 0);
            }
            Lengths::Law(law) => {
                (record.prompt_tokens, record.output_tokens) = law.draw(&mut self.rng);
                record.duration_ns = 0;
            }
        }
        match &mut self.functions {
            Functions::Keep => {}
            Functions::Draw(draw) => record.function = draw.next(),
            Functions::Follow { .. } => {
                if let Some(function) = self.follow()? {
                    record.function = function;
                }
            }
        }
        Ok(())
    }
}

impl<S: TraceStream> TraceStream for Compose<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        match self.arrivals.next_item()? {
            Some(Item::Record(mut record)) => {
                self.compose(&mut record)?;
                let theirs = &self.arrivals.catalog().slo_classes;
                if theirs.len() != self.catalog.slo_classes.len() {
                    self.catalog.slo_classes = theirs.clone();
                }
                Ok(Some(Item::Record(record)))
            }
            other => Ok(other),
        }
    }

    fn catalog(&self) -> &Catalog {
        if matches!(self.functions, Functions::Keep) { self.arrivals.catalog() } else { &self.catalog }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.arrivals.notes();
        notes.extend(self.notes.iter().cloned());
        notes
    }

    forward!(arrivals);
}
