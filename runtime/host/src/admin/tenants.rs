//! Tenants and their quotas.

use super::action::{Page, TenantSpec};
use super::change::Edit;
use super::error::{AdminError, Kind, Result};
use super::reply::{Done, List, Removed, Reply, TenantView};
use super::{Admin, DEFAULT_TENANT, Principal, Terms, names, now_ms, parsed, tenant_of};
use crate::records::{Quota, Tenant};

/// Key of a tenant's record.
pub fn key(tenant: &str) -> String {
    format!("tenant/{tenant}")
}

impl Admin {
    pub(super) async fn tenants(&self, page: &Page) -> Result<Done> {
        let (records, next) = self.page("tenants", "tenant/", page).await?;
        let views = records.into_iter().map(|record| {
            Ok(TenantView { revision: record.revision, tenant: parsed(&record.key, record.value)? })
        });
        let data = views.collect::<Result<_>>()?;
        Ok(Done::of(Reply::Tenants(List { object: "list", data, next })))
    }

    pub(super) async fn tenant(&self, who: &Principal, name: &str) -> Result<Done> {
        let name = tenant_of(who, Some(name))?;
        let (tenant, revision) = self.read(&key(&name)).await?.ok_or_else(|| AdminError::absent("tenant"))?;
        Ok(Done::of(Reply::Tenant(TenantView { tenant, revision })).at(revision))
    }

    pub(super) async fn put_tenant(&self, name: &str, spec: TenantSpec, terms: &Terms) -> Result<Done> {
        names::tenant(name)?;
        let changed = self
            .change::<Tenant, Tenant>(&key(name), terms, |found| {
                let tenant = match &found {
                    Some(before) => Tenant { quota: spec.quota.clone(), ..before.clone() },
                    None => Tenant { name: name.to_owned(), quota: spec.quota.clone(), created_ms: now_ms() },
                };
                match found.as_ref() == Some(&tenant) {
                    true => Ok(Edit::Keep(tenant)),
                    false => Ok(Edit::Put(tenant.clone(), tenant)),
                }
            })
            .await?;
        let view = TenantView { tenant: changed.value, revision: changed.revision };
        Ok(Done { made: changed.made, ..Done::of(Reply::Tenant(view)).at(changed.revision) })
    }

    pub(super) async fn remove_tenant(&self, name: &str, terms: &Terms) -> Result<Done> {
        names::tenant(name)?;
        if name == DEFAULT_TENANT {
            return Err(AdminError::invalid("tenant", "the default tenant stays"));
        }
        if !self.registry.list(&format!("function/{name}/"), None, 1).await?.is_empty() {
            let problem = "it still has functions: remove them first";
            return Err(AdminError::new(Kind::Conflict, "tenant_in_use", problem));
        }
        for record in self.keys_of(name).await? {
            self.drop_key(&record.id).await?;
        }
        let changed = self
            .change::<Tenant, ()>(&key(name), terms, |found| match found {
                Some(_) => Ok(Edit::Delete(())),
                None => Err(AdminError::absent("tenant")),
            })
            .await?;
        let removed = Removed { object: "tenant", id: name.to_owned(), deleted: true };
        Ok(Done::of(Reply::Removed(removed)).at(changed.revision))
    }

    /// A tenant's quotas; one without a record has none.
    pub(super) async fn quota(&self, tenant: &str) -> Result<Quota> {
        Ok(self.read::<Tenant>(&key(tenant)).await?.map(|(tenant, _)| tenant.quota).unwrap_or_default())
    }
}
