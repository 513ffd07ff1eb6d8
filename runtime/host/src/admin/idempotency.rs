//! `Idempotency-Key`: a repeat of a request gets the first one's answer; another request with the key is refused.
//!
//! The answer is kept as a record for a day at least. Between the change and that record a crash may fall: the repeat
//! then carries the action out again, which for all but new keys comes to the same.

use super::change::Edit;
use super::error::{AdminError, Result};
use super::reply::{Done, Reply};
use super::{Action, Admin, Principal, Terms, generation, now_ms};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Beginning of the records' names.
pub const PREFIX: &str = "idempotency/";

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Longest key that a caller may choose.
const KEY_BYTES_MAX: usize = 255;

/// An answer, kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// SHA-256 of the request.
    request: String,
    reply: serde_json::Value,
    revision: Option<u64>,
    made: bool,
    accepted: bool,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl Admin {
    /// Carries an action out, or gives its first answer again.
    pub(super) async fn once(&self, who: &Principal, action: Action, terms: &Terms) -> Result<Done> {
        let key = terms.idempotency_key.as_deref().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let problem = format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} bytes");
            return Err(AdminError::invalid("Idempotency-Key", problem));
        }
        let record = format!("{PREFIX}{}/{}", who.tenant, generation::digest(&key.into()));
        let asked = serde_json::to_value(&action)
            .map_err(|error| AdminError::internal(format!("an action: {error}")))?;
        let request = generation::digest(&serde_json::json!([asked, terms.if_match, terms.if_none_match]));
        if let Some((kept, _)) = self.read::<Kept>(&record).await? {
            return match kept.request == request {
                true => Ok(Done {
                    reply: Reply::Data(kept.reply),
                    revision: kept.revision,
                    made: kept.made,
                    accepted: kept.accepted,
                }),
                false => Err(AdminError::idempotency_reused()),
            };
        }
        let done = self.carry_out(who, action, terms).await?;
        // A secret is shown once and kept nowhere; its repeat is told so by the key's own name.
        if matches!(done.reply, Reply::KeyMade(_)) {
            return Ok(done);
        }
        let kept = Kept {
            request,
            reply: serde_json::to_value(&done.reply)
                .map_err(|error| AdminError::internal(format!("an answer: {error}")))?,
            revision: done.revision,
            made: done.made,
            accepted: done.accepted,
            at_ms: now_ms(),
        };
        let mut kept = Some(kept);
        let first = self
            .change::<Kept, ()>(&record, &Terms::default(), |found| match (found, kept.take()) {
                (None, Some(kept)) => Ok(Edit::Put(kept, ())),
                // A twin of this request was as fast: its answer is as good.
                _ => Ok(Edit::Keep(())),
            })
            .await;
        // The change is made; that its answer could not be kept costs a repeat nothing but work.
        if let Err(error) = first {
            tracing::warn!(%error, "an answer could not be kept for its Idempotency-Key");
        }
        Ok(done)
    }
}
