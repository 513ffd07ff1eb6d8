//! `coldframe doctor`: what this machine is like to run a backbone on, what will be slow and why, and the store's health.

use super::machine::Machine;
use super::{HomeArg, columns, size};
use crate::ui::{Ui, print};
use anyhow::{Result, bail};
use clap::Args;
use coldframe_backbone::store::{Health, Store};
use serde::Serialize;

/// Say what will be slow on this machine, and why
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe doctor
  coldframe doctor --json

Words: ok, note (worth knowing), warn (something will be slow or fail), bad (nothing will run; exit code 1).")]
pub struct DoctorArgs {
    #[command(flatten)]
    home: HomeArg,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Ok,
    Note,
    Warn,
    Bad,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    word: Word,
    topic: &'static str,
    fact: String,
    advice: Option<String>,
}

fn ok(topic: &'static str, fact: impl Into<String>) -> Finding {
    Finding { word: Word::Ok, topic, fact: fact.into(), advice: None }
}

fn told(word: Word, topic: &'static str, fact: impl Into<String>, advice: &str) -> Finding {
    Finding { word, topic, fact: fact.into(), advice: Some(advice.to_owned()) }
}

/// Runs the command.
pub fn run(args: DoctorArgs, ui: &Ui) -> Result<()> {
    let store = args.home.store()?;
    let machine = Machine::here();
    let mut findings = processor(&machine);
    findings.extend(memory(&machine));
    findings.extend(limits(&machine));
    let health = store.health()?;
    findings.extend(disk(&store, &machine, &health));
    if ui.json {
        let all = serde_json::json!({
            "findings": findings, "machine": machine, "store": health, "home": store.root(),
            "kernels": coldframe_backbone::kernels::features().tier,
        });
        print(&(serde_json::to_string_pretty(&all)? + "\n"))?;
    } else {
        print(&table(&findings))?;
    }
    if findings.iter().any(|finding| finding.word == Word::Bad) {
        bail!("a backbone cannot run here: see the lines marked bad");
    }
    Ok(())
}

fn table(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let advice = finding.advice.as_ref().map(|advice| format!(" — {advice}")).unwrap_or_default();
        let word = format!("{:?}", finding.word).to_lowercase();
        [word, finding.topic.to_owned(), format!("{}{advice}", finding.fact)]
    };
    columns(&findings.iter().map(row).collect::<Vec<_>>())
}

fn processor(machine: &Machine) -> Vec<Finding> {
    let features = coldframe_backbone::kernels::features();
    let flags = if features.flags.is_empty() { "none".into() } else { features.flags.join(" ") };
    let kernels = format!("{} (of {flags})", features.tier);
    let mut findings = vec![ok("cpu", machine.cpu.clone().unwrap_or_else(|| "not named".into()))];
    findings.push(match features.tier {
        "avx512-vnni" | "avx-vnni" => ok("kernels", kernels),
        "avx2" => {
            told(Word::Note, "kernels", kernels, "no integer dot products: quantised weights run slower")
        }
        _ => told(Word::Warn, "kernels", kernels, "plain code runs many times slower than AVX2"),
    });
    let count = |count: Option<usize>| count.map_or("?".to_owned(), |count| count.to_string());
    let quota = machine.cpu_quota.map(|cpus| format!(", quota {cpus:.2} CPUs")).unwrap_or_default();
    let threads = format!(
        "{} usable ({} online, {} allowed, {} cores{quota})",
        machine.threads_usable(),
        count(machine.threads_online),
        count(machine.threads_allowed),
        count(machine.cores),
    );
    let throttled =
        machine.cpu_quota.is_some_and(|cpus| machine.threads_allowed.is_some_and(|n| cpus < n as f64));
    findings.push(if throttled {
        told(Word::Note, "threads", threads, "the quota is below the threads: more than usable get throttled")
    } else {
        ok("threads", threads)
    });
    if let Some(governor) = machine.governor.as_deref().filter(|governor| *governor == "powersave") {
        let advice = "the clock may rise late: `performance` steadies latencies";
        findings.push(told(Word::Note, "governor", governor, advice));
    }
    findings
}

/// Memory below which not even a small model and its KV pages fit.
const MEMORY_LEAST: u64 = 256 << 20;

