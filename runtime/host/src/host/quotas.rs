//! Calls within their tenant's quota: reserved before they start, settled when they end.
//!
//! A call of a tenant without quotas passes straight through. Money is counted where the ledger's rows are priced, so a
//! month's budget refuses the first call after it is spent; calls under way then end.

use crate::call::{Answer, Call, CallError, CallEvent, Caller, Later, Usage};
use crate::catalog::Catalog;
use crate::live::core::{Executors, Live};
use crate::quota::{Limit, Now, Quotas, Refusal, Reservation, Use};
use crate::records::Quota;
use crate::store::clock::Clock;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events between a call and its caller, beside the call's own.
const EVENTS: usize = 4;

/// Runs calls within quotas.
pub struct Metered {
    /// Runs them.
    pub live: Live,
    /// Knows how large they are.
    pub executors: Arc<dyn Executors>,
    /// Knows tenants.
    pub catalog: Arc<Catalog>,
    /// Use of all tenants.
    pub quotas: Quotas,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Metered {
    async fn reserve(&self, call: &Call) -> Result<Option<Reservation>, CallError> {
        let tenant = self.catalog.tenant(&call.names.tenant);
        let Some(quota) = tenant.map(|tenant| tenant.quota.clone()).filter(bounded) else { return Ok(None) };
        let size = self.executors.size(call).await;
        let ask = Use { tokens: u64::from(size.prompt_tokens) + u64::from(size.max_tokens), nanodollars: 0 };
        let now = Now { monotonic: self.clock.monotonic(), wall_ms: self.clock.wall_ms() };
        self.quotas.admit(&call.names.tenant, &quota, ask, now).map(Some).map_err(refused)
    }
}

/// Whether a quota bounds calls at all.
fn bounded(quota: &Quota) -> bool {
    let Quota { rpm, tpm, concurrent, month_nanodollars, .. } = quota;
    [rpm, tpm, concurrent, month_nanodollars].into_iter().any(Option::is_some)
}

fn refused(refusal: Refusal) -> CallError {
    let what = refusal.to_string();
    match refusal {
        Refusal::Later { limit, retry_after } => {
            // Clients that know OpenAI's words tell these apart: the first passes soon, the second with the month.
            let code = if limit == Limit::Month { "insufficient_quota" } else { "quota_exceeded" };
            CallError::Overloaded { code, what, retry_after }
        }
        Refusal::Never { .. } => CallError::BadRequest { field: "max_tokens".to_owned(), problem: what },
    }
}

impl Caller for Metered {
    fn call(&self, call: Call) -> Later<'_, Result<Answer, CallError>> {
        Box::pin(async move {
            let reservation = self.reserve(&call).await?;
            let answer = self.live.call(call).await?;
            Ok(match reservation {
                None => answer,
                Some(reservation) => settled(answer, reservation),
            })
        })
    }
}

/// Passes events on and settles at the last one; a caller who goes away takes the call along.
fn settled(mut answer: Answer, reservation: Reservation) -> Answer {
    let (sender, events) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let mut used = Usage::default();
        loop {
            let event = tokio::select! {
                () = sender.closed() => break,
                event = answer.events.recv() => event,
            };
            let Some(event) = event else { break };
            if let Ok(CallEvent::End { usage }) = &event {
                used = *usage;
            }
            if sender.send(event).await.is_err() {
                break;
            }
        }
        reservation.settle(Use { tokens: used.prompt_tokens + used.completion_tokens, nanodollars: 0 });
    });
    Answer { events }
}
