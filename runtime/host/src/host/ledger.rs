//! Rows of the meter into the store's ledger.

use crate::meter::{LedgerRow, LedgerSink};
use crate::store::journal::{Amounts, Row};
use crate::store::ledger::Ledger;

/// Hands rows over; they are durable within a second.
pub struct StoreLedger(pub Ledger);

impl LedgerSink for StoreLedger {
    fn append(&self, row: LedgerRow) {
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
                    nanodollars: 0,
                },
                payload,
            },
            LedgerRow::Residency(residency) => Row {
                name,
                at_ms: residency.start_ms,
                tenant: residency.tenant,
                function: Some(residency.function).filter(|function| !function.is_empty()),
                kind: "residency".to_owned(),
                amounts: Amounts::default(),
                payload,
            },
        };
        if !self.0.record(row) {
            tracing::error!("the ledger is full: a row was turned away and is counted as lost");
        }
    }
}
