//! Byte-pair merging over a vocabulary of bytes: the gpt2 kind (ranked merges) and the SentencePiece kind (scores).
//!
//! Own code, because building the general library's model from 50,000 tokens and as many merges takes several times
//! as long as a process may take to start. One heap per piece keeps a piece of n bytes at O(n log n).

use super::table::Table;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// No token.
const NONE: u32 = u32::MAX;

/// A hasher for the vocabulary's own keys: they come from the model's file, not from a request.
#[derive(Debug, Default, Clone, Copy)]
struct Mix(u64);

impl Mix {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // The multiplication leaves the low bits weak, and the map takes its buckets from them.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
        for &byte in words.remainder() {
            self.add(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }
}

type Mixed = BuildHasherDefault<Mix>;

/// Token of each text.
type Ids = HashMap<Box<[u8]>, u32, Mixed>;

/// Merges and the tokens they start from.
#[derive(Debug)]
pub(super) struct Bpe {
    /// Token of each text that may come of plain text: no control tokens.
    ids: Ids,
    /// Token of each single byte, or [`NONE`].
    bytes: Box<[u32; 256]>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// Rank and product of each pair of tokens.
    Merges { pairs: HashMap<u64, (u32, u32), Mixed>, ignore_merges: bool },
    /// Score of each token; what two neighbours spell is joined if it is a token.
    Scores { scores: Vec<f32>, unknown: Option<u32> },
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    len: u32,
    id: u32,
    before: u32,
    after: u32,
}

/// A merge that may be done: the least rank first, then the leftmost.
type Candidate = Reverse<(u32, u32, u32, u32, u32)>;

impl Bpe {
    /// The gpt2 kind, from the merges in rank order, written `left right` in the vocabulary's own letters.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a merge whose parts or product are no tokens.
    pub fn from_merges(
        table: &Table,
        texts: &[String],
        merges: &[String],
        ignore_merges: bool,
    ) -> Result<Self> {
        let mut by_text: HashMap<&str, u32, Mixed> = HashMap::default();
        by_text.reserve(texts.len());
        by_text.extend(texts.iter().zip(0..).map(|(text, id)| (text.as_str(), id)));
        let mut pairs: HashMap<u64, (u32, u32), Mixed> = HashMap::default();
        pairs.reserve(merges.len());
        let mut joined = String::new();
        for (rank, merge) in (0..).zip(merges) {
            let missing = || Error::Tokenizer(format!("merge {rank} ({merge:?}) names what is no token"));
            let (left, right) = merge.split_once(' ').ok_or_else(missing)?;
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |text: &str| by_text.get(text).copied().ok_or_else(missing);
            // A file may repeat a merge; the later rank counts, as in Hugging Face's map.
            pairs.insert(pair(id(left)?, id(right)?), (rank, id(&joined)?));
        }
        let (ids, bytes) = plain_tokens(table);
        Ok(Self { ids, bytes, rule: Rule::Merges { pairs, ignore_merges } })
    }

    /// The SentencePiece kind, from the scores.
    pub fn from_scores(table: &Table, scores: Vec<f32>, unknown: Option<u32>) -> Self {
        let (ids, bytes) = plain_tokens(table);
        Self { ids, bytes, rule: Rule::Scores { scores, unknown } }
    }

    /// Appends the tokens of one piece.
    pub fn encode(&self, piece: &[u8], out: &mut Vec<u32>) {
        match &self.rule {
            Rule::Merges { pairs, ignore_merges } => {
                if *ignore_merges && let Some(&id) = self.ids.get(piece) {
                    return out.push(id);
                }
                let mut symbols = self.byte_symbols(piece);
                merge(&mut symbols, |left, right| pairs.get(&pair(left.id, right.id)).copied());
                // A byte that no token stands for is left out, as Hugging Face does without an unknown token.
                out.extend(alive(&symbols).map(|symbol| symbol.id).filter(|&id| id != NONE));
            }
            Rule::Scores { scores, unknown } => {
                let mut symbols = self.char_symbols(piece);
                merge(&mut symbols, |left, right| {
                    let start = left.start as usize;
                    let id = *self.ids.get(&piece[start..start + (left.len + right.len) as usize])?;
                    Some((falling(*scores.get(id as usize)?), id))
                });
                for symbol in alive(&symbols) {
                    self.spell(symbol, piece, *unknown, out);
                }
            }
        }
    }

