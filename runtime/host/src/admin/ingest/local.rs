//! Files of this machine: only below configured folders, never through a link, never anything but a plain file.
//!
//! Each step of a path is opened from the folder before it and compared with what was looked at, so that a folder or
//! file that is swapped meanwhile is noticed. A file with a second name (a hard link) may be somebody else's and is
//! refused.

use super::files;
use crate::admin::error::{AdminError, Kind, Result};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt};
use std::io;
use std::path::{Path, PathBuf};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A PEFT folder or a GGUF file.
    Adapter,
    /// One file.
    File,
}

/// Opened files by the names they are kept under.
pub struct Found {
    /// Name and file.
    pub files: Vec<(String, tokio::fs::File)>,
}

impl Found {
    /// The only one, with its name.
    ///
    /// # Errors
    /// `adapter_file_not_found`.
    pub fn file(self) -> Result<(tokio::fs::File, String)> {
        let found = self.files.into_iter().next().map(|(name, file)| (file, name));
        found.ok_or_else(|| missing("the path is a folder; a file is needed"))
    }
}

/// Opens what lies at an absolute path below one of `roots`.
///
/// # Errors
/// `adapter_path_forbidden`, `adapter_file_forbidden`, `adapter_path_not_found`, `adapter_file_not_found`.
pub async fn open(roots: &[PathBuf], path: &Path, want: Want) -> Result<Found> {
    let (roots, path) = (roots.to_vec(), path.to_owned());
    let found = tokio::task::spawn_blocking(move || find(&roots, &path, want)).await;
    found.map_err(|error| AdminError::internal(format!("reading a folder: {error}")))?
}

fn find(roots: &[PathBuf], path: &Path, want: Want) -> Result<Found> {
    let (root, inner) = confined(roots, path)?;
    let root = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| unreachable_root(&error))?;
    let mut folder = root;
    let parts: Vec<_> = inner.components().collect();
    for (index, part) in parts.iter().enumerate() {
        let name = Path::new(part.as_os_str());
        let kind = folder.symlink_metadata(name).map_err(|error| not_found(&error))?.file_type();
        if kind.is_symlink() {
            return Err(forbidden_path("a part of it is a link, and links are not followed"));
        }
        if kind.is_dir() {
            folder = step(&folder, name)?;
        } else if index + 1 == parts.len() {
            return single(&folder, name, want);
        } else {
            return Err(forbidden_path("a part of it is no folder; links are not followed"));
        }
    }
    match want {
        Want::Adapter => peft(&folder),
        Want::File => Err(missing("the path is a folder; a file is needed")),
    }
}

/// The root that a path lies below, and the rest.
fn confined<'a>(roots: &'a [PathBuf], path: &'a Path) -> Result<(&'a Path, &'a Path)> {
    let below = |root: &'a PathBuf| path.strip_prefix(root).ok().map(|inner| (root.as_path(), inner));
    roots.iter().find_map(below).ok_or_else(|| {
        forbidden_path("it is outside the folders that this server reads adapters from (`artifact_roots`)")
    })
}

/// Opens a folder that is no link, and is the one that was looked at.
fn step(folder: &Dir, name: &Path) -> Result<Dir> {
    let seen = folder.symlink_metadata(name).map_err(|error| not_found(&error))?;
    let opened = folder.open_dir(name).map_err(|error| not_found(&error))?;
    let here = opened.dir_metadata().map_err(|error| not_found(&error))?;
    if (seen.dev(), seen.ino()) != (here.dev(), here.ino()) {
        return Err(forbidden_path("it changed while it was read, or is a link"));
    }
    Ok(opened)
}

fn single(folder: &Dir, name: &Path, want: Want) -> Result<Found> {
    let shown = name.to_string_lossy().into_owned();
    let kept = match want {
        Want::Adapter => files::adapter_file(&shown)?.to_owned(),
        Want::File => shown.clone(),
    };
    if want == Want::Adapter && kept != files::GGUF {
        return Err(missing("give the adapter's folder, or a .gguf file"));
    }
    let file = plain_file(folder, &shown)?.ok_or_else(|| missing(&format!("{shown} is not there")))?;
    Ok(Found { files: vec![(kept, file)] })
}

fn peft(folder: &Dir) -> Result<Found> {
    let mut found = Vec::new();
    for name in files::PEFT {
        if let Some(file) = plain_file(folder, name)? {
            found.push((name.to_owned(), file));
        }
    }
    let has = |name: &str| found.iter().any(|(found, _)| found == name);
    if has(files::TENSORS) {
        return Ok(Found { files: found });
    }
    for pickle in ["adapter_model.bin", "adapter_model.pt", "adapter_model.pth"] {
        if folder.symlink_metadata(pickle).is_ok() {
            files::adapter_file(pickle)?;
        }
    }
    Err(missing(&format!("the folder holds no {}", files::TENSORS)))
}

/// Opens a file; `None` where there is none.
fn plain_file(folder: &Dir, name: &str) -> Result<Option<tokio::fs::File>> {
    match folder.symlink_metadata(name) {
        Ok(metadata) if !metadata.is_file() => Err(forbidden_file(name)),
        Ok(_) => open_plain(folder, name).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(not_found(&error)),
    }
}

fn open_plain(folder: &Dir, name: &str) -> Result<tokio::fs::File> {
    let mut options = OpenOptions::new();
    // Without O_NONBLOCK a pipe that took the file's place would hold the thread.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file: File = folder.open_with(name, &options).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => forbidden_file(name),
        _ => not_found(&error),
    })?;
    let metadata = file.metadata().map_err(|error| not_found(&error))?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(forbidden_file(name));
    }
    Ok(tokio::fs::File::from_std(file.into_std()))
}

fn forbidden_path(problem: &str) -> AdminError {
    AdminError::new(Kind::Forbidden, "adapter_path_forbidden", format!("this path is not read: {problem}"))
        .about("uri")
}

fn forbidden_file(name: &str) -> AdminError {
    let problem = format!("{name} is no plain file with one name: links, pipes and devices are not read");
    AdminError::new(Kind::Forbidden, "adapter_file_forbidden", problem).about(name)
}

fn missing(problem: &str) -> AdminError {
    AdminError::new(Kind::Absent, "adapter_file_not_found", problem).about("uri")
}

fn not_found(error: &io::Error) -> AdminError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            AdminError::new(Kind::Absent, "adapter_path_not_found", "there is nothing at this path")
                .about("uri")
        }
        _ => forbidden_path(&error.kind().to_string()),
    }
}

fn unreachable_root(error: &io::Error) -> AdminError {
    AdminError::internal(format!("a folder of `artifact_roots` cannot be opened: {}", error.kind()))
}
