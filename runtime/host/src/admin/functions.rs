//! Functions: lists, one of them, its generations; removing, pinning, warming, sleeping, logs.

use super::action::{At, Page};
use super::change::Edit;
use super::error::{AdminError, Kind, Result};
use super::reply::{Done, FunctionLine, FunctionView, List, Removed, Reply};
use super::{Admin, Principal, Terms, names, now_ms, parsed, tenant_of, tenants_of};
use crate::records::{Function, Generation, Names};
use crate::store::{Read, Revision, Versioned};

/// The alias that a bare name means.
pub const LIVE: &str = "live";

/// Entries of a page where the caller names no number.
const PAGE: usize = 100;
/// Entries of a page at most.
const PAGE_MAX: usize = 1000;

/// Key of a function's record.
pub fn key(names: &Names) -> String {
    format!("function/{}/{}", names.tenant, names.function)
}

/// How many entries a page has.
///
/// # Errors
/// `invalid_request` for 0 and past the bound.
pub fn page_size(limit: Option<usize>) -> Result<usize> {
    match limit.unwrap_or(PAGE) {
        size @ 1..=PAGE_MAX => Ok(size),
        _ => Err(AdminError::invalid("limit", format!("a page has 1 to {PAGE_MAX} entries"))),
    }
}

impl Admin {
    /// The function that a caller names, in the caller's reach.
    pub(super) fn named(&self, who: &Principal, at: &At) -> Result<Names> {
        names::function(&at.function)?;
        Ok(Names { tenant: tenant_of(who, at.tenant.as_deref())?, function: at.function.clone() })
    }

    pub(super) async fn found(&self, who: &Principal, at: &At) -> Result<(Function, Revision)> {
        let names = self.named(who, at)?;
        self.read(&key(&names)).await?.ok_or_else(|| AdminError::absent("function"))
    }

    /// A page of records below `prefix`; `list` names it for its cursors.
    pub(super) async fn page(
        &self,
        list: &str,
        prefix: &str,
        page: &Page,
    ) -> Result<(Vec<Versioned>, Option<String>)> {
        let size = page_size(page.limit)?;
        let after = page.cursor.as_deref().map(|cursor| self.cursors.take(list, cursor)).transpose()?;
        let mut records = self.registry.list(prefix, after.as_deref(), size + 1).await?;
        let more = records.len() > size;
        records.truncate(size);
        let last = records.last().filter(|_| more);
        let next = last.map(|record| self.cursors.give(list, &record.key));
        Ok((records, next))
    }

    pub(super) async fn functions(&self, who: &Principal, tenant: Option<&str>, page: &Page) -> Result<Done> {
        let prefix = match tenants_of(who, tenant)? {
            Some(tenant) => format!("function/{tenant}/"),
            None => "function/".to_owned(),
        };
        let (records, next) = self.page(&format!("functions {prefix}"), &prefix, page).await?;
        let lines = records.into_iter().map(|record| {
            let revision = record.revision;
            Ok(line(parsed(&record.key, record.value)?, revision))
        });
        let data = lines.collect::<Result<_>>()?;
        Ok(Done::of(Reply::Functions(List { object: "list", data, next })))
    }

    pub(super) async fn function(&self, who: &Principal, at: &At) -> Result<Done> {
        let (function, revision) = self.found(who, at).await?;
        Ok(shown(function, revision))
    }

    /// Generations are few (a function has one for each deployment), so that a page is cut from all of them.
    pub(super) async fn generations(&self, who: &Principal, at: &At, page: &Page) -> Result<Done> {
        let (function, revision) = self.found(who, at).await?;
        let size = page_size(page.limit)?;
        let list = format!("generations {}", key(&function.names));
        let after = page.cursor.as_deref().map(|cursor| self.cursors.take(&list, cursor)).transpose()?;
        let newest = function.generations.into_iter().rev();
        let mut rest: Vec<Generation> = match after {
            Some(after) => newest.skip_while(|generation| generation.id != after).skip(1).collect(),
            None => newest.collect(),
        };
        let more = rest.len() > size;
        rest.truncate(size);
        let next = rest.last().filter(|_| more).map(|last| self.cursors.give(&list, &last.id));
        Ok(Done::of(Reply::Generations(List { object: "list", data: rest, next })).at(revision))
    }

    pub(super) async fn generation(&self, who: &Principal, at: &At, id: &str) -> Result<Done> {
        let (function, _) = self.found(who, at).await?;
        let found = function.generations.into_iter().find(|generation| generation.id == id);
        let found = found.ok_or_else(|| AdminError::absent("generation"))?;
        Ok(Done::of(Reply::Generation(Box::new(found))))
    }

