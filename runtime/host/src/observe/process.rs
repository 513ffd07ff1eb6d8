//! The process itself, under the names that every Prometheus client uses. Read from `/proc`; absent where there is none.

use super::text::{Kind, Page};

/// Ticks of a second in `/proc/self/stat`: fixed for programs on Linux, whatever the kernel's own rate.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a kibibyte.
const KIB: f64 = 1024.0;

/// Writes what there is.
pub(super) fn write(page: &mut Page, started_s: f64) {
    page.gauge("process_start_time_seconds", "When the server started, seconds since 1970.", started_s);
    if let Some(bytes) = resident() {
        page.gauge("process_resident_memory_bytes", "Memory of the process, mapped weights included.", bytes);
    }
    if let Some(seconds) = cpu() {
        page.family("process_cpu_seconds_total", Kind::Counter, "CPU time of the process.")
            .value(&[], seconds);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open files and sockets.", open.count() as f64);
    }
}

fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * KIB)
}

fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; user and system time are the 12th and 13th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_S)
}
