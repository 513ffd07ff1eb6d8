//! Errors about names: what was asked for, the nearest there is, and all there is; and names that are no files.

use anyhow::bail;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// The nearest known name, if any is near.
pub fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(wrong, k), *k));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // 0.7 keeps typing slips and drops unrelated words: arbitrary.
    (best.0 > 0.7).then_some(best.1)
}

/// "unknown … `x` — did you mean `y`? There are: …"
pub fn unknown(what: &str, wrong: &str, known: &[&str]) -> String {
    let hint = nearest(wrong, known).map(|n| format!(" — did you mean `{n}`?")).unwrap_or_default();
    format!("{what}: there is no `{wrong}`{hint}\nthere are: {}", known.join(", "))
}

/// Refuses what can't be read twice: a trace is read once for its hash and once for each run.
pub fn regular_file(path: &Path) -> anyhow::Result<()> {
    // What is missing gets its own message where it is opened.
    let Ok(what) = std::fs::metadata(path) else { return Ok(()) };
    if what.is_dir() {
        bail!("{} is a folder; name one trace file", path.display());
    }
    if !what.is_file() {
        bail!(
            "{} is a pipe or a device; traces are read more than once, so save it to a file first",
            path.display()
        );
    }
    Ok(())
}

/// The value of `--data`; an empty COLDFRAME_DATA is one that is not set.
pub fn data_value(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

/// The folder with the public data, if one is named; it must be there.
pub fn data_folder(named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    if !path.is_dir() {
        bail!(
            "{} is no folder: set COLDFRAME_DATA (or --data) to the folder that holds traces/",
            path.display()
        );
    }
    Ok(Some(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest() {
        let known = ["vllm", "serverlessllm", "serverlesslora"];
        assert_eq!(nearest("serverlesslara", &known), Some("serverlesslora"));
        assert_eq!(nearest("zzz", &known), None);
        assert!(unknown("--policy", "vlm", &known).contains("did you mean `vllm`?"));
    }
}