    pub(super) async fn remove_function(&self, who: &Principal, at: &At, terms: &Terms) -> Result<Done> {
        let names = self.named(who, at)?;
        let changed = self
            .change::<Function, ()>(&key(&names), terms, |found| match found {
                Some(_) => Ok(Edit::Delete(())),
                None => Err(AdminError::absent("function")),
            })
            .await?;
        let removed = Removed { object: "function", id: names.function, deleted: true };
        Ok(Done::of(Reply::Removed(removed)).at(changed.revision))
    }

    pub(super) async fn pin(&self, who: &Principal, at: &At, pinned: bool, terms: &Terms) -> Result<Done> {
        self.edit(who, at, terms, |function| {
            function.pinned = pinned;
            Ok(())
        })
        .await
    }

    /// Changes a function that must be there; nothing is written where nothing changes.
    pub(super) async fn edit(
        &self,
        who: &Principal,
        at: &At,
        terms: &Terms,
        mut change: impl FnMut(&mut Function) -> Result<()>,
    ) -> Result<Done> {
        let names = self.named(who, at)?;
        let changed = self
            .change::<Function, Function>(&key(&names), terms, |found| {
                let before = found.ok_or_else(|| AdminError::absent("function"))?;
                let mut after = before.clone();
                change(&mut after)?;
                if after == before {
                    return Ok(Edit::Keep(before));
                }
                after.updated_ms = now_ms();
                Ok(Edit::Put(after.clone(), after))
            })
            .await?;
        Ok(shown(changed.value, changed.revision))
    }

    pub(super) async fn prewarm(&self, who: &Principal, at: &At) -> Result<Done> {
        let (function, revision) = self.found(who, at).await?;
        self.live.prewarm(&function.names).await?;
        Ok(shown(function, revision))
    }

    pub(super) async fn sleep(&self, who: &Principal, at: &At, level: u8) -> Result<Done> {
        if !(1..=2).contains(&level) {
            return Err(AdminError::invalid("level", "1 keeps host memory, 2 keeps the disk only"));
        }
        let (function, revision) = self.found(who, at).await?;
        self.live.sleep(&function.names, level).await?;
        Ok(shown(function, revision))
    }

    pub(super) async fn wake(&self, who: &Principal, at: &At) -> Result<Done> {
        let (function, revision) = self.found(who, at).await?;
        self.live.wake(&function.names).await?;
        Ok(shown(function, revision))
    }

    pub(super) async fn logs(
        &self,
        who: &Principal,
        at: &At,
        after: u64,
        limit: Option<usize>,
    ) -> Result<Done> {
        let (function, _) = self.found(who, at).await?;
        let size = page_size(limit)?;
        let rows = self.live.logs(&function.names, after, size);
        Ok(Done::of(Reply::Logs(List::whole(rows))))
    }

    /// Every function of a tenant: for quotas and for the collector.
    pub(super) async fn every_function(&self, prefix: &str) -> Result<Vec<Function>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let records = self.registry.list(prefix, after.as_deref(), PAGE_MAX).await?;
            let Some(last) = records.last() else { return Ok(all) };
            after = Some(last.key.clone());
            for record in records {
                all.push(parsed(&record.key, record.value)?);
            }
        }
    }

    /// Whether a caller's view of one record is wanted as fresh as can be.
    pub(super) async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.registry.get(key, Read::Fresh).await?.is_some())
    }
}

/// A generation of a function.
pub fn generation_of<'a>(function: &'a Function, id: &str) -> Result<&'a Generation> {
    let found = function.generations.iter().find(|generation| generation.id == id);
    found.ok_or_else(|| {
        AdminError::new(Kind::Absent, "lora_generation_not_found", "the function has no such generation")
    })
}

fn shown(function: Function, revision: Revision) -> Done {
    let view = FunctionView { object: "function", function, revision };
    Done::of(Reply::Function(Box::new(view))).at(revision)
}

fn line(function: Function, revision: Revision) -> FunctionLine {
    let live = function.aliases.get(LIVE).cloned().unwrap_or_default();
    let first = live.first().and_then(|target| generation_of(&function, &target.generation).ok());
    FunctionLine {
        backbone: first.map(|generation| generation.backbone.clone()).unwrap_or_default(),
        code: first.is_some_and(|generation| generation.module.is_some()),
        live,
        generations: function.generations.len(),
        pinned: function.pinned,
        updated_ms: function.updated_ms,
        tenant: function.names.tenant,
        function: function.names.function,
        revision,
    }
}
