//! Errors of the rooms below, in the words of a call and of a guest.

use super::engine::JobError;
use crate::call::CallError;
use coldframe_backbone::error::Error;
use coldframe_sandbox::services::Failure;
use std::time::Duration;

/// When a caller whom a full queue refused should try again. Arbitrary: a few steps of a busy engine.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a call says of an error of the backbone.
pub(super) fn of_backbone(error: &Error) -> CallError {
    let bad = |field: &str, problem: String| CallError::BadRequest { field: field.to_owned(), problem };
    match error {
        Error::BadRequest { field, problem } => bad(field, problem.clone()),
        Error::Template(problem) => bad("messages", format!("the chat template: {problem}")),
        Error::NoRoom { .. } => bad("max_tokens", format!("{error}: ask for fewer tokens")),
        Error::TooLarge { .. } => {
            CallError::Overloaded { code: "queue_full", what: error.to_string(), retry_after: RETRY_AFTER }
        }
        Error::Hook { code, message } => CallError::Function { code: code.clone(), message: message.clone() },
        Error::Changed { .. } => CallError::Start(error.to_string()),
        _ => CallError::Internal(error.to_string()),
    }
}

/// What a call says of a job that failed.
pub(super) fn of_job(error: &JobError) -> CallError {
    match error {
        JobError::Backbone(error) => of_backbone(error),
        JobError::Fenced(_) => CallError::Start(error.to_string()),
        JobError::Stopped => {
            let what = "the host is stopping".to_owned();
            CallError::Overloaded { code: "draining", what, retry_after: RETRY_AFTER }
        }
        JobError::SlowReader => {
            CallError::Overloaded { code: "timed_out", what: error.to_string(), retry_after: RETRY_AFTER }
        }
    }
}

/// What a guest is told.
pub(super) fn to_guest(error: &CallError) -> Failure {
    match error {
        CallError::BadRequest { field, problem } => Failure::new("invalid", format!("{field}: {problem}")),
        CallError::Overloaded { what, .. } => Failure::new("unavailable", what),
        CallError::Function { code, message } => Failure::new(code, message),
        CallError::Start(message) => Failure::new("unavailable", message),
        // What went wrong inside is not the guest's to know.
        CallError::Internal(_) => Failure::new("internal", "the model failed; the host's log says how"),
    }
}
