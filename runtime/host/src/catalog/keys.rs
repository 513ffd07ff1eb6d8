//! Names of records: which key of the registry holds which record.
//!
//! Made here only, so that writers and readers agree. Parts are checked where they come in, not here.

/// Where tenants are.
pub const TENANTS: &str = "tenant/";
/// Where API keys are.
pub const API_KEYS: &str = "key/";
/// Where functions are.
pub const FUNCTIONS: &str = "function/";

/// The record of a tenant.
pub fn tenant(name: &str) -> String {
    format!("{TENANTS}{name}")
}

/// The record of an API key.
pub fn api_key(id: &str) -> String {
    format!("{API_KEYS}{id}")
}

/// The record of a function.
pub fn function(tenant: &str, name: &str) -> String {
    format!("{FUNCTIONS}{tenant}/{name}")
}

/// Where a tenant's functions are.
pub fn functions_of(tenant: &str) -> String {
    format!("{FUNCTIONS}{tenant}/")
}
