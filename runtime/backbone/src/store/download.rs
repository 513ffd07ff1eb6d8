//! One file from the web to disk: hashed as it comes, resumed where it broke, kept where it was stopped.
//!
//! A download is `partial/KEY.part` beside `partial/KEY.json`, which holds the server's validator: a part is continued
//! only where the server says that the file is still the same (`If-Range`), or where the whole file's digest is known
//! and will be checked.

use super::address::Address;
use super::blobs::{check_room, free_bytes, pour};
use super::http::{Ask, Client, Reply, backoff, pause};
use super::manifest::{hex, write_whole};
use super::{Store, Watch};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Transfers of one file that may break without a byte of progress between them: arbitrary.
const BREAKS_MAX: u32 = 5;

/// A file to get.
pub struct Wanted<'a> {
    /// How to ask for it.
    pub ask: Ask,
    /// What it must hash to, if known.
    pub sha256: Option<&'a str>,
    /// Its size, if known.
    pub bytes: Option<u64>,
    /// What progress calls it.
    pub label: &'a str,
}

/// A file that has come whole, still in `partial/`.
pub struct Finished {
    /// Where it lies.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    notes: PathBuf,
    // Its lock keeps others out until the file is moved away.
    _file: File,
}

impl Finished {
    /// Moves it among the blobs.
    pub fn adopt(self, store: &Store) -> Result<()> {
        store.adopt(&self.path, &self.sha256)?;
        let _ = fs::remove_file(&self.notes);
        Ok(())
    }

    /// Removes it.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.notes);
    }
}

/// What is known of the file that a part belongs to.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    address: String,
    validator: Option<String>,
    total: Option<u64>,
}

struct Download<'a> {
    client: &'a Client,
    wanted: &'a Wanted<'a>,
    watch: &'a Watch<'a>,
    folder: PathBuf,
    path: PathBuf,
    notes_path: PathBuf,
    file: File,
    notes: Notes,
    hash: Sha256,
    done: u64,
    resumed: bool,
}

/// Gets a file.
///
/// # Errors
/// [`Error::Network`], [`Error::Digest`], [`Error::NoRoom`], [`Error::Interrupted`]; the part is kept unless it is wrong.
pub fn download(store: &Store, client: &Client, wanted: &Wanted<'_>, watch: &Watch<'_>) -> Result<Finished> {
    let folder = store.partial();
    let key = key(&wanted.ask.address, wanted.sha256);
    let path = folder.join(format!("{key}.part"));
    let file = open_alone(&path, watch)?;
    let notes_path = folder.join(format!("{key}.json"));
    let notes = fs::read(&notes_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let mut work = Download {
        client,
        wanted,
        watch,
        folder,
        path,
        notes_path,
        file,
        notes: notes.unwrap_or_default(),
        hash: Sha256::new(),
        done: 0,
        resumed: false,
    };
    work.reread()?;
    work.run()
}

/// The same file from the same place has the same key; a signature in the query changes nothing.
fn key(address: &Address, sha256: Option<&str>) -> String {
    hex(&Sha256::digest(format!("{address} {}", sha256.unwrap_or_default())))[..32].to_owned()
}

/// Opens a part with nobody else writing to it.
fn open_alone(path: &Path, watch: &Watch<'_>) -> Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(Error::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                pause(Duration::from_millis(200), watch)?;
                continue;
            }
            Err(fs::TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        // The process that was waited for may have made a blob of the file that is open here.
        let ours = file.metadata().map_err(Error::io(path))?;
        if fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev()) {
            return Ok(file);
        }
    }
}

