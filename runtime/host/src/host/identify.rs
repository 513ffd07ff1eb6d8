//! Who a secret belongs to: the catalog's keys, with a brake for whoever guesses.

use crate::auth::limiter::Limiter;
use crate::catalog::Catalog;
use crate::http::app::{Denied, Identify, Principal};
use crate::records::Scope;
use crate::store::clock::Clock;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Knows keys.
pub struct Keys {
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    limiter: Mutex<Limiter>,
    /// Without any key, whoever reaches the socket is the operator: only on loopback.
    open: bool,
}

impl Keys {
    /// Over a catalog.
    pub fn new(catalog: Arc<Catalog>, clock: Arc<dyn Clock>, open: bool) -> Self {
        Self { catalog, clock, limiter: Mutex::default(), open }
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identify for Keys {
    fn identify(&self, secret: Option<&str>, peer: IpAddr) -> Result<Principal, Denied> {
        // The first key that is made closes an open server; clients that must send some key may, until then.
        if self.open && !self.catalog.has_keys() {
            let tenant = crate::admin::DEFAULT_TENANT.to_owned();
            return Ok(Principal { tenant, scope: Scope::Operator, key: String::new() });
        }
        let Some(secret) = secret else { return Err(Denied::Missing) };
        let now = self.clock.monotonic();
        self.limiter().check(peer, now).map_err(Denied::Blocked)?;
        let found = self.catalog.identify(secret, self.clock.wall_ms());
        let found = found.map_err(|_| {
            self.limiter().failed(peer, now);
            Denied::Wrong
        })?;
        Ok(Principal { tenant: found.tenant, scope: found.scope, key: found.key })
    }
}
