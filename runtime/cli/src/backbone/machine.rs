//! The facts of a machine that decide how fast a backbone runs on it, as Linux tells them.
//!
//! Everything is read from /proc and /sys; what is not there is `None`, never a guess.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: Option<String>,
    /// Instruction sets that the kernels use, those that are there.
    pub features: Vec<String>,
    /// Hardware threads that are online.
    pub threads_online: Option<usize>,
    /// Hardware threads this process may run on.
    pub threads_allowed: Option<usize>,
    /// Cores behind the threads that are online.
    pub cores: Option<usize>,
    /// CPUs' worth of time that the control group allows.
    pub cpu_quota: Option<f64>,
    /// Bytes.
    pub memory_total: Option<u64>,
    /// Bytes that can be had without swapping.
    pub memory_available: Option<u64>,
    /// Bytes the control group allows.
    pub memory_limit: Option<u64>,
    /// Bytes the control group has used.
    pub memory_used: Option<u64>,
    /// Swap, bytes.
    pub swap_total: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Transparent huge pages of shared memory and files.
    pub huge_pages_shared: Option<String>,
    /// Overcommit: 0 heuristic, 1 always, 2 never.
    pub overcommit: Option<u32>,
    /// Soft limit of locked memory, bytes; `u64::MAX` for none.
    pub locked_memory_max: Option<u64>,
    /// Soft limit of open files.
    pub open_files_max: Option<u64>,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
}

impl Machine {
    /// Looks at this machine.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let status = read("/proc/self/status").map(|text| pairs(&text)).unwrap_or_default();
        let memory = read("/proc/meminfo").map(|text| pairs(&text)).unwrap_or_default();
        let kilobytes =
            |key: &str| Some(memory.get(key)?.split(' ').next()?.parse::<u64>().ok()?.saturating_mul(1024));
        let limits = read("/proc/self/limits").unwrap_or_default();
        let cpus = read("/proc/cpuinfo").unwrap_or_default();
        let group = Group::of(&read("/proc/self/cgroup").unwrap_or_default(), Path::new("/sys/fs/cgroup"));
        Self {
            cpu: pairs(&cpus).get("model name").cloned(),
            features: features(),
            threads_online: read("/sys/devices/system/cpu/online").and_then(|text| counted(&text)),
            threads_allowed: status.get("Cpus_allowed_list").and_then(|text| counted(text)),
            cores: cores(&cpus),
            cpu_quota: group.cpu_quota,
            memory_total: kilobytes("MemTotal"),
            memory_available: kilobytes("MemAvailable"),
            memory_limit: group.memory_limit,
            memory_used: group.memory_used,
            swap_total: kilobytes("SwapTotal"),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
            huge_pages_shared: read("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
                .and_then(|text| chosen(&text)),
            overcommit: read("/proc/sys/vm/overcommit_memory").and_then(|text| text.trim().parse().ok()),
            locked_memory_max: limit(&limits, "Max locked memory"),
            open_files_max: limit(&limits, "Max open files"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .map(|text| text.trim().to_owned()),
        }
    }

    /// Threads that can run at once: the fewest of what is allowed, what is there, and the quota rounded up.
    pub fn threads_usable(&self) -> usize {
        let quota = self.cpu_quota.map(|cpus| cpus.ceil() as usize);
        let counts = [self.threads_allowed, self.threads_online, quota].into_iter().flatten();
        counts.min().unwrap_or(1).max(1)
    }

    /// Bytes that can be had: what is available, or what the control group leaves.
    pub fn memory_usable(&self) -> Option<u64> {
        let group = self.memory_limit.map(|limit| limit.saturating_sub(self.memory_used.unwrap_or(0)));
        [self.memory_available, group].into_iter().flatten().min()
    }
}

/// Limits of a control group, version 2 or 1, its parents' included.
#[derive(Debug, Default, PartialEq)]
struct Group {
    cpu_quota: Option<f64>,
    memory_limit: Option<u64>,
    memory_used: Option<u64>,
}

impl Group {
    fn of(lines: &str, root: &Path) -> Self {
        let mut group = Self::default();
        for line in lines.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else { continue };
            let path = path.trim_start_matches('/');
            let folder = if kinds.is_empty() { root.to_owned() } else { root.join(kinds) };
            // Inside a container the path names a folder that is mounted as the root.
            let own = folder.join(path);
            for place in own.ancestors().take_while(|place| place.starts_with(&folder)) {
                group.look(place);
            }
        }
        group
    }

    fn look(&mut self, place: &Path) {
        let read = |name: &str| fs::read_to_string(place.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let two = read("cpu.max").and_then(|text| quota(&text));
        let one = || {
            let quota = read("cpu.cfs_quota_us")?.trim().parse::<f64>().ok().filter(|quota| *quota > 0.0)?;
            Some(quota / number("cpu.cfs_period_us")? as f64)
        };
        if let Some(found) = two.or_else(one) {
            self.cpu_quota = Some(self.cpu_quota.map_or(found, |known| known.min(found)));
        }
        // Version 1 writes a huge number for no limit.
        let limit =
            number("memory.max").or_else(|| number("memory.limit_in_bytes")).filter(|&limit| limit < 1 << 60);
        if let Some(limit) = limit.filter(|&limit| self.memory_limit.is_none_or(|known| limit < known)) {
            self.memory_limit = Some(limit);
            self.memory_used = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
        }
    }
}

/// `"150000 100000"` is one and a half CPUs; `"max 100000"` no quota.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|period| *period > 0.0)?)
}

/// `key : value` lines; the first of a key counts.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        all.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
    }
    all
}

/// How many a list like `0-3,8` names.
fn counted(list: &str) -> Option<usize> {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?).map(|more| more + 1)
    };
    list.trim().split(',').map(count).sum()
}

/// Different pairs of socket and core in /proc/cpuinfo.
fn cores(cpuinfo: &str) -> Option<usize> {
    let processors = cpuinfo.split("\n\n").map(pairs);
    let places =
        processors.filter_map(|one| Some((one.get("physical id")?.clone(), one.get("core id")?.clone())));
    Some(places.collect::<std::collections::BTreeSet<_>>().len()).filter(|&count| count > 0)
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// The soft limit of a line of /proc/self/limits.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn features() -> Vec<String> {
    coldframe_backbone::kernels::features().flags.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_linux() {
        assert_eq!(counted("0-3,8\n"), Some(5));
        assert_eq!(counted("x"), None);
        assert_eq!(quota("150000 100000"), Some(1.5));
        assert_eq!(quota("max 100000"), None);
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        let limits = "Limit  Soft Limit\nMax locked memory         unlimited            unlimited            bytes\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(limit(limits, "Max locked memory"), Some(u64::MAX));
        assert_eq!(limit(limits, "Max open files"), Some(1024));
        assert_eq!(cores("physical id : 0\ncore id : 0\n\nphysical id : 0\ncore id : 0\n"), Some(1));
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("made");
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).expect("written");
        write("a/cpu.max", "200000 100000");
        write("a/b/cpu.max", "max 100000");
        write("a/memory.max", "1000");
        write("a/memory.current", "400");
        write("a/b/memory.max", "5000");
        let group = Group::of("0::/a/b\n", root.path());
        let expected = Group { cpu_quota: Some(2.0), memory_limit: Some(1000), memory_used: Some(400) };
        assert_eq!(group, expected);
    }
}
