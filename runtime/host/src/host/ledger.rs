//! Rows of the meter, priced, into the store's ledger; what they cost counts against their tenants' budgets at once.

use crate::meter::{LedgerRow, LedgerSink, Pricer, Prices, charges};
use crate::quota::{Now, Quotas};
use crate::store::clock::Clock;
use crate::store::journal::{Amounts, Row};
use crate::store::ledger::Ledger;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hands rows over; they are durable within a second.
pub struct StoreLedger {
    /// Where they go.
    pub ledger: Ledger,
    /// What they cost.
    pub till: Arc<Till>,
}

/// Prices rows and tells budgets.
pub struct Till {
    pricer: Mutex<Pricer>,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
}

impl Till {
    /// With these prices; without any, everything is free.
    pub fn new(prices: Option<Prices>, quotas: Quotas, clock: Arc<dyn Clock>) -> Self {
        Self { pricer: Mutex::new(Pricer::new(prices)), quotas, clock }
    }

    fn pricer(&self) -> MutexGuard<'_, Pricer> {
        self.pricer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other prices from the next row on. Whether they are others than before.
    pub fn set_prices(&self, prices: Option<Prices>) -> bool {
        let mut pricer = self.pricer();
        let other = pricer.prices() != prices.as_ref();
        if other {
            pricer.set_prices(prices);
        }
        other
    }

    fn take(&self, row: &mut LedgerRow) {
        self.pricer().price(row);
        let now = Now { monotonic: self.clock.monotonic(), wall_ms: self.clock.wall_ms() };
        for (tenant, nanodollars) in charges(row).into_iter().filter(|(_, amount)| *amount > 0) {
            self.quotas.spend(tenant, nanodollars, now);
        }
    }
}

impl LedgerSink for StoreLedger {
    fn append(&self, mut row: LedgerRow) {
        self.till.take(&mut row);
        let payload = match serde_json::to_value(&row) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(%error, "a row of the ledger is no JSON"),
        };
        // Callers choose `x-request-id`, so that it names nothing.
        let mut chance = [0; 12];
        if let Err(error) = getrandom::fill(&mut chance) {
            return tracing::error!(%error, "no random numbers for a row of the ledger");
        }
        let name = chance.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let row = match row {
            LedgerRow::Request(request) => Row {
                name,
                at_ms: request.arrived_ms,
                tenant: request.tenant,
                function: Some(request.function),
                kind: "request".to_owned(),
                amounts: Amounts {
                    prompt_tokens: request.prompt_tokens,
                    completion_tokens: request.completion_tokens,
                    device_ns: request.device_ns,
                    nanodollars: request.nanodollars,
                },
                payload,
            },
            LedgerRow::Residency(residency) => Row {
                name,
                at_ms: residency.start_ms,
                tenant: residency.tenant,
                function: Some(residency.function).filter(|function| !function.is_empty()),
                kind: "residency".to_owned(),
                amounts: Amounts { nanodollars: residency.nanodollars, ..Amounts::default() },
                payload,
            },
        };
        if !self.ledger.record(row) {
            tracing::error!("the ledger is full: a row was turned away and is counted as lost");
        }
    }
}
