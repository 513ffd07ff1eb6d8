//! API keys: made, listed and revoked; the secret is shown once, only its hash is kept.
//!
//! A key reads `cf_ID_SECRET`. The id names it in lists and logs.

use super::action::{KeySpec, Page};
use super::change::Edit;
use super::error::{AdminError, Kind, Result};
use super::reply::{Done, KeyMade, KeyView, List, Removed, Reply};
use super::{
    Admin, Principal, Terms, cursor, generation, names, now_ms, parsed, random_hex, tenant_of, tenants,
};
use crate::records::{ApiKey, Scope};
use sha2::{Digest, Sha256};

/// Bytes of chance in a secret.
const SECRET_BYTES: usize = 24;
/// Letters of a note.
const NOTE_MAX: usize = 200;

/// Key of an API key's record.
pub fn key(id: &str) -> String {
    format!("key/{id}")
}

/// What is kept of a secret. It has more chance than any search can cover, so that a plain hash suffices.
pub fn secret_hash(secret: &str) -> String {
    cursor::hex(&Sha256::digest(secret))
}

impl Admin {
    pub(super) async fn keys(&self, who: &Principal, tenant: Option<&str>, page: &Page) -> Result<Done> {
        let tenant = tenant_of(who, tenant)?;
        let list = format!("keys {tenant}");
        let size = super::functions::page_size(page.limit)?;
        let after = page.cursor.as_deref().map(|cursor| self.cursors.take(&list, cursor)).transpose()?;
        let mut found = self.keys_of(&tenant).await?;
        found.retain(|key| after.as_ref().is_none_or(|after| key.id > *after));
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more).map(|last| self.cursors.give(&list, &last.id));
        let data = found.into_iter().map(KeyView::from).collect();
        Ok(Done::of(Reply::Keys(List { object: "list", data, next })))
    }

    /// Keys of a tenant by id. Keys are few, and no request of a client needs this.
    pub(super) async fn keys_of(&self, tenant: &str) -> Result<Vec<ApiKey>> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let records = self.registry.list("key/", after.as_deref(), 1000).await?;
            let Some(last) = records.last() else { return Ok(found) };
            after = Some(last.key.clone());
            for record in records {
                let key: ApiKey = parsed(&record.key, record.value)?;
                found.extend((key.tenant == tenant).then_some(key));
            }
        }
    }

    pub(super) async fn make_key(
        &self,
        who: &Principal,
        tenant: Option<&str>,
        spec: KeySpec,
        terms: &Terms,
    ) -> Result<Done> {
        let tenant = tenant_of(who, tenant)?;
        if spec.scope > who.scope {
            return Err(AdminError::forbidden("operator").about("scope"));
        }
        if spec.note.chars().count() > NOTE_MAX || spec.note.chars().any(char::is_control) {
            return Err(AdminError::invalid(
                "note",
                format!("a note is one line of at most {NOTE_MAX} letters"),
            ));
        }
        if !self.exists(&tenants::key(&tenant)).await? && tenant != super::DEFAULT_TENANT {
            return Err(AdminError::absent("tenant"));
        }
        // With an Idempotency-Key the id follows from it: the repeat meets the first one's key instead of making another.
        let id = match &terms.idempotency_key {
            Some(idem) => generation::digest(&serde_json::json!([tenant, who.key, idem]))[..12].to_owned(),
            None => random_hex(6)?,
        };
        let secret = random_hex(SECRET_BYTES)?;
        let now = now_ms();
        let record = ApiKey {
            id: id.clone(),
            tenant,
            scope: spec.scope,
            secret_sha256: secret_hash(&secret),
            note: spec.note,
            created_ms: now,
            expires_ms: spec.expires_in_s.map(|seconds| now.saturating_add(seconds.saturating_mul(1000))),
        };
        let changed = self
            .change::<ApiKey, ()>(&key(&id), &Terms::default(), |found| match found {
                None => Ok(Edit::Put(record.clone(), ())),
                Some(_) => Err(AdminError::new(
                    Kind::Conflict,
                    "key_made_already",
                    format!("key {id} was made by an earlier request with this Idempotency-Key, and its secret was shown then; revoke it and make another"),
                )),
            })
            .await?;
        let made = KeyMade { key: record.into(), secret: format!("cf_{id}_{secret}") };
        Ok(Done { made: true, ..Done::of(Reply::KeyMade(made)).at(changed.revision) })
    }

    pub(super) async fn revoke_key(&self, who: &Principal, tenant: Option<&str>, id: &str) -> Result<Done> {
        names::key(id)?;
        let tenant = tenant_of(who, tenant)?;
        let found = self.read::<ApiKey>(&key(id)).await?.map(|(key, _)| key);
        // Whoever may do less must not end the key of one who may do more.
        let reach =
            |key: &ApiKey| key.tenant == tenant && (who.scope == Scope::Operator || key.scope <= who.scope);
        if !found.as_ref().is_some_and(reach) {
            return Err(AdminError::absent("key"));
        }
        let revision = self.drop_key(id).await?;
        let removed = Removed { object: "key", id: id.to_owned(), deleted: true };
        Ok(Done::of(Reply::Removed(removed)).at(revision))
    }

    pub(super) async fn drop_key(&self, id: &str) -> Result<u64> {
        let gone = self
            .change::<ApiKey, ()>(&key(id), &Terms::default(), |found| match found {
                Some(_) => Ok(Edit::Delete(())),
                None => Ok(Edit::Keep(())),
            })
            .await?;
        Ok(gone.revision)
    }
}
