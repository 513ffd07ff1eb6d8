//! Shared-memory maps of files that know when the file changed.
//!
//! Every process that maps the same file reads the same physical pages, and nothing can be written through a map. A file
//! is opened without following links and must be regular, so a pipe, a device or a link planted in its place is
//! refused, not read.
//!
//! A map cannot stop another process from writing to the file: [`Mapping::fence`] compares the file with what was mapped
//! and is cheap enough (two `stat` calls) to run before every step. What remains is the window between a fence and the
//! end of the step behind it: a file truncated there kills the process with SIGBUS, and a file rewritten there gives one
//! step of wrong numbers before the next fence stops it. Model files belong to an account that the server's cannot write.

#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; the contract is written at the one call"
)]

use crate::error::{Error, Result};
use memmap2::{Advice, Mmap};
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What tells a file from another, and from itself after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// Device that holds the inode.
    pub device: u64,
    /// Time of the last change of the contents, nanoseconds since 1970.
    pub modified_ns: i128,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            device: metadata.dev(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        }
    }

    /// The first thing in which two identities differ, in words.
    fn difference(self, now: Self) -> Option<String> {
        if (self.inode, self.device) != (now.inode, now.device) {
            Some("another file is in its place".to_owned())
        } else if self.size != now.size {
            Some(format!("size was {} bytes, is {}", self.size, now.size))
        } else if self.modified_ns != now.modified_ns {
            Some("its contents were written to".to_owned())
        } else {
            None
        }
    }
}

/// A regular file, mapped shared and read-only.
#[derive(Debug)]
pub struct Mapping {
    path: PathBuf,
    file: File,
    map: Mmap,
    identity: Identity,
}

impl Mapping {
    /// Maps a file that must itself be regular: a symbolic link is refused. For files of tenants (adapters).
    ///
    /// # Errors
    /// [`Error::Forbidden`] for links, folders, pipes and devices; [`Error::Corrupt`] for an empty file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        if metadata.len() == 0 {
            return Err(Error::corrupt(path, "file", "it is empty; copy or download it again"));
        }
        // SAFETY: the map is read-only and shared; the bytes are only ever read as plain numbers whose every bit pattern
        // is valid. Another process can still change them, which no program can rule out: `fence` detects it, and the
        // module's head names the window that remains.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), identity: Identity::of(&metadata), file, map })
    }

    /// Maps a file whose path a person gave: links on the way are followed first (a Hugging Face cache is made of them).
    ///
    /// # Errors
    /// As [`Mapping::open`], and [`Error::Io`] where the path leads nowhere.
    pub fn open_resolved(path: &Path) -> Result<Self> {
        Self::open(&fs::canonicalize(path).map_err(Error::io(path))?)
    }

    /// Maps a file of a model's folder, named by another file of it; see [`resolve_in`] for what is allowed.
    ///
    /// # Errors
    /// As [`Mapping::open`], and [`Error::Forbidden`] where the name leads out of the folder.
    pub fn open_in(folder: &Path, name: &str) -> Result<Self> {
        Self::open(&resolve_in(folder, name)?)
    }

    /// The path that was opened, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// What the file was when it was mapped.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Checks that the file is still the one that was mapped, and still at its path.
    ///
    /// Sizes, inodes and times are compared, not contents: a writer that puts the old time back is found by
    /// [`Mapping::sha256`] only, and a write in the same tick of the file system's clock as the mapping (4 ms on most
    /// systems) by neither the time nor the size.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn fence(&self) -> Result<()> {
        let held = self.file.metadata().map_err(Error::io(&self.path))?;
        let mut change = self.identity.difference(Identity::of(&held));
        if change.is_none() {
            change = match fs::symlink_metadata(&self.path) {
                Ok(there) => self.identity.difference(Identity::of(&there)),
                Err(error) => Some(format!("no longer at its path: {error}")),
            };
        }
        change.map_or(Ok(()), |what| Err(Error::Changed { path: self.path.clone(), what }))
    }

    /// SHA-256 of the file as it is now, lower-case hex. Reads the whole file through its descriptor, not the map, so a
    /// truncation meanwhile is an error and not a signal.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Changed`] where the file changed while it was read or before.
    pub fn sha256(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let read = self.file.read_at(&mut buffer, at).map_err(Error::io(&self.path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        self.fence()?;
        Ok(hex(&hasher.finalize()))
    }

    /// Tells the system that all of the file is wanted soon. Advice only: a refusal changes nothing.
    pub fn will_need(&self) {
        let _ = self.map.advise(Advice::WillNeed);
    }

    /// Tells the system that the file is read once from front to back. Advice only.
    pub fn sequential(&self) {
        let _ = self.map.advise(Advice::Sequential);
    }

    /// Tells the system that this process is done with the pages; others that map the file keep them. Advice only.
    pub fn release_pages(&self) {
        // SAFETY: the map is shared and file-backed, so dropped pages come back from the file with the same bytes.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

/// Opens a regular file for reading, following no link in the last component.
///
/// # Errors
/// [`Error::Forbidden`] for anything but a regular file.
pub fn open_regular(path: &Path) -> Result<File> {
    // Asked before opening, since opening some devices does something; asked again of what was opened.
    refuse_irregular(path, &fs::symlink_metadata(path).map_err(Error::io(path))?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => forbidden(path, "symbolic link"),
            _ => Error::Io { path: path.to_owned(), source: error },
        })?;
    refuse_irregular(path, &file.metadata().map_err(Error::io(path))?)?;
    Ok(file)
}

/// The path of `name` in a model's folder.
///
/// `name` is one plain file name. It may be a link, but only to a file in the folder, or, where the folder is a snapshot
/// in a Hugging Face cache (`…/snapshots/<revision>`), to that model's `blobs`.
///
/// # Errors
/// [`Error::Forbidden`] where it leads elsewhere, [`Error::Io`] where there is no such file.
pub fn resolve_in(folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = fs::canonicalize(folder).map_err(Error::io(folder))?;
    let path = folder.join(name);
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
    if !plain {
        let problem = format!("{name:?} is no plain file name; a model's files lie in its own folder");
        return Err(Error::Forbidden { path: folder, problem });
    }
    let target = fs::canonicalize(&path).map_err(Error::io(&path))?;
    let blobs = folder.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    let inside =
        target.starts_with(&folder) || blobs.is_some_and(|model| target.starts_with(model.join("blobs")));
    if inside {
        return Ok(target);
    }
    let problem = format!("it is a link to {}, outside the model's folder; copy the file", target.display());
    Err(Error::Forbidden { path, problem })
}

/// Reads a small file of a model's folder (configuration, tokenizer); `None` where there is none.
///
/// # Errors
/// As [`resolve_in`] and [`open_regular`]; [`Error::TooLarge`] past `limit` bytes.
pub fn read_in(folder: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    match resolve_in(folder, name).and_then(|path| read_regular(&path, limit)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open_regular`]; [`Error::TooLarge`] past `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        // One byte more than allowed, so that a file that grows meanwhile is noticed.
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    }
    let size = size.max(bytes.len() as u64);
    if size > limit {
        return Err(Error::TooLarge { what: path.display().to_string(), size, limit });
    }
    Ok(bytes)
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refuse_irregular(path: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_dir() {
        "folder"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Err(forbidden(path, what))
}

fn forbidden(path: &Path, what: &str) -> Error {
    Error::Forbidden { path: path.to_owned(), problem: format!("it is a {what}; give a regular file") }
}
