//! Pre-tokenisation of byte-level BPE: where a text is cut before merging.
//!
//! Each kind is the list of expressions that llama.cpp's `llama-vocab.cpp` names for a `tokenizer.ggml.pre`, applied
//! one after the other. The automata of `regex` are linear in the text but know no lookahead, so the one that the
//! expressions use, `\s+(?!\S)`, is written `\s+` and the last space of such a match is handed back to what follows.

use crate::error::{Error, Result};
use regex::Regex;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const DIGIT: &str = r"\p{N}";
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];
const FALCON: [&str; 3] = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"];

/// What a `tokenizer.ggml.pre` implies.
pub(super) struct Kind {
    expressions: &'static [&'static str],
    /// A piece that is itself a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether prompts begin with the beginning-of-sequence token where the file does not say.
    pub add_bos: bool,
}

impl Kind {
    /// The kind of a name; `None` for one that this build does not know.
    pub fn named(pre: &str) -> Option<Self> {
        let (expressions, ignore_merges, add_bos): (&'static [&'static str], _, _) = match pre {
            "default" => (&DEFAULT, false, false),
            "gpt-2" | "gpt2" | "mpt" | "olmo" | "jais" | "phi-2" | "gigachat" | "roberta-bpe"
            | "trillion" | "granite-docling" | "exaone4" => (&[GPT2], false, false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
                (&[DIGIT, GPT2], false, false)
            }
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" => (&[LLAMA3], true, true),
            "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => (&[LLAMA3], false, false),
            "qwen2" | "stablelm2" | "hunyuan" | "deepseek-r1-qwen" | "megrez" => (&[QWEN2], false, false),
            "tekken" => (&[TEKKEN], true, true),
            "gpt-4o" | "llama4" => (&[GPT4O], false, false),
            "falcon" => (&FALCON, false, false),
            _ => return None,
        };
        Some(Self { expressions, ignore_merges, add_bos })
    }
}

/// Cuts texts into the pieces that are merged on their own.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    regex: Regex,
    /// The expression ends in `\s+`, standing for `\s+(?!\S)`.
    lends_space: bool,
    /// The expression has `\s*[\r\n]+` before it, whose matches end in a line break and are kept whole.
    keeps_breaks: bool,
}

impl Splitter {
    /// Compiles a kind's expressions.
    pub fn new(kind: &Kind) -> Result<Self> {
        let steps = kind.expressions.iter().map(|expression| Step::new(expression));
        Ok(Self { steps: steps.collect::<Result<_>>()? })
    }

    /// The pieces of a text, in order and without gaps.
    pub fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = vec![text];
        for step in &self.steps {
            let mut finer = Vec::with_capacity(text.len() / 4 + 1);
            for piece in pieces {
                step.split(piece, &mut finer);
            }
            pieces = finer;
        }
        pieces
    }
}

impl Step {
    fn new(expression: &str) -> Result<Self> {
        let regex = Regex::new(expression).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Self {
            regex,
            lends_space: expression.ends_with(r"|\s+"),
            keeps_breaks: expression.contains(r"\s*[\r\n]+"),
        })
    }

    /// Appends the matches and what lies between them.
    fn split<'t>(&self, text: &'t str, out: &mut Vec<&'t str>) {
        let mut done = 0;
        while let Some(found) = self.regex.find_at(text, done) {
            if found.start() > done {
                out.push(&text[done..found.start()]);
            }
            let end = self.end_of(text, found.start(), found.end());
            out.push(&text[found.start()..end]);
            done = end;
        }
        if done < text.len() {
            out.push(&text[done..]);
        }
    }

    /// The end of a match, before its last space where that belongs to the word behind it.
    fn end_of(&self, text: &str, start: usize, end: usize) -> usize {
        let found = &text[start..end];
        let Some(last) = found.chars().next_back() else { return end };
        let kept = !self.lends_space || end == text.len() || !last.is_whitespace();
        if kept || (self.keeps_breaks && matches!(last, '\r' | '\n')) || found.trim_start() != "" {
            return end;
        }
        if last.len_utf8() == found.len() { end } else { end - last.len_utf8() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pre: &str, text: &str, expected: &[&str]) {
        let splitter = Splitter::new(&Kind::named(pre).unwrap()).unwrap();
        assert_eq!(splitter.split(text), expected, "{pre}");
    }

    #[test]
    fn each_kind_cuts_digits_and_spaces_its_own_way() {
        let text = "Hello'Ve world 1234\n\n  foo";
        check("qwen2", text, &["Hello", "'Ve", " world", " ", "1", "2", "3", "4", "\n\n", " ", " foo"]);
        check("llama-bpe", text, &["Hello", "'Ve", " world", " ", "123", "4", "\n\n", " ", " foo"]);
        check("gpt-2", text, &["Hello", "'", "Ve", " world", " 1234", "\n\n ", " foo"]);
        check("smollm", text, &["Hello", "'", "Ve", " world", " ", "1", "2", "3", "4", "\n\n ", " foo"]);
        check("tekken", "HelloWorld it's", &["Hello", "World", " it", "'s"]);
        check("gpt-4o", "HelloWorld it's", &["Hello", "World", " it's"]);
        check("default", "a<=1234", &["a", "<=", "123", "4"]);
    }

    #[test]
    fn a_run_of_spaces_lends_its_last_one() {
        check("gpt-2", "a   b\t\tc \u{3000}", &["a", "  ", " b", "\t", "\t", "c", " \u{3000}"]);
        check("qwen2", "x \n \r\n\ty\n", &["x", " \n \r\n", "\ty", "\n"]);
        check("qwen2", "", &[]);
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        assert!(Kind::named("made-up").is_none());
    }
}
