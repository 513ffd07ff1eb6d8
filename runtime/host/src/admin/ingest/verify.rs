//! Whether an adapter can be served: every tensor read and checked against its backbone before anyone may call it.
//!
//! First the plan, which tells everything that is wrong at once; then the load, which sees every number and gives the
//! content id. Loads are one at a time: a check needs the memory of the adapter it checks.

use super::Staged;
use super::artifacts::Artifacts;
use crate::admin::error::{AdminError, Kind, Result};
use crate::admin::live::Base;
use crate::records::{AdapterRecord, Digest};
use coldframe_backbone::adapter::{Adapter, DryRun, Limits, Room, dry_run};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Checks adapters.
pub struct Verifier {
    artifacts: Arc<Artifacts>,
    limits: Limits,
    one_at_a_time: Semaphore,
}

/// A checked adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Its record.
    pub record: AdapterRecord,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Verifier {
    /// With the loader's bounds.
    pub fn new(artifacts: Arc<Artifacts>, limits: Limits) -> Self {
        Self { artifacts, limits, one_at_a_time: Semaphore::new(1) }
    }

    /// Checks an adapter and puts it in place for loading.
    ///
    /// # Errors
    /// `invalid_adapter`, `incompatible_base`, and what else the loader says, with every problem in `details`.
    pub async fn check(&self, staged: Staged, base: &Base, wanted: Option<&str>) -> Result<Verified> {
        let files: BTreeMap<String, Digest> =
            staged.files.iter().map(|(name, file)| (name.clone(), file.digest.clone())).collect();
        let draft = self.artifacts.draft(&files).await?;
        let _turn = self.one_at_a_time.acquire().await.expect("never closed");
        let (path, base, mut limits) = (draft.path(), base.clone(), self.limits.clone());
        limits.base_names.extend(base.names.iter().cloned());
        let checked = tokio::task::spawn_blocking(move || load(&path, &base, &limits)).await;
        let loaded = checked.map_err(|_| AdminError::internal("the loader failed on this adapter"))??;
        if wanted.is_some_and(|wanted| wanted != loaded.generation) {
            let problem = format!("this adapter's content id is {}", loaded.generation);
            return Err(
                AdminError::new(Kind::Unprocessable, "digest_mismatch", problem).about("adapters.generation")
            );
        }
        draft.keep(&loaded.generation)?;
        let disk_bytes = staged.files.values().map(|file| file.bytes).sum();
        let record = AdapterRecord {
            name: staged.name,
            generation: loaded.generation,
            files,
            kind: loaded.kind.to_owned(),
            rank: loaded.rank,
            disk_bytes,
            memory_bytes: loaded.memory_bytes,
            source: staged.source,
        };
        Ok(Verified { record, warnings: loaded.warnings })
    }
}

struct Loaded {
    generation: Digest,
    kind: &'static str,
    rank: u32,
    memory_bytes: u64,
    warnings: Vec<String>,
}

fn load(path: &Path, base: &Base, limits: &Limits) -> Result<Loaded> {
    let plan = dry_run(path, base.weights.config(), limits, Room::ANY);
    if !plan.fits {
        return Err(problems(&plan));
    }
    let adapter = Adapter::load(path, &*base.weights, limits)?;
    Ok(Loaded {
        generation: adapter.generation().to_string(),
        kind: adapter.kind(),
        rank: u32::try_from(adapter.rank_max()).unwrap_or(u32::MAX),
        memory_bytes: adapter.bytes(),
        warnings: adapter.warnings().to_vec(),
    })
}

/// The first problem says which kind of refusal it is; all of them go along.
fn problems(plan: &DryRun) -> AdminError {
    let first = plan.problems.first();
    let (kind, code) = match first.map(|problem| problem.code) {
        Some("incompatible_base") => (Kind::Conflict, "incompatible_base"),
        Some("forbidden_file") => (Kind::Unsupported, "forbidden_file"),
        Some("too_large") => (Kind::TooLarge, "lora_adapter_file_too_large"),
        Some("no_room") => (Kind::Conflict, "lora_byte_limit_exceeded"),
        _ => (Kind::Invalid, "invalid_adapter"),
    };
    let text = first.map_or_else(String::new, |problem| format!("{}: {}", problem.place, problem.problem));
    AdminError::new(kind, code, text).with(serde_json::json!({"problems": plan.problems}))
}
