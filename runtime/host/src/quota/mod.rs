//! What tenants may use: requests and tokens a minute, calls at once, money a month.
//!
//! A call reserves what it may use at most when it is admitted and settles what it used at its end; the rest comes back.
//! A reservation that is dropped unsettled comes back whole. Pure: the time is given, nothing is stored; what was spent
//! is told as the ledger grows, and at start what the ledger has of this month. Numbers are integers, so nothing is lost to rounding.

pub mod bucket;
pub mod calendar;

use crate::records::Quota;
use bucket::Bucket;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When trying again makes sense where nobody knows: a place among the calls at once. Arbitrary.
const CONCURRENT_RETRY: Duration = Duration::from_secs(1);

/// What a call may use at most, or did use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Tokens of prompt and answer.
    pub tokens: u64,
    /// Money, 10⁻⁹ dollars.
    pub nanodollars: u64,
}

/// The time, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back.
    pub monotonic: Duration,
    /// Milliseconds since 1970, for the month.
    pub wall_ms: u64,
}

/// Which limit refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Calls at once.
    Concurrent,
    /// Money a month.
    Month,
}

/// A call that is not admitted; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Later, yes.
    #[error("the quota of {} is used up; try again in {} s", limit.name(), retry_after.as_secs().max(1))]
    Later {
        /// Which.
        limit: Limit,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// Never: it asks for more than there ever is at once.
    #[error("the call may use {asked} of {}, the quota is {quota}: ask for less (max_tokens), or a larger quota", limit.name())]
    Never {
        /// Which.
        limit: Limit,
        /// What the call may use.
        asked: u64,
        /// What there is.
        quota: u64,
    },
}

impl Limit {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests a minute",
            Self::Tokens => "tokens a minute",
            Self::Concurrent => "calls at once",
            Self::Month => "money a month (nanodollars)",
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    requests: Bucket,
    tokens: Bucket,
    concurrent: u64,
    month: calendar::Month,
    spent: u64,
}

/// Use of all tenants.
#[derive(Debug, Clone, Default)]
pub struct Quotas {
    accounts: Arc<Mutex<HashMap<String, Account>>>,
}

/// A call's reservation.
#[derive(Debug)]
pub struct Reservation {
    quotas: Quotas,
    tenant: String,
    month: calendar::Month,
    reserved: Use,
    settled: bool,
}

impl Account {
    fn turn(&mut self, now: Now) {
        let month = calendar::Month::of(now.wall_ms);
        // A calendar set back opens no new month: what was spent stays spent.
        if month > self.month {
            (self.month, self.spent) = (month, 0);
        }
    }

    /// The first limit that refuses, if any; asks all before anything is taken.
    fn check(&mut self, quota: &Quota, ask: Use, now: Now) -> Result<(), Refusal> {
        if let Some(most) = quota.concurrent.filter(|most| self.concurrent >= *most) {
            let limit = Limit::Concurrent;
            return Err(match most {
                0 => Refusal::Never { limit, asked: 1, quota: 0 },
                _ => Refusal::Later { limit, retry_after: CONCURRENT_RETRY },
            });
        }
        for (limit, bucket, quota, asked) in [
            (Limit::Requests, &mut self.requests, quota.rpm, 1),
            (Limit::Tokens, &mut self.tokens, quota.tpm, ask.tokens),
        ] {
            let Some(quota) = quota else { continue };
            if asked > quota {
                return Err(Refusal::Never { limit, asked, quota });
            }
            bucket
                .wait(quota, asked, now.monotonic)
                .map_or(Ok(()), |retry_after| Err(Refusal::Later { limit, retry_after }))?;
        }
        let Some(most) = quota.month_nanodollars else { return Ok(()) };
        if ask.nanodollars > most {
            return Err(Refusal::Never { limit: Limit::Month, asked: ask.nanodollars, quota: most });
        }
        if self.spent.saturating_add(ask.nanodollars) > most || self.spent >= most {
            let retry_after = calendar::until_next_month(now.wall_ms);
            return Err(Refusal::Later { limit: Limit::Month, retry_after });
        }
        Ok(())
    }

    fn take(&mut self, quota: &Quota, ask: Use) {
        self.concurrent += 1;
        if quota.rpm.is_some() {
            self.requests.take(1);
        }
        if quota.tpm.is_some() {
            self.tokens.take(ask.tokens);
        }
        self.spent = self.spent.saturating_add(ask.nanodollars);
    }
}

impl Quotas {
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call of a tenant and takes what it may use at most.
    ///
    /// # Errors
    /// Which limit refuses, and when to try again.
    pub fn admit(&self, tenant: &str, quota: &Quota, ask: Use, now: Now) -> Result<Reservation, Refusal> {
        let mut accounts = self.accounts();
        let account = accounts.entry(tenant.to_owned()).or_default();
        account.turn(now);
        account.check(quota, ask, now)?;
        account.take(quota, ask);
        let (quotas, month) = (self.clone(), account.month);
        drop(accounts);
        Ok(Reservation { quotas, tenant: tenant.to_owned(), month, reserved: ask, settled: false })
    }

    /// Adds what a tenant spent this month beside reservations: in this process, or before it.
    pub fn spend(&self, tenant: &str, nanodollars: u64, now: Now) {
        let mut accounts = self.accounts();
        let account = accounts.entry(tenant.to_owned()).or_default();
        account.turn(now);
        account.spent = account.spent.saturating_add(nanodollars);
    }

    /// What a tenant spent this month, open reservations included, 10⁻⁹ dollars.
    pub fn spent(&self, tenant: &str, now: Now) -> u64 {
        let mut accounts = self.accounts();
        accounts.get_mut(tenant).map_or(0, |account| {
            account.turn(now);
            account.spent
        })
    }

    /// Calls of a tenant at work.
    pub fn concurrent(&self, tenant: &str) -> u64 {
        self.accounts().get(tenant).map_or(0, |account| account.concurrent)
    }

    /// Forgets a tenant that is gone; reservations still open come to nothing.
    pub fn forget(&self, tenant: &str) {
        self.accounts().remove(tenant);
    }
}

impl Reservation {
    /// The call ended: what it did not use comes back, what it used beyond is owed.
    pub fn settle(mut self, used: Use) {
        self.close(used);
    }

    fn close(&mut self, used: Use) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut accounts = self.quotas.accounts();
        let Some(account) = accounts.get_mut(&self.tenant) else { return };
        account.concurrent = account.concurrent.saturating_sub(1);
        account.tokens.settle(self.reserved.tokens, used.tokens);
        if account.month == self.month {
            let spent = account.spent.saturating_sub(self.reserved.nanodollars);
            account.spent = spent.saturating_add(used.nanodollars);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(Use::default());
    }
}