impl Download<'_> {
    fn run(mut self) -> Result<Finished> {
        if self.done > 0 && self.wanted.sha256 == Some(&hex(&self.hash.clone().finalize())) {
            return self.finished();
        }
        let mut breaks = 0;
        loop {
            let before = self.done;
            match self.transfer() {
                Ok(()) => break,
                Err(error @ Error::Network { .. }) => {
                    breaks = if self.done > before { 1 } else { breaks + 1 };
                    // A refusal stays one; only a body that broke is worth asking on.
                    if breaks == BREAKS_MAX || !error.to_string().contains("the transfer broke") {
                        return Err(error);
                    }
                    pause(backoff(breaks), self.watch)?;
                }
                Err(error) => return Err(error),
            }
        }
        match self.wrong_digest() {
            // The file may have changed between two transfers of its parts.
            Some(_) if self.resumed => {
                self.restart()?;
                self.transfer()?;
                self.wrong_digest().map_or_else(|| self.finished(), Err)
            }
            Some(error) => {
                self.restart()?;
                Err(error)
            }
            None => self.finished(),
        }
    }

    /// Hashes what is there already.
    fn reread(&mut self) -> Result<()> {
        let trusted = self.notes.validator.is_some() || self.wanted.sha256.is_some();
        if !trusted {
            return self.restart();
        }
        let (hash, watch) = (&mut self.hash, self.watch);
        self.done = pour(&self.file, &self.path, |bytes, _| {
            hash.update(bytes);
            watch.check()
        })?;
        self.resumed = self.done > 0;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(Error::io(&self.path))?;
        (self.hash, self.done, self.resumed) = (Sha256::new(), 0, false);
        self.notes = Notes::default();
        let _ = fs::remove_file(&self.notes_path);
        Ok(())
    }

    /// One request, from where the part ends.
    fn transfer(&mut self) -> Result<()> {
        let mut ask = self.wanted.ask.clone();
        if self.done > 0 {
            ask.headers.push(("range", format!("bytes={}-", self.done)));
            ask.headers.extend(self.notes.validator.clone().map(|validator| ("if-range", validator)));
        }
        let mut reply = self.client.get(&ask, self.watch)?;
        let total = match reply.status {
            416 if range(&reply).is_some_and(|(_, total)| total == Some(self.done)) => return Ok(()),
            416 => {
                self.restart()?;
                return Err(self.broke("the server has less than was downloaded"));
            }
            206 => match range(&reply) {
                Some((start, total)) if start == self.done => total,
                _ => {
                    self.restart()?;
                    return Err(self.broke("the server sent another range than was asked for"));
                }
            },
            _ => {
                self.restart()?;
                reply.length()
            }
        };
        self.note(&reply, total)?;
        self.receive(&mut reply, total)
    }

    fn note(&mut self, reply: &Reply, total: Option<u64>) -> Result<()> {
        if let (Some(wanted), Some(total)) = (self.wanted.bytes, total)
            && wanted != total
        {
            return Err(self.failed(format!("it has {total} bytes, expected {wanted}")));
        }
        let strong = reply.header("etag").filter(|tag| !tag.starts_with("W/"));
        let validator = strong.or_else(|| reply.header("last-modified")).map(str::to_owned);
        self.notes = Notes { address: self.wanted.ask.address.to_string(), validator, total };
        check_room(&self.folder, self.wanted.label, total.unwrap_or(0).saturating_sub(self.done))?;
        let text = serde_json::to_vec(&self.notes).expect("plain data");
        let name = self.notes_path.file_name().expect("made with a name").to_string_lossy().into_owned();
        write_whole(&self.folder, &name, &text)
    }

    fn receive(&mut self, reply: &mut Reply, total: Option<u64>) -> Result<()> {
        let limit = match total.or(self.wanted.bytes) {
            Some(total) => total,
            None => self.done + free_bytes(&self.folder)?,
        };
        self.file.seek(SeekFrom::Start(self.done)).map_err(Error::io(&self.path))?;
        while let Some(bytes) = reply.next(self.watch)? {
            if self.done + bytes.len() as u64 > limit {
                self.restart()?;
                return Err(self.failed(format!("it sends more than {limit} bytes")));
            }
            self.file.write_all(&bytes).map_err(Error::io(&self.path))?;
            self.hash.update(&bytes);
            self.done += bytes.len() as u64;
            (self.watch.progress)(self.wanted.label, self.done, total.or(self.wanted.bytes));
        }
        match total.or(self.wanted.bytes) {
            Some(total) if self.done < total => {
                self.resumed = true;
                Err(self.broke(&format!("it ended after {} of {total} bytes", self.done)))
            }
            _ => Ok(()),
        }
    }

    fn wrong_digest(&self) -> Option<Error> {
        let found = hex(&self.hash.clone().finalize());
        let expected = self.wanted.sha256.filter(|expected| **expected != found)?;
        Some(Error::Digest { what: self.wanted.ask.address.to_string(), expected: expected.into(), found })
    }

    fn finished(self) -> Result<Finished> {
        self.file.sync_all().map_err(Error::io(&self.path))?;
        Ok(Finished {
            sha256: hex(&self.hash.finalize()),
            bytes: self.done,
            path: self.path,
            notes: self.notes_path,
            _file: self.file,
        })
    }

    fn broke(&self, problem: &str) -> Error {
        self.failed(format!("the transfer broke: {problem}"))
    }

    fn failed(&self, problem: String) -> Error {
        Error::Network { address: self.wanted.ask.address.to_string(), problem }
    }
}

/// Start and whole size that a `Content-Range` names; start is 0 for `bytes */N`.
fn range(reply: &Reply) -> Option<(u64, Option<u64>)> {
    let (range, total) = reply.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let start = if range == "*" { 0 } else { range.split_once('-')?.0.parse().ok()? };
    Some((start, total.parse().ok()))
}

/// The first bytes of a file.
pub fn first_bytes(path: &Path, count: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(count).read_to_end(&mut head).map_err(Error::io(path))?;
    Ok(head)
}
