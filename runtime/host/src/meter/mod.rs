//! The meter: a ledger row for each request and each stretch of residency, and what they cost.
//!
//! [`row`] is what is kept, [`ledger`] where it goes, [`keepers`] who kept a shared backbone alive, [`price`] what each row costs as it comes, [`mod@statement`] a
//! period's bill split between functions to the last nano-dollar, [`export`] tables for others. Prices and bills are the
//! simulator's own, so a live host and a replay of it cost the same by the same rules. `docs/metering.md` has the formulas.

pub mod export;
pub mod keepers;
pub mod ledger;
pub mod price;
pub mod row;
pub mod statement;

pub use keepers::{Keepers, SHARE_UNIT};
pub use ledger::{LedgerSink, MemoryLedger, NoLedger};
pub use price::{Pricer, Prices, charges};
pub use row::{LedgerRow, Outcome, RequestRow, ResidencyRow, Thing};
pub use statement::{Account, DevicePrice, Share, Statement, statement};
