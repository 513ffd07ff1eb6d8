//! Loading and unloading adapters the way other servers' clients and controllers do it.
//!
//! Each module knows one server's routes, fields and wording; all of them do the same through
//! [`Adapters`](super::app::Adapters).

pub mod llama;
pub mod sglang;
pub mod vllm;

use super::ask::Ask;
use super::problem::{Problem, Result};
use http::StatusCode;

/// Refuses changes unless the operator asked for these routes.
///
/// # Errors
/// 403 `lora_updating_disabled`.
pub fn check_gate(ask: &Ask) -> Result<()> {
    if ask.app.runtime_lora_updating() {
        return Ok(());
    }
    let message = "changing adapters through this route is off: start the server with \
        COLDFRAME_ALLOW_RUNTIME_LORA_UPDATING=1 (or VLLM_ALLOW_RUNTIME_LORA_UPDATING=1), or use /admin/v1";
    Err(Problem::new(StatusCode::FORBIDDEN, "lora_updating_disabled", message))
}

/// What the two variables say: either may turn the routes on.
pub fn gate_from(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["COLDFRAME_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"].into_iter().any(|name| {
        variable(name).is_some_and(|word| {
            matches!(word.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
        })
    })
}
