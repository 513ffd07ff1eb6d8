//! Why an administrative action was not carried out: data and a stable word, no HTTP status.
//!
//! [`AdminError::code`] is what clients branch on. What is absent and what belongs to another tenant give the same
//! error, word for word.

use crate::store::{Rejected, Revision, StoreError};

/// Result of an action.
pub type Result<T, E = AdminError> = std::result::Result<T, E>;

/// What kind of refusal it is: the edge makes a status of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Invalid,
    /// The caller may not.
    Forbidden,
    /// There is no such thing, or not for this caller.
    Absent,
    /// It clashes with what is there.
    Conflict,
    /// The record is not at the revision that the caller expected.
    Precondition,
    /// Too many bytes.
    TooLarge,
    /// A kind of file that is never opened.
    Unsupported,
    /// Well-formed, and cannot be served.
    Unprocessable,
    /// A quota of the tenant is used up.
    Quota,
    /// Something outside did not answer as it should.
    Upstream,
    /// The store cannot write now.
    Storage,
    /// It may or may not have happened.
    Unknown,
    /// Too busy, or draining.
    Busy,
    /// A bug or a fault of the machine.
    Internal,
}

/// Why an action was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// What kind.
    pub kind: Kind,
    /// A stable word.
    pub code: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The field, file or header it is about.
    pub param: Option<String>,
    /// Further data for programs: problems of an adapter, both revisions.
    pub details: Option<Box<serde_json::Value>>,
}

impl AdminError {
    /// An error.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), param: None, details: None }
    }

    /// With the field it is about.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With data for programs.
    #[must_use]
    pub fn with(mut self, details: serde_json::Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// A field of the request is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, "invalid_request", message).about(param)
    }

    /// There is no such thing for this caller.
    pub fn absent(what: &str) -> Self {
        Self::new(Kind::Absent, "not_found", format!("there is no such {what}"))
    }

    /// The caller's key does not reach that far.
    pub fn forbidden(needed: &str) -> Self {
        Self::new(Kind::Forbidden, "scope_required", format!("this needs a key with scope `{needed}`"))
    }

    /// A record is not at the revision that was expected.
    pub fn precondition(expected: Option<Revision>, found: Option<Revision>) -> Self {
        let message = match (expected, found) {
            (None, _) => "it exists already; leave out If-None-Match to replace it".to_owned(),
            (Some(_), None) => "it does not exist; leave out If-Match to make it".to_owned(),
            (Some(expected), Some(found)) => {
                format!(
                    "it is at revision {found}, not {expected}: read it again and repeat with its new ETag"
                )
            }
        };
        Self::new(Kind::Precondition, "revision_mismatch", message)
            .with(serde_json::json!({"expected": expected, "found": found}))
    }

    /// A bug or a fault of the machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "internal_error", message)
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Unknown(_) => Self::new(
                Kind::Unknown,
                "outcome_unknown",
                format!("{message}; read it, or repeat the request with the same Idempotency-Key"),
            ),
            StoreError::Unavailable(_) => Self::new(Kind::Storage, "store_unavailable", message),
            StoreError::Rejected(rejected) => Self::rejected(rejected, message),
        }
    }
}

impl AdminError {
    fn rejected(rejected: Rejected, message: String) -> Self {
        match rejected {
            Rejected::Conflict { found, .. } => {
                let text = "it was changed by another request meanwhile: read it again and repeat";
                Self::new(Kind::Conflict, "changed_meanwhile", text).with(serde_json::json!({"found": found}))
            }
            Rejected::IdempotencyReused => Self::idempotency_reused(),
            Rejected::TooLarge { .. } => Self::new(Kind::TooLarge, "too_large", message),
            Rejected::WrongDigest { .. } => Self::new(Kind::Unprocessable, "digest_mismatch", message),
            Rejected::LeaseLost => Self::new(Kind::Conflict, "lease_lost", message),
            Rejected::Absent(_) => Self::new(Kind::Absent, "not_found", message),
            Rejected::Invalid(_) => Self::new(Kind::Invalid, "invalid_request", message),
        }
    }

    /// The idempotency key was used for another request.
    pub fn idempotency_reused() -> Self {
        Self::new(
            Kind::Conflict,
            "idempotency_key_reused",
            "this Idempotency-Key was used for another request: take a new one",
        )
        .about("Idempotency-Key")
    }
}

impl From<coldframe_backbone::Error> for AdminError {
    fn from(error: coldframe_backbone::Error) -> Self {
        use coldframe_backbone::Error as E;
        let problem = coldframe_backbone::adapter::Problem::from(&error);
        let (kind, code) = match &error {
            E::InvalidAdapter { .. } | E::Corrupt { .. } | E::Unsupported { .. } => {
                (Kind::Invalid, "invalid_adapter")
            }
            E::IncompatibleBase { .. } => (Kind::Conflict, "incompatible_base"),
            E::Forbidden { .. } => (Kind::Unsupported, "forbidden_file"),
            E::TooLarge { .. } => (Kind::TooLarge, "lora_adapter_file_too_large"),
            E::NoRoom { .. } => (Kind::Conflict, "lora_byte_limit_exceeded"),
            E::NotFound { .. } => (Kind::Invalid, "adapter_file_not_found"),
            E::Digest { .. } => (Kind::Unprocessable, "digest_mismatch"),
            E::Template(_) => (Kind::Invalid, "invalid_adapter"),
            _ => (Kind::Internal, "internal_error"),
        };
        // The path is the host's own: clients get the place in the file only.
        let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", problem.place) };
        Self::new(kind, code, format!("{place}{}", problem.problem))
            .with(serde_json::json!({"problems": [problem]}))
    }
}
