//! A tokenizer from a Hugging Face folder: `tokenizer.json`, and what its neighbours say about it.

use super::special::{Added, Specials};
use super::table::{self, Table, TokenKind};
use super::tokenizer::{Model, Tokenizer, check_count};
use crate::error::{Error, Result};
use crate::mapping::read_in;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::tokenizer::{NormalizedString, Normalizer, PreTokenizedString, PreTokenizer};
use tokenizers::{Model as _, OffsetReferential, OffsetType, PreTokenizerWrapper};

/// Largest `tokenizer.json`, bytes: twice Gemma 3's.
const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// Largest of the other files, bytes. Arbitrary.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Most tokens, so that one wild id costs no memory. Arbitrary, eight times Gemma 3's.
const TOKENS_MAX: usize = 1 << 21;

/// The library's parts that turn a text into tokens.
pub(super) struct Library {
    tokenizer: tokenizers::Tokenizer,
    /// The pre-tokenizer for texts behind a special token: no space is put before those.
    behind: Option<PreTokenizerWrapper>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

impl Library {
    fn new(tokenizer: tokenizers::Tokenizer) -> Self {
        let behind = tokenizer.get_pre_tokenizer().cloned().map(without_first_space);
        Self { tokenizer, behind }
    }

    /// Appends the tokens of a text; `first` says that it begins the whole text.
    pub fn encode(&self, text: &str, first: bool, tokens_max: usize, out: &mut Vec<u32>) -> Result<()> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(failed)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        let pre = if first { self.tokenizer.get_pre_tokenizer() } else { self.behind.as_ref() };
        if let Some(pre) = pre {
            pre.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        let model = self.tokenizer.get_model();
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if !piece.is_empty() {
                out.extend(model.tokenize(piece).map_err(failed)?.iter().map(|token| token.id));
                check_count(out.len(), tokens_max)?;
            }
        }
        Ok(())
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

/// The library knows the first text by its offset, which is zero for every text given on its own.
fn without_first_space(pre: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match pre {
        PreTokenizerWrapper::Metaspace(mut space) if space.prepend_scheme == PrependScheme::First => {
            space.prepend_scheme = PrependScheme::Never;
            PreTokenizerWrapper::Metaspace(space)
        }
        PreTokenizerWrapper::Sequence(steps) => {
            let steps = steps.as_ref().iter().cloned().map(without_first_space).collect();
            PreTokenizerWrapper::Sequence(tokenizers::pre_tokenizers::sequence::Sequence::new(steps))
        }
        other => other,
    }
}

/// Reads the tokenizer of a folder.
///
/// # Errors
/// [`Error::NotFound`] without a `tokenizer.json`; [`Error::Corrupt`], [`Error::Unsupported`] for what it says.
pub(super) fn open(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    let bytes = read_in(folder, "tokenizer.json", TOKENIZER_BYTES_MAX)?.ok_or_else(|| Error::NotFound {
        what: path.display().to_string(),
        hint: "a Hugging Face folder needs its tokenizer.json; a GGUF file carries its own".into(),
    })?;
    let tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)
        .map_err(|error| Error::corrupt(&path, "json", error.to_string()))?;
    let config = json(folder, "tokenizer_config.json")?;
    let (spelling, strip_space) = spelling(&tokenizer).ok_or_else(|| Error::Unsupported {
        path: path.clone(),
        what: "its decoder is neither byte-level nor SentencePiece's".into(),
    })?;
    let (table, specials) = tables(&tokenizer, spelling, &path)?;
    let bos = named(&config, "bos_token", &specials);
    let empty = tokenizer.encode("", true).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
    let eos = ends(folder, named(&config, "eos_token", &specials), table.len())?;
    Ok(Tokenizer {
        add_bos: bos.is_some() && empty.first().copied() == bos,
        template: template(folder, &config)?,
        model: Model::Library(Box::new(Library::new(tokenizer))),
        table,
        specials,
        bos,
        eos,
        strip_space,
    })
}

/// How token texts spell bytes.
#[derive(Clone, Copy)]
enum Spelling {
    Letters,
    Bars,
}

/// How the tokenizer spells, and whether a decoded text loses its first space; told by its decoder.
fn spelling(tokenizer: &tokenizers::Tokenizer) -> Option<(Spelling, bool)> {
    let decoder = serde_json::to_value(tokenizer.get_decoder()).ok()?.to_string();
    if decoder.contains("\"ByteLevel\"") {
        return Some((Spelling::Letters, false));
    }
    if decoder.contains("\"Metaspace\"") {
        return Some((Spelling::Bars, !decoder.contains("\"never\"")));
    }
    (decoder.contains("\"ByteFallback\"") || decoder.contains('\u{2581}'))
        .then(|| (Spelling::Bars, decoder.contains("\"Strip\"")))
}

fn tables(tokenizer: &tokenizers::Tokenizer, spelling: Spelling, path: &Path) -> Result<(Table, Specials)> {
    let vocab = tokenizer.get_vocab(true);
    let size = vocab.values().max().map_or(0, |&id| id as usize + 1);
    if size > TOKENS_MAX {
        let what = format!("{}: highest token id", path.display());
        return Err(Error::TooLarge { what, size: size as u64, limit: TOKENS_MAX as u64 });
    }
    let mut texts: Vec<Option<&str>> = vec![None; size];
    for (text, &id) in &vocab {
        texts[id as usize] = Some(text);
    }
    let added = tokenizer.get_added_tokens_decoder();
    let mut table = Table::with_capacity(size);
    for (id, text) in (0u32..).zip(texts) {
        let Some(text) = text else {
            table.push(TokenKind::Unused, |_| ());
            continue;
        };
        let byte = table::fallback_byte(text).filter(|_| matches!(spelling, Spelling::Bars));
        let kind = match (added.get(&id), byte) {
            (Some(token), _) if token.special => TokenKind::Control,
            (Some(_), _) => TokenKind::Added,
            (None, Some(_)) => TokenKind::Byte,
            (None, None) => TokenKind::Plain,
        };
        table.push(kind, |out| match (kind, spelling, byte) {
            (TokenKind::Byte, _, Some(byte)) => out.push(byte),
            (TokenKind::Plain, Spelling::Letters, _) => table::unmap_letters(text, out),
            (TokenKind::Plain | TokenKind::Added, Spelling::Bars, _) => table::unmap_bars(text, out),
            _ => out.extend_from_slice(text.as_bytes()),
        });
    }
    let whole = added.into_iter().map(|(id, token)| {
        let added = Added {
            id,
            control: token.special,
            strip_before: token.lstrip,
            strip_behind: token.rstrip,
            single_word: token.single_word,
        };
        (token.content, added)
    });
    Ok((table, Specials::new(whole.collect::<HashMap<_, _>>())))
}

/// A JSON file of the folder; null where there is none.
fn json(folder: &Path, name: &str) -> Result<Value> {
    let Some(bytes) = read_in(folder, name, CONFIG_BYTES_MAX)? else { return Ok(Value::Null) };
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(&folder.join(name), "json", error.to_string()))
}

