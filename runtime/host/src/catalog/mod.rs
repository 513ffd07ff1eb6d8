//! What is registered, in memory: every request is answered from here and none reads or writes the registry.
//!
//! [`Catalog::start`] lists the registry and watches it from then on; a gap in the watch makes it list again. Names of
//! records are made in [`keys`], the choice between weighted targets in [`split`]. It changes nothing itself.

pub mod follow;
pub mod keys;
pub mod split;
mod tables;

use crate::auth::{self, Bootstrap, Denied, Principal};
use crate::records::{Function, Generation, Names, Tenant};
use crate::store::{Registry, Revision, StoreError};
use std::ops::Bound::{Included, Unbounded};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tables::Tables;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// The alias that a bare name means.
pub const LIVE: &str = "live";
/// Shortest start of a generation's id that names it.
const GENERATION_PREFIX_MIN: usize = 8;

/// What a change of the registry means for whoever runs functions.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogChange {
    /// A function is there, or is another than before.
    Put(Arc<Function>),
    /// A function is gone.
    Removed(Names),
}

/// A name, bound to the generation that answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The function.
    pub function: Arc<Function>,
    /// Its generation.
    pub generation: Arc<Generation>,
    /// The alias it came by, where it was not named itself.
    pub alias: Option<String>,
}

/// The registry as of now.
pub struct Catalog {
    tables: RwLock<Tables>,
    bootstrap: RwLock<Option<Bootstrap>>,
    applied: watch::Sender<Revision>,
    following: OnceLock<AbortHandle>,
}

impl Drop for Catalog {
    fn drop(&mut self) {
        // The task holds the registry, which is to close when nobody uses it.
        if let Some(following) = self.following.get() {
            following.abort();
        }
    }
}

impl Catalog {
    /// Reads the registry and follows it as long as the catalog is used. Functions and what becomes of them come out of
    /// the second part, those that are there first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn start(
        registry: Arc<dyn Registry>,
        bootstrap: Option<Bootstrap>,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<CatalogChange>), StoreError> {
        let catalog = Arc::new(Self {
            tables: RwLock::default(),
            bootstrap: RwLock::new(bootstrap),
            applied: watch::Sender::new(0),
            following: OnceLock::new(),
        });
        let (told, changes) = mpsc::unbounded_channel();
        let watch = follow::read(&catalog, &*registry, &told).await?;
        let following = tokio::spawn(follow::follow(Arc::downgrade(&catalog), registry, told, watch));
        catalog.following.set(following.abort_handle()).expect("a catalog is started once");
        Ok((catalog, changes))
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// The key is unknown or past its time.
    pub fn identify(&self, presented: &str, now_ms: u64) -> Result<Principal, Denied> {
        if let Some(operator) = self.operator(presented) {
            return Ok(operator);
        }
        let (id, secret) = auth::split(presented).ok_or(Denied::Unknown)?;
        let key = self.tables().key(id);
        // An id that is not there costs the same comparison.
        let sha256 = key.as_ref().map_or(NOBODY, |key| &key.secret_sha256);
        let known = auth::is_secret(secret, sha256);
        let key = key.filter(|_| known).ok_or(Denied::Unknown)?;
        if key.expires_ms.is_some_and(|expires| now_ms >= expires) {
            return Err(Denied::Expired);
        }
        Ok(Principal { tenant: key.tenant.clone(), scope: key.scope, key: key.id.clone() })
    }

    /// Whether any key would be accepted; without one a server must not listen beyond its machine.
    pub fn has_keys(&self) -> bool {
        self.bootstrap.read().unwrap_or_else(PoisonError::into_inner).is_some() || self.has_stored_keys()
    }

    /// Whether the registry has any key.
    pub fn has_stored_keys(&self) -> bool {
        self.tables().has_keys()
    }

    /// Another operator's key, or none, from now on. Whether it is another than before.
    pub fn set_bootstrap(&self, bootstrap: Option<Bootstrap>) -> bool {
        let mut current = self.bootstrap.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, bootstrap.clone()) != bootstrap
    }

    fn operator(&self, presented: &str) -> Option<Principal> {
        let bootstrap = self.bootstrap.read().unwrap_or_else(PoisonError::into_inner);
        bootstrap.as_ref().and_then(|bootstrap| bootstrap.identify(presented))
    }

    /// Binds `name`, `name@alias`, `name@generation` or a start of a generation's id, of a tenant. Where an alias splits,
    /// `request` decides: the same request is always bound alike.
    pub fn resolve(&self, tenant: &str, name: &str, request: &str) -> Option<Bound> {
        let (bare, wanted) = name.split_once('@').map_or((name, None), |(bare, wanted)| (bare, Some(wanted)));
        let entry = self.tables().function(tenant, bare)?;
        let alias = wanted.unwrap_or(LIVE);
        if let Some(targets) = entry.function.aliases.get(alias) {
            let id = split::pick(targets, &entry.function.names, request)?;
            let generation = Arc::clone(entry.generations.get(id)?);
            return Some(Bound { function: entry.function, generation, alias: Some(alias.to_owned()) });
        }
        let wanted = wanted.filter(|wanted| wanted.len() >= GENERATION_PREFIX_MIN)?;
        let from = entry.generations.range::<str, _>((Included(wanted), Unbounded));
        let mut matching = from.take_while(|(id, _)| id.starts_with(wanted));
        let (_, generation) = matching.next()?;
        let generation = matching.next().is_none().then(|| Arc::clone(generation))?;
        Some(Bound { function: entry.function, generation, alias: None })
    }

    /// A function.
    pub fn function(&self, tenant: &str, name: &str) -> Option<Arc<Function>> {
        self.tables().function(tenant, name).map(|entry| entry.function)
    }

    /// Functions of a tenant (of all where `None`) in order of name, after a name, at most `limit`.
    pub fn functions(&self, tenant: Option<&str>, after: Option<&Names>, limit: usize) -> Vec<Arc<Function>> {
        self.tables().functions(tenant, after, limit)
    }

    /// Functions that a tenant has.
    pub fn count(&self, tenant: &str) -> usize {
        self.tables().count(tenant)
    }

    /// A tenant.
    pub fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tables().tenant(name)
    }

    /// All tenants in order of name.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.tables().tenants()
    }

    /// Keys of a tenant (of all where `None`) in order of id.
    pub fn keys(&self, tenant: Option<&str>) -> Vec<Arc<crate::records::ApiKey>> {
        self.tables().keys(tenant)
    }

    /// Records that could not be read, by name: they are left out, and only they.
    pub fn unreadable(&self) -> Vec<String> {
        self.tables().unreadable()
    }

    /// The revision of the registry that is in here.
    pub fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until a change is in here, so that whoever made it finds it. `false`: not within `patience`.
    pub async fn reached(&self, revision: Revision, patience: Duration) -> bool {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= revision);
        tokio::time::timeout(patience, reached).await.is_ok_and(|reached| reached.is_ok())
    }
}

/// SHA-256 that no secret has: compared with where there is no key.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
