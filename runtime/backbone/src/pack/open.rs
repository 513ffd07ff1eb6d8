//! Opening a pack: mapped where it is there and whole, made first where it is not, by one process at a time.

use super::file::{self, Sections, VERSION};
use super::{Base, Bytes, Pack, build};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::mapping::{Mapping, hex};
use memmap2::MmapMut;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Told how far the making of a pack is: bytes written, bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Pack {
    /// Maps the pack of a model, making its file in `folder` first where it is missing, stale or damaged.
    ///
    /// # Errors
    /// [`Error::Io`] (no room, no permission), [`Error::Changed`] where the model changed meanwhile.
    pub fn open(checkpoint: &Checkpoint, folder: &Path) -> Result<Self> {
        Self::open_with(checkpoint, folder, &mut |_, _| {})
    }

    /// [`Pack::open`] that tells how far it is when it has to make the file.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn open_with(checkpoint: &Checkpoint, folder: &Path, progress: Progress<'_>) -> Result<Self> {
        let key = key(checkpoint);
        let path = folder.join(format!("{key}.pack"));
        match map(checkpoint, &path, &key) {
            Ok(pack) => return Ok(pack),
            Err(error) if !can_be_remade(&error) => return Err(error),
            Err(_) => {}
        }
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let _lock = lock(folder, &key)?;
        // Whoever held the lock before may have made it.
        match map(checkpoint, &path, &key) {
            Err(error) if can_be_remade(&error) => {}
            done => return done,
        }
        write(checkpoint, folder, &path, &key, progress)?;
        map(checkpoint, &path, &key)
    }

    /// Where the pack of a model lies in `folder`, whether it has been made or not.
    pub fn path_for(checkpoint: &Checkpoint, folder: &Path) -> PathBuf {
        folder.join(format!("{}.pack", key(checkpoint)))
    }

    /// A pack in this process's own memory.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no memory.
    pub fn in_memory(checkpoint: &Checkpoint) -> Result<Self> {
        let refused = |source| Error::Io { path: "memory for a pack".into(), source };
        let mut sections = build::plan(checkpoint)?;
        let size = file::place("", &mut sections);
        let mut memory = MmapMut::map_anon(size).map_err(refused)?;
        for (&weight, section) in &mut sections {
            let mut at = section.range.start;
            let mut hasher = Sha256::new();
            build::section(checkpoint, weight, section, |piece| {
                memory[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
                hasher.update(piece);
                Ok(())
            })?;
            section.sha256 = hex(&hasher.finalize());
        }
        let bytes = Bytes::Memory(memory.make_read_only().map_err(refused)?);
        Ok(pack(checkpoint, bytes, sections, watched(checkpoint)?))
    }
}

fn pack(checkpoint: &Checkpoint, bytes: Bytes, sections: Sections, sources: Vec<Mapping>) -> Pack {
    let base = Base { config: checkpoint.config().clone(), bytes, sections, sources };
    Pack { base: Arc::new(base), private: BTreeMap::new() }
}

/// What the pack of these very files in this layout is called.
fn key(checkpoint: &Checkpoint) -> String {
    let text = format!("coldframe pack {VERSION} {}", checkpoint.identity());
    hex(&Sha256::digest(text.as_bytes()))
}

/// Whether making the file again mends it. A link or device in its place is left to a person.
fn can_be_remade(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Maps a file and checks that it is this model's pack, whole.
fn map(checkpoint: &Checkpoint, path: &Path, key: &str) -> Result<Pack> {
    let mapping = Mapping::open(path)?;
    let sections = file::read(path, mapping.bytes(), key)?;
    let planned = build::plan(checkpoint)?;
    let shape = |sections: &Sections| {
        sections
            .iter()
            .map(|(weight, section)| (*weight, section.format, section.n, section.k))
            .collect::<Vec<_>>()
    };
    if shape(&sections) != shape(&planned) {
        return Err(Error::corrupt(path, "index", "its sections are not the model's; delete it"));
    }
    mapping.will_need();
    Ok(pack(checkpoint, Bytes::File(mapping), sections, watched(checkpoint)?))
}

/// The model's files, mapped again so that the pack can outlive the checkpoint; their pages are not touched.
fn watched(checkpoint: &Checkpoint) -> Result<Vec<Mapping>> {
    let again = |mapping: &Mapping| {
        let again = Mapping::open(mapping.path())?;
        mapping.fence()?;
        Ok(again)
    };
    checkpoint.mappings().map(again).collect()
}

/// An exclusive lock that ends with the file's handle, or with the process.
fn lock(folder: &Path, key: &str) -> Result<File> {
    let path = folder.join(format!("{key}.lock"));
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(Error::io(&path))?;
    file.lock().map_err(Error::io(&path))?;
    Ok(file)
}

/// Writes a pack beside its place and moves it there whole.
fn write(
    checkpoint: &Checkpoint,
    folder: &Path,
    path: &Path,
    key: &str,
    progress: Progress<'_>,
) -> Result<()> {
    let mut sections = build::plan(checkpoint)?;
    let size = file::place(key, &mut sections) as u64;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    let file = temporary.as_file_mut();
    file.set_len(size).map_err(Error::io(path))?;
    let mut done = 0;
    for (&weight, section) in &mut sections {
        file.seek(SeekFrom::Start(section.range.start as u64)).map_err(Error::io(path))?;
        let mut hasher = Sha256::new();
        build::section(checkpoint, weight, section, |piece| {
            hasher.update(piece);
            file.write_all(piece).map_err(Error::io(path))?;
            done += piece.len() as u64;
            progress(done, size);
            Ok(())
        })?;
        section.sha256 = hex(&hasher.finalize());
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    file.write_all(&file::header(key, &sections)).map_err(Error::io(path))?;
    file.set_permissions(Permissions::from_mode(0o444)).map_err(Error::io(path))?;
    // What was read must still be the model that the key names.
    checkpoint.fence()?;
    file.sync_all().map_err(Error::io(path))?;
    temporary.persist(path).map_err(|error| Error::Io { path: path.to_owned(), source: error.error })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))?;
    progress(size, size);
    Ok(())
}