    /// One symbol's tokens: its own, or its bytes', or the unknown one.
    fn spell(&self, symbol: &Symbol, piece: &[u8], unknown: Option<u32>, out: &mut Vec<u32>) {
        if symbol.id != NONE {
            return out.push(symbol.id);
        }
        let text = &piece[symbol.start as usize..(symbol.start + symbol.len) as usize];
        let bytes = || text.iter().map(|&byte| self.bytes[usize::from(byte)]);
        if bytes().all(|id| id != NONE) {
            out.extend(bytes());
        } else {
            out.extend(unknown);
        }
    }

    fn byte_symbols(&self, piece: &[u8]) -> Vec<Symbol> {
        let ids = piece.iter().map(|&byte| (1, self.bytes[usize::from(byte)]));
        chain(ids, piece.len())
    }

    fn char_symbols(&self, piece: &[u8]) -> Vec<Symbol> {
        let chars = piece.utf8_chunks().flat_map(|chunk| {
            let (valid, invalid) = (chunk.valid(), chunk.invalid());
            let characters =
                valid.char_indices().map(move |(at, c)| &valid.as_bytes()[at..at + c.len_utf8()]);
            characters.chain((!invalid.is_empty()).then_some(invalid))
        });
        let ids = chars.map(|text| (text.len() as u32, self.ids.get(text).copied().unwrap_or(NONE)));
        chain(ids, piece.len())
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Maps scores to ranks: the higher score, the lower rank.
fn falling(score: f32) -> u32 {
    let bits = score.to_bits();
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    !rising
}

/// The tokens that plain text may become.
fn plain_tokens(table: &Table) -> (Ids, Box<[u32; 256]>) {
    let mut ids = Ids::default();
    ids.reserve(table.len());
    let mut bytes = Box::new([NONE; 256]);
    for id in 0..table.len() as u32 {
        let text = table.bytes(id);
        if let (&[byte], true) = (text, table.is_byte(id)) {
            bytes[usize::from(byte)] = id;
        } else if table.is_plain(id) {
            ids.entry(text.into()).or_insert(id);
        }
    }
    for (byte, id) in bytes.iter_mut().enumerate().filter(|(_, id)| **id == NONE) {
        *id = ids.get([byte as u8].as_slice()).copied().unwrap_or(NONE);
    }
    (ids, bytes)
}

/// Symbols linked in a row.
fn chain(parts: impl Iterator<Item = (u32, u32)>, capacity: usize) -> Vec<Symbol> {
    let mut symbols = Vec::with_capacity(capacity);
    let mut start = 0;
    for (index, (len, id)) in (0u32..).zip(parts) {
        symbols.push(Symbol { start, len, id, before: index.wrapping_sub(1), after: index + 1 });
        start += len;
    }
    if let Some(last) = symbols.last_mut() {
        last.after = NONE;
    }
    symbols
}

fn alive(symbols: &[Symbol]) -> impl Iterator<Item = &Symbol> {
    symbols.iter().filter(|symbol| symbol.len > 0)
}

/// Joins neighbours until no rule joins any more.
fn merge(symbols: &mut [Symbol], rule: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
    let candidate = |symbols: &[Symbol], left: u32| -> Option<Candidate> {
        let first = symbols.get(left as usize)?;
        let second = symbols.get(first.after as usize)?;
        let (rank, id) = rule(first, second)?;
        // The joined length tells later whether either side has changed since.
        Some(Reverse((rank, left, first.after, first.len + second.len, id)))
    };
    let mut heap: BinaryHeap<Candidate> =
        (0..symbols.len() as u32).filter_map(|left| candidate(symbols, left)).collect();
    while let Some(Reverse((_, left, right, len, id))) = heap.pop() {
        let (first, second) = (symbols[left as usize], symbols[right as usize]);
        if first.len == 0 || first.after != right || first.len + second.len != len {
            continue;
        }
        symbols[left as usize] = Symbol { len, id, after: second.after, ..first };
        symbols[right as usize].len = 0;
        if let Some(next) = symbols.get_mut(second.after as usize) {
            next.before = left;
        }
        heap.extend(candidate(symbols, first.before));
        heap.extend(candidate(symbols, left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_have_lower_ranks() {
        let ranks = [3.5f32, 0.0, -0.5, -1e9].map(falling);
        assert!(ranks.is_sorted() && ranks[0] < ranks[3]);
    }
}
