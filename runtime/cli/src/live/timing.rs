//! `Server-Timing`: the phases that a host tells, by name.

use std::collections::BTreeMap;

/// Nanoseconds by name of a header's entries (`adapter;dur=12.5, prefill;dur=3`); durations are milliseconds. Entries
/// without one are left out; two of one name add up. Where the host says that the call was warm (`cold;desc="warm"`), what
/// it spent on looking at what was in place is no load: only the phases that every call has are kept.
pub fn phases(header: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut warm = false;
    for entry in header.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let Some(name) = parts.next().filter(|name| !name.is_empty()) else { continue };
        warm |= name == "cold" && entry.contains("desc=\"warm\"");
        let duration = parts.find_map(|part| part.strip_prefix("dur=")).and_then(|ms| ms.parse::<f64>().ok());
        if let Some(ms) = duration.filter(|ms| ms.is_finite() && *ms >= 0.0) {
            *all.entry(name.to_owned()).or_insert(0) += (ms * 1e6) as u64;
        }
    }
    if warm {
        all.retain(|name, _| matches!(name.as_str(), "prepare" | "parked" | "queue" | "prefill"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::phases;

    #[test]
    fn entries_with_durations_count() {
        let found =
            phases("parked;dur=1.5, adapter_read;desc=\"cold\";dur=20,cache, prefill;dur=x, parked;dur=0.5");
        let wanted = [("adapter_read".to_owned(), 20_000_000), ("parked".to_owned(), 2_000_000)];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), wanted);
        assert!(phases("").is_empty());
    }

    #[test]
    fn a_warm_call_loaded_nothing() {
        let told = "cold;desc=\"warm\", ttft;dur=9, adapter_load;dur=0.01, module;dur=0.02, prefill;dur=8";
        assert_eq!(phases(told).into_keys().collect::<Vec<_>>(), ["prefill"]);
        assert_eq!(phases(&told.replace("warm", "disk")).len(), 4);
    }
}
