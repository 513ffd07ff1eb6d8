//! A tokenizer from GGUF metadata: `tokenizer.ggml.*` as llama.cpp reads them.

use super::bpe::Bpe;
use super::special::{self, Specials};
use super::split::{Kind, Splitter};
use super::table::{self, Table, TokenKind};
use super::tokenizer::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// Control tokens that end a turn or a text by their name, whatever the file calls its end: llama.cpp's list.
const END_NAMES: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "< EOT >",
    "_<EOT>",
];

/// Reads the tokenizer.
///
/// # Errors
/// [`Error::Corrupt`] for missing or unequal lists, [`Error::Unsupported`] for kinds that this build does not know.
pub(super) fn open(file: &Gguf) -> Result<Tokenizer> {
    let texts = file.texts("tokenizer.ggml.tokens").ok_or_else(|| {
        Error::corrupt(file.mapping().path(), "tokenizer.ggml.tokens", "missing: the file has no tokenizer")
    })?;
    let bos = token(file, "tokenizer.ggml.bos_token_id", texts.len())?;
    match file.text("tokenizer.ggml.model") {
        Some("gpt2") => merges(file, texts, bos),
        Some("llama" | "gemma") => scores(file, texts, bos),
        other => Err(unsupported(file, "tokenizer.ggml.model", other.unwrap_or("none"), "gpt2 and llama")),
    }
}

fn unsupported(file: &Gguf, key: &str, found: &str, known: &str) -> Error {
    let what = format!("{key} is {found:?}; this build knows {known}");
    Error::Unsupported { path: file.mapping().path().to_owned(), what }
}

/// The byte-level kind.
fn merges(file: &Gguf, texts: &[String], bos: Option<u32>) -> Result<Tokenizer> {
    let pre = file.text("tokenizer.ggml.pre").unwrap_or("default");
    let kind = Kind::named(pre).ok_or_else(|| {
        unsupported(
            file,
            "tokenizer.ggml.pre",
            pre,
            "smollm, llama-bpe, qwen2, tekken, gpt-2, gpt-4o and their kin",
        )
    })?;
    let kinds = kinds(file, texts.len())?;
    let mut table = Table::with_capacity(texts.len());
    for (text, &kind) in texts.iter().zip(&kinds) {
        let plain = kind == TokenKind::Plain;
        table.push(kind, |out| match plain {
            true => table::unmap_letters(text, out),
            false => out.extend_from_slice(text.as_bytes()),
        });
    }
    let rules = file.texts("tokenizer.ggml.merges").ok_or_else(|| {
        Error::corrupt(file.mapping().path(), "tokenizer.ggml.merges", "missing: gpt2 needs merges")
    })?;
    let bpe = Bpe::from_merges(&table, texts, rules, kind.ignore_merges)?;
    let model = Model::Merges { bpe, splitter: Splitter::new(&kind)? };
    finish(file, texts, table, model, bos, kind.add_bos, false)
}

/// The SentencePiece kind.
fn scores(file: &Gguf, texts: &[String], bos: Option<u32>) -> Result<Tokenizer> {
    let scores = file.floats("tokenizer.ggml.scores").filter(|scores| scores.len() == texts.len());
    let Some(scores) = scores else {
        let problem = format!("needs one score for each of the {} tokens", texts.len());
        return Err(Error::corrupt(file.mapping().path(), "tokenizer.ggml.scores", problem));
    };
    let kinds = kinds(file, texts.len())?;
    let mut table = Table::with_capacity(texts.len());
    for (text, &kind) in texts.iter().zip(&kinds) {
        table.push(kind, |out| match (kind, table::fallback_byte(text)) {
            (TokenKind::Byte, Some(byte)) => out.push(byte),
            (TokenKind::Plain | TokenKind::Added, _) => table::unmap_bars(text, out),
            _ => out.extend_from_slice(text.as_bytes()),
        });
    }
    let unknown = token(file, "tokenizer.ggml.unknown_token_id", texts.len())?;
    let scores = scores.iter().map(|&score| score as f32).collect();
    let bpe = Bpe::from_scores(&table, scores, unknown);
    let prefix = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    finish(file, texts, table, Model::Scores { bpe, prefix }, bos, true, prefix)
}

fn finish(
    file: &Gguf,
    texts: &[String],
    table: Table,
    model: Model,
    bos: Option<u32>,
    adds_bos: bool,
    strip_space: bool,
) -> Result<Tokenizer> {
    let whole = (0u32..)
        .zip(texts)
        .filter_map(|(id, text)| special::added(id, table.kind(id)).map(|added| (text.clone(), added)));
    let specials = Specials::new(whole.collect());
    Ok(Tokenizer {
        eos: ends(file, &specials, texts.len())?,
        add_bos: file.bool("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos),
        template: file.text("tokenizer.chat_template").map(str::to_owned),
        model,
        table,
        specials,
        bos,
        strip_space,
    })
}

/// Tokens that end a generation: those the file names, then those whose name says so.
fn ends(file: &Gguf, specials: &Specials, tokens: usize) -> Result<Vec<u32>> {
    let mut ends = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        ends.extend(token(file, &format!("tokenizer.ggml.{key}"), tokens)?);
    }
    let named = END_NAMES.iter().filter_map(|name| specials.get(name)).filter(|added| added.control);
    ends.extend(named.map(|added| added.id));
    let mut seen = std::collections::HashSet::new();
    ends.retain(|&id| seen.insert(id));
    Ok(ends)
}

/// A token named by a key, held against the vocabulary.
fn token(file: &Gguf, key: &str, tokens: usize) -> Result<Option<u32>> {
    match file.unsigned(key) {
        None => Ok(None),
        Some(id) if id < tokens as u64 => Ok(Some(id as u32)),
        // llama.cpp's converters write -1 as 2^32 - 1 for "none".
        Some(id) if id == u64::from(u32::MAX) => Ok(None),
        Some(id) => {
            let problem = format!("{id} is past the vocabulary of {tokens} tokens");
            Err(Error::corrupt(file.mapping().path(), key, problem))
        }
    }
}

/// The tokens' kinds; all plain where the file lists none.
fn kinds(file: &Gguf, tokens: usize) -> Result<Vec<TokenKind>> {
    let Some(types) = file.integers("tokenizer.ggml.token_type") else {
        return Ok(vec![TokenKind::Plain; tokens]);
    };
    if types.len() != tokens {
        let problem = format!("{} types for {tokens} tokens", types.len());
        return Err(Error::corrupt(file.mapping().path(), "tokenizer.ggml.token_type", problem));
    }
    let kind = |&number: &i64| match number {
        2 | 3 => TokenKind::Control,
        4 => TokenKind::Added,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Plain,
    };
    Ok(types.iter().map(kind).collect())
}
