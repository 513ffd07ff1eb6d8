//! Models that lie on this machine already: copied into the store, or noted in place.
//!
//! Also says which files of a folder, here or on a hub, make up a model.

use super::blobs::{check_room, hash_file, pour};
use super::manifest::hex;
use super::source::check_file_name;
use super::{FileEntry, Format, Store, Watch};
use crate::error::{Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The file that lists the shards of a model.
pub const INDEX: &str = "model.safetensors.index.json";
/// Files beside the weights that a model may have; the first is needed.
const BESIDE: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];
/// Longest index that is read, bytes: the largest models' have under 1 MiB.
const INDEX_MAX: u64 = 16 << 20;

/// Which of a folder's files to take: the shards of the index where there is one, else the one weight file there is.
///
/// # Errors
/// A text saying what is missing.
pub fn model_files(names: &BTreeSet<String>, index: Option<&[u8]>) -> Result<Vec<String>, String> {
    if !names.contains(BESIDE[0]) {
        return Err("there is no config.json: name a .gguf file, or a model in Hugging Face form".into());
    }
    let mut wanted: BTreeSet<String> =
        BESIDE.iter().map(|name| (*name).to_owned()).filter(|name| names.contains(name)).collect();
    match index {
        Some(index) => {
            let index: Index = serde_json::from_slice(index).map_err(|e| format!("{INDEX}: {e}"))?;
            wanted.insert(INDEX.into());
            wanted.extend(index.weight_map.into_values());
        }
        None => {
            let one = "model.safetensors".to_owned();
            let mut all = names.iter().filter(|name| name.ends_with(".safetensors"));
            let only = all.next().filter(|_| all.next().is_none()).cloned();
            let weights = Some(one).filter(|one| names.contains(one)).or(only);
            wanted.insert(weights.ok_or("there is no model.safetensors (pickled weights are never opened)")?);
        }
    }
    for name in &wanted {
        check_file_name(name)?;
        if !names.contains(name) {
            return Err(format!("{INDEX} names `{name}`, which is not there"));
        }
    }
    Ok(wanted.into_iter().collect())
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Takes a file or folder in, or notes it where `link`.
pub fn take(
    store: &Store,
    path: &Path,
    link: bool,
    watch: &Watch<'_>,
) -> Result<(Format, PathBuf, Vec<FileEntry>)> {
    let whole = path.canonicalize().map_err(Error::io(path))?;
    let (format, folder, names) = if whole.is_dir() {
        (Format::Safetensors, whole.clone(), folder_files(&whole)?)
    } else {
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        check_file_name(&name).map_err(|problem| Error::corrupt(path, "name", problem))?;
        (Format::Gguf, whole.parent().unwrap_or(Path::new("/")).to_owned(), vec![name])
    };
    let mut files = Vec::new();
    for name in names {
        let file = regular(&folder.join(&name))?;
        let (sha256, bytes) =
            if link { hash_file(&file, &name, watch)? } else { copy(store, &file, &name, watch)? };
        files.push(FileEntry { path: name, sha256, bytes });
    }
    Ok((format, whole, files))
}

fn folder_files(folder: &Path) -> Result<Vec<String>> {
    let names: BTreeSet<String> = super::entries(folder)?.into_iter().collect();
    let index = names.contains(INDEX).then(|| read_index(&folder.join(INDEX))).transpose()?;
    model_files(&names, index.as_deref()).map_err(|problem| Error::corrupt(folder, "folder", problem))
}

fn read_index(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(regular(path)?).map_err(Error::io(path))?;
    file.take(INDEX_MAX).read_to_end(&mut text).map_err(Error::io(path))?;
    Ok(text)
}

/// The file a path leads to; hub caches are folders of links, so links are followed here, where a user names the folder.
fn regular(path: &Path) -> Result<PathBuf> {
    let whole = path.canonicalize().map_err(Error::io(path))?;
    if !whole.metadata().map_err(Error::io(path))?.is_file() {
        return Err(Error::Forbidden { path: path.to_owned(), problem: "it is no regular file".into() });
    }
    Ok(whole)
}

fn copy(store: &Store, path: &Path, label: &str, watch: &Watch<'_>) -> Result<(String, u64)> {
    let from = File::open(path).map_err(Error::io(path))?;
    let total = from.metadata().map_err(Error::io(path))?.len();
    let folder = store.partial();
    check_room(&folder, label, total)?;
    let mut to = tempfile::NamedTempFile::new_in(&folder).map_err(Error::io(&folder))?;
    let mut hash = Sha256::new();
    let bytes = pour(from, path, |bytes, done| {
        hash.update(bytes);
        (watch.progress)(label, done, Some(total));
        to.write_all(bytes).map_err(Error::io(to.path()))?;
        watch.check()
    })?;
    let sha256 = hex(&hash.finalize());
    if !store.sound(&sha256, bytes, watch)? {
        store.adopt(&to.into_temp_path(), &sha256)?;
    }
    Ok((sha256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_model() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let one =
            names(&["config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin"]);
        assert_eq!(
            model_files(&one, None).expect("fine"),
            ["config.json", "model.safetensors", "tokenizer.json"]
        );
        let sharded = names(&["config.json", INDEX, "a-1.safetensors", "a-2.safetensors", "old.safetensors"]);
        let index = br#"{"metadata":{},"weight_map":{"x":"a-1.safetensors","y":"a-2.safetensors"}}"#;
        let files = model_files(&sharded, Some(index)).expect("fine");
        assert_eq!(files, ["a-1.safetensors", "a-2.safetensors", "config.json", INDEX]);
        for (names, index, says) in [
            (names(&["model.safetensors"]), None, "config.json"),
            (names(&["config.json", "pytorch_model.bin"]), None, "pickled"),
            (sharded.clone(), Some(r#"{"weight_map":{"x":"../../etc/passwd"}}"#), "no plain file name"),
            (sharded.clone(), Some(r#"{"weight_map":{"x":"gone.safetensors"}}"#), "not there"),
            (sharded, Some("{"), "index.json"),
        ] {
            let problem = model_files(&names, index.map(str::as_bytes)).expect_err(says);
            assert!(problem.contains(says), "{problem}");
        }
    }
}
