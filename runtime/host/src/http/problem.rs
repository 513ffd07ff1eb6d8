//! What a client is told when something is wrong: one shape for all, rendered in the dialect of the route.
//!
//! `code` is a stable word that programs branch on; `message` is for people and says what to do. Errors of the rooms
//! behind the edge become problems here and nowhere else: this is where a status code is chosen. What went wrong inside
//! the machine goes to the log, not to the client.

use super::body::{self, Reply};
use crate::call::CallError;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

/// Result of a handler.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// How a route's errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    #[default]
    OpenAi,
    /// `{"error", "error_type"}` with LoRAX's statuses: 422 validation, 424 generation, 429 overloaded, 500 incomplete.
    Lorax,
}

/// Why a request is not answered as it wished.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.code`: a stable word.
    pub code: String,
    /// `error.message`: for people.
    pub message: String,
    /// `error.param`: the field or header that is wrong.
    pub param: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `error.details`: further data for programs; left out when there is none.
    /// Boxed, since a problem is the error of most functions here and moves with their results.
    pub details: Option<Box<Value>>,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind_of(status),
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after: None,
            details: None,
        }
    }

    /// A field has a value that it may not have.
    pub fn invalid(field: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let field = field.into();
        let message = format!("{field}: {}", problem.as_ref());
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).about(field)
    }

    /// A field asks for something that this server does not do.
    pub fn unsupported(field: impl Into<String>, problem: impl AsRef<str>) -> Self {
        Self { code: "unsupported".into(), ..Self::invalid(field, problem) }
    }

    /// A field is not there.
    pub fn missing(field: impl Into<String>) -> Self {
        Self { code: "missing_field".into(), ..Self::invalid(field, "is required") }
    }

    /// No model, function or adapter of that name, or none for this caller.
    pub fn no_model(name: &str) -> Self {
        let shown: String = name.chars().take(256).collect();
        let message = format!("the model {shown:?} does not exist; GET /v1/models lists those that do");
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
    }

    /// There is no such thing for this caller.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// Too much at once: try again later.
    pub fn overloaded(code: &str, message: impl Into<String>, retry_after: Duration) -> Self {
        let status = match code {
            "no_capacity" | "draining" | "connections" | "bodies" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        Self { kind: "overloaded_error", retry_after: Some(retry_after), ..Self::new(status, code, message) }
    }

    /// A bug or a fault of the machine; `cause` goes to the log only.
    pub fn internal(cause: &str) -> Self {
        tracing::error!(cause, "internal error");
        let message = "internal error; the server's log says more under this x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// With the field it is about.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.param = Some(field.into());
        self
    }

    /// With `error.type` as some client expects it.
    #[must_use]
    pub fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// With data for programs.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// As a reply.
    pub fn reply(&self, dialect: Dialect) -> Reply {
        let (status, value) = self.render(dialect);
        let mut reply = body::json(status, &value);
        let headers = reply.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.kind == FUNCTION_ERROR {
            // The OpenAI clients repeat every 5xx; a function that trapped once will again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        reply
    }

    /// Status and body in a dialect.
    pub fn render(&self, dialect: Dialect) -> (StatusCode, Value) {
        match dialect {
            Dialect::OpenAi => (self.status, self.envelope()),
            Dialect::Lorax => {
                let (status, kind) = lorax(self.status);
                (status, json!({"error": self.message, "error_type": kind}))
            }
        }
    }

    /// The envelope of the `/v1` routes.
    pub fn envelope(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            error["details"] = Value::clone(details);
        }
        json!({ "error": error })
    }
}

/// `error.type` of a function's own failure.
pub const FUNCTION_ERROR: &str = "function_error";

fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn lorax(status: StatusCode) -> (StatusCode, &'static str) {
    match status.as_u16() {
        400 | 422 => (StatusCode::UNPROCESSABLE_ENTITY, "validation"),
        429 | 503 => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
        500 => (StatusCode::INTERNAL_SERVER_ERROR, "incomplete_generation"),
        502 | 504 => (StatusCode::FAILED_DEPENDENCY, "generation"),
        401 | 403 => (status, "authentication"),
        404 => (status, "not_found"),
        _ => (status, "validation"),
    }
}

/// `Retry-After` counts whole seconds; a client that comes back too early is refused again, so round up.
fn whole_seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).clamp(1, 3600) as u64
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::BadRequest { field, problem } => Self::invalid(field, problem),
            CallError::Overloaded { code, what, retry_after } => Self::overloaded(code, what, retry_after),
            CallError::Function { code, message } => function(code, message),
            CallError::Start(cause) => {
                tracing::warn!(cause, "a function could not start");
                let message = "the function could not be brought into place; try again, or look at its log";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self {
                    retry_after: Some(Duration::from_secs(5)),
                    ..Self::new(status, "function_start_failed", message)
                }
            }
            CallError::Internal(cause) => Self::internal(&cause),
        }
    }
}

fn function(code: String, message: String) -> Problem {
    let status = match code.as_str() {
        "invalid" | "bad_request" => StatusCode::BAD_REQUEST,
        "quota" => StatusCode::TOO_MANY_REQUESTS,
        "deadline" | "timeout" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    Problem::new(status, code, message).of_kind(FUNCTION_ERROR)
}