fn memory(machine: &Machine) -> Vec<Finding> {
    let bytes = |bytes: Option<u64>| bytes.map_or("?".to_owned(), size);
    let group = machine.memory_limit.map(|limit| format!(", control group allows {}", size(limit)));
    let fact = format!(
        "{} usable of {}{}",
        bytes(machine.memory_usable()),
        bytes(machine.memory_total),
        group.unwrap_or_default()
    );
    let mut findings = vec![if machine.memory_usable().is_some_and(|usable| usable < MEMORY_LEAST) {
        told(Word::Bad, "memory", fact, "less than 256 MiB holds no model with its KV pages")
    } else {
        ok("memory", fact)
    }];
    findings.push(match machine.huge_pages.as_deref() {
        Some(setting @ ("always" | "madvise")) => ok("huge pages", setting),
        Some(setting) => told(
            Word::Note,
            "huge pages",
            setting,
            "KV pages use 4 kB pages: more misses of the address cache",
        ),
        None => told(Word::Note, "huge pages", "not told", "the kernel shows no setting"),
    });
    findings.push(match machine.overcommit {
        Some(2) => {
            told(Word::Note, "overcommit", "never", "maps of models are charged; large pools may be refused")
        }
        Some(1) => ok("overcommit", "always"),
        _ => ok("overcommit", "heuristic"),
    });
    findings
}

/// Open files below which a server with many adapters and connections runs out: arbitrary.
const FILES_LEAST: u64 = 4096;

fn limits(machine: &Machine) -> Vec<Finding> {
    let shown = |limit: u64| if limit == u64::MAX { "no limit".to_owned() } else { size(limit) };
    let locked = machine.locked_memory_max.map(|limit| match limit {
        u64::MAX => ok("locked memory", "no limit"),
        limit => told(
            Word::Note,
            "locked memory",
            shown(limit),
            "a larger model cannot be locked: it may be paged out",
        ),
    });
    let files = machine.open_files_max.map(|files| match files {
        u64::MAX => ok("open files", "no limit"),
        files if files >= FILES_LEAST => ok("open files", files.to_string()),
        files => told(
            Word::Note,
            "open files",
            files.to_string(),
            "raise it (ulimit -n) to serve many connections",
        ),
    });
    locked.into_iter().chain(files).collect()
}

/// Room below which a small model and its pack do not fit.
const DISK_LEAST: u64 = 1 << 30;

fn disk(store: &Store, machine: &Machine, health: &Health) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = store.root();
    match store.free_bytes() {
        Ok(free) if free < DISK_LEAST => {
            let fact = format!("{} free at {}", size(free), root.display());
            findings.push(told(Word::Warn, "disk", fact, "a small model and its pack take up to 1 GB"));
        }
        Ok(free) => findings.push(ok("disk", format!("{} free at {}", size(free), root.display()))),
        Err(error) => findings.push(told(Word::Note, "disk", error.to_string(), "its room is not known")),
    }
    findings.push(match health.backbones {
        0 => told(Word::Note, "models", "none", "get one: coldframe backbone pull smollm2-135m-instruct"),
        count => {
            ok("models", format!("{count}, packs: {} ({})", health.packs.files, size(health.packs.bytes)))
        }
    });
    let reread = health.unreadable.iter().map(|problem| ("manifests", problem.clone()));
    let gone = health.missing.iter().map(|file| ("files", format!("{file} is missing or cut short")));
    findings.extend(
        reread.chain(gone).map(|(topic, fact)| told(Word::Warn, topic, fact, "pull the model again")),
    );
    if health.orphans.files > 0 {
        let fact =
            format!("{} files, {}, that no model names", health.orphans.files, size(health.orphans.bytes));
        findings.push(told(Word::Note, "left over", fact, "any `coldframe backbone rm` removes them"));
    }
    if health.partials.files > 0 {
        let fact = format!("{} downloads, {}", health.partials.files, size(health.partials.bytes));
        findings.push(told(
            Word::Note,
            "unfinished",
            fact,
            "the same pull resumes them; after a week they are swept",
        ));
    }
    if let (Some(usable), Ok(largest)) = (machine.memory_usable(), store.largest())
        && largest > usable
    {
        let fact = format!("the largest model has {}, usable memory {}", size(largest), size(usable));
        findings.push(told(Word::Warn, "model size", fact, "it would be read from disk again and again"));
    }
    findings
}