/// The token of a field that is a text or an object with one.
fn named(config: &Value, field: &str, specials: &Specials) -> Option<u32> {
    let text = config[field].as_str().or_else(|| config[field]["content"].as_str())?;
    specials.get(text).map(|added| added.id)
}

/// Tokens that end a generation: `generation_config.json` first, else the tokenizer's own.
fn ends(folder: &Path, own: Option<u32>, tokens: usize) -> Result<Vec<u32>> {
    let config = json(folder, "generation_config.json")?;
    let listed = match &config["eos_token_id"] {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
        one => one.as_u64().into_iter().collect::<Vec<_>>(),
    };
    let mut ends: Vec<u32> =
        listed.into_iter().filter(|&id| id < tokens as u64).map(|id| id as u32).collect();
    if let Some(own) = own.filter(|own| !ends.contains(own)) {
        ends.push(own);
    }
    Ok(ends)
}

/// The chat template: its own file, else the configuration's (the one named default of several).
fn template(folder: &Path, config: &Value) -> Result<Option<String>> {
    if let Some(bytes) = read_in(folder, "chat_template.jinja", CONFIG_BYTES_MAX)? {
        let path = folder.join("chat_template.jinja");
        let text =
            String::from_utf8(bytes).map_err(|error| Error::corrupt(&path, "text", error.to_string()))?;
        return Ok(Some(text));
    }
    Ok(match &config["chat_template"] {
        Value::Array(several) => several
            .iter()
            .find(|one| one["name"] == "default")
            .and_then(|one| one["template"].as_str())
            .map(str::to_owned),
        one => one.as_str().map(str::to_owned),
    })
}
