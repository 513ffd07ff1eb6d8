//! The page cache: files dropped from it, and whether what followed really came from the disk.
//!
//! The system may keep pages (another process maps them, the folder is in memory), so a "cold" time counts only when the
//! process's own read counter says that the bytes came from storage.

use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Share of the bytes that must have come from storage for a read to count as cold: arbitrary, leaves room for what
/// others read at the same time.
const COLD_SHARE: f64 = 0.9;

/// Writes a file back and asks for its pages to be dropped.
pub fn drop_file(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.sync_all().with_context(|| format!("cannot write back {}", path.display()))?;
    // Advice: a refusal shows in what is read afterwards.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// The same for every file of a folder.
pub fn drop_folder(folder: &Path) -> Result<()> {
    files(folder)?.iter().try_for_each(|path| drop_file(path))
}

/// Plain files of a folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

/// Bytes of a folder's files.
pub fn bytes_of(folder: &Path) -> Result<u64> {
    files(folder)?.iter().map(|path| Ok(path.metadata()?.len())).sum()
}

/// Bytes that this process has had read from storage so far; `None` where the system does not tell.
pub fn read_so_far() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

/// Whether reads between two counts took at least nearly all of `bytes` from storage.
pub fn was_cold(before: Option<u64>, after: Option<u64>, bytes: u64) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    after.saturating_sub(before) as f64 >= bytes as f64 * COLD_SHARE
}

#[cfg(test)]
mod tests {
    use super::was_cold;

    #[test]
    fn only_bytes_from_storage_are_cold() {
        assert!(was_cold(Some(10), Some(1010), 1000));
        assert!(was_cold(Some(0), Some(950), 1000));
        assert!(!was_cold(Some(0), Some(800), 1000));
        assert!(!was_cold(None, Some(5000), 1000));
    }
}
