//! Usage, residency, audit; backup and the collection of what nothing refers to.

use super::action::{Page, RowsQuery, UsageQuery};
use super::error::{AdminError, Result};
use super::idempotency::{self, Kept};
use super::records::AuditLine;
use super::reply::{Collected, Done, File, List, Reply};
use super::{Admin, Principal, Terms, names, now_ms, parsed, tenants_of};
use crate::meter::export::{self, Format};
use crate::records::{Digest, Scope};
use std::collections::BTreeSet;
use std::time::Duration;

/// Blobs that were stored less long ago are kept: a registration may be under way.
const AGE: Duration = Duration::from_secs(3600);

impl Admin {
    pub(super) async fn usage(&self, who: &Principal, mut query: UsageQuery) -> Result<Done> {
        // An operator who names no tenant means all: that is whose bill it is.
        query.tenant = self.view(who, query.tenant.as_deref())?;
        checked(query.function.as_deref(), query.from_ms.zip(query.to_ms))?;
        let rows = self.books.usage(&query).await?;
        Ok(Done::of(Reply::Usage(List::whole(rows))))
    }

    pub(super) async fn rows(&self, who: &Principal, mut query: RowsQuery) -> Result<Done> {
        query.tenant = self.view(who, query.tenant.as_deref())?;
        checked(query.function.as_deref(), query.from_ms.zip(query.to_ms))?;
        let rows = self.books.rows(&query).await?;
        let (table, format) = (query.table, query.format);
        let written = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            export::write(table, format, &rows, &mut out).map(|()| out)
        });
        let written = written.await.map_err(|error| AdminError::internal(error.to_string()))?;
        let bytes = written.map_err(|error| AdminError::internal(error.to_string()))?.into();
        let media = match format {
            Format::Csv => "text/csv; charset=utf-8",
            Format::Parquet => "application/vnd.apache.parquet",
        };
        Ok(Done::of(Reply::File(File { media, bytes })))
    }

    pub(super) async fn residency(&self, who: &Principal, tenant: Option<&str>) -> Result<Done> {
        let tenant = self.view(who, tenant)?;
        Ok(Done::of(Reply::Data(self.live.residency(tenant.as_deref()).await?)))
    }

    pub(super) async fn overview(&self, who: &Principal) -> Result<Done> {
        let tenant = self.view(who, None)?;
        Ok(Done::of(Reply::Data(self.live.overview(tenant.as_deref()).await?)))
    }

    /// What of the machine a caller sees: operators all of it, tenants their own.
    fn view(&self, who: &Principal, tenant: Option<&str>) -> Result<Option<String>> {
        match (tenant, who.scope) {
            (None, Scope::Operator) => Ok(None),
            (asked, _) => tenants_of(who, asked),
        }
    }

    pub(super) async fn audit(&self, who: &Principal, tenant: Option<&str>, page: &Page) -> Result<Done> {
        let tenant = self.view(who, tenant)?;
        let size = super::functions::page_size(page.limit)?;
        let list = format!("audit {}", tenant.as_deref().unwrap_or("*"));
        let before = page.cursor.as_deref().map(|cursor| self.cursors.take(&list, cursor)).transpose()?;
        let before = before.and_then(|before| before.parse().ok());
        let mut data = self.books.audit(tenant.as_deref(), before, size + 1).await?;
        let more = data.len() > size;
        data.truncate(size);
        let next = data.last().filter(|_| more).map(|row| self.cursors.give(&list, &row.number.to_string()));
        Ok(Done::of(Reply::Audit(List { object: "list", data, next })))
    }

    /// Leaves a line about a change. The change stands whether or not the line could be written.
    pub(super) async fn note(
        &self,
        who: &Principal,
        action: &'static str,
        target: String,
        tenant: Option<String>,
        terms: &Terms,
        outcome: &Result<Done>,
    ) {
        let line = AuditLine {
            at_ms: now_ms(),
            // A name that is none, or not the caller's, is not worth a tenant's own log.
            tenant: tenant
                .filter(|tenant| who.scope == Scope::Operator && names::tenant(tenant).is_ok())
                .unwrap_or_else(|| who.tenant.clone()),
            key: who.key.clone(),
            scope: who.scope,
            action: action.to_owned(),
            target: target.chars().take(200).flat_map(char::escape_default).collect(),
            outcome: outcome.as_ref().map_or_else(|error| error.code, |_| "ok").to_owned(),
            revision: outcome.as_ref().ok().and_then(|done| done.revision),
            request_id: terms.request_id.clone(),
        };
        tracing::info!(
            tenant = line.tenant,
            key = line.key,
            action,
            target = line.target,
            outcome = line.outcome,
            request_id = line.request_id,
            "audit"
        );
        if let Err(error) = self.books.note(line).await {
            tracing::error!(%error, action, "a line of the audit log could not be written");
        }
    }

    pub(super) async fn backup(&self, name: &str) -> Result<Done> {
        names::function(name).map_err(|error| error.about("name"))?;
        let report = self.books.backup(self.backups.join(name)).await?;
        Ok(Done { made: true, ..Done::of(Reply::Data(report)) })
    }

    pub(super) async fn collect(&self, age: Option<Duration>) -> Result<Done> {
        let idempotency_keys_removed = self.forget().await?;
        let (mut blobs, mut adapters) = (BTreeSet::<Digest>::new(), BTreeSet::<Digest>::new());
        for function in self.every_function("function/").await? {
            for generation in function.generations {
                blobs.extend(generation.module.map(|module| module.digest));
                for adapter in generation.adapters {
                    blobs.extend(adapter.files.into_values());
                    adapters.insert(adapter.generation);
                }
            }
        }
        let keep: Vec<Digest> = blobs.into_iter().collect();
        let removed = self.blobs.delete_unreferenced(&keep, age.unwrap_or(AGE)).await?;
        let folders_removed = match removed.is_empty() {
            // Folders are links: without a blob gone they hold no bytes of their own, and one may be about to be named.
            true => 0,
            false => self
                .artifacts
                .clean(&adapters)
                .map_err(|error| AdminError::internal(format!("the folder of adapters: {error}")))?,
        };
        let (bytes_kept, blobs_kept) = self.blobs.usage().await?;
        Ok(Done::of(Reply::Collected(Collected {
            blobs_removed: removed.len(),
            blobs_kept,
            bytes_kept,
            folders_removed,
            idempotency_keys_removed,
        })))
    }

    /// Drops answers that were kept long enough.
    async fn forget(&self) -> Result<usize> {
        let old = now_ms().saturating_sub(u64::try_from(idempotency::KEPT.as_millis()).unwrap_or(u64::MAX));
        let (mut removed, mut after) = (0, None::<String>);
        loop {
            let records = self.registry.list(idempotency::PREFIX, after.as_deref(), 1000).await?;
            let Some(last) = records.last() else { return Ok(removed) };
            after = Some(last.key.clone());
            for record in records {
                let kept: Kept = parsed(&record.key, record.value)?;
                if kept.at_ms < old {
                    self.registry.delete(&record.key, record.revision, &super::random_hex(16)?).await?;
                    removed += 1;
                }
            }
        }
    }
}

fn checked(function: Option<&str>, span: Option<(u64, u64)>) -> Result<()> {
    if let Some(function) = function {
        names::function(function)?;
    }
    if span.is_some_and(|(from, to)| from > to) {
        return Err(AdminError::invalid("to", "it ends before it begins"));
    }
    Ok(())
}
