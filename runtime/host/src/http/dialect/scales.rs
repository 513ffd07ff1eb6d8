//! llama.cpp's global scales: which adapter answers where a request names none.
//!
//! Its ids are numbers. Here a number is made from the function's name, so that registering or removing another function
//! never makes a number mean something else. An adapter is applied whole or not at all: scales are 0 and 1.

use crate::http::app::Card;
use crate::http::problem::{Problem, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Adapters named by one `lora` list at most. Arbitrary.
const ENTRIES_MAX: usize = 1024;

/// The function that each tenant has set; kept until the server stops, as in llama.cpp.
#[derive(Debug, Default)]
pub struct Scales(Mutex<BTreeMap<String, String>>);

impl Scales {
    /// The tenant's function for requests that name none.
    pub fn get(&self, tenant: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Sets it, or none.
    pub fn set(&self, tenant: &str, function: Option<String>) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match function {
            Some(function) => set.insert(tenant.to_owned(), function),
            None => set.remove(tenant),
        };
    }
}

/// A function's number: the first 31 bits of the SHA-256 of its name.
pub fn number(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 1
}

/// The one function that a `lora` list applies; `None` where every scale is 0.
///
/// # Errors
/// 400 for a list that is none, another scale than 0 and 1, or more than one adapter; 404 for an unknown id.
pub fn chosen(list: &Value, cards: &[Card], field: &str) -> Result<Option<String>> {
    let entries = list.as_array().ok_or_else(|| Problem::invalid(field, "must be a list of {id, scale}"))?;
    if entries.len() > ENTRIES_MAX {
        let problem = format!("has {} entries; at most {ENTRIES_MAX}", entries.len());
        return Err(Problem::invalid(field, problem));
    }
    let mut applied: Option<String> = None;
    for entry in entries {
        let Some((id, scale)) = entry["id"].as_u64().zip(entry["scale"].as_f64()) else {
            return Err(Problem::invalid(
                field,
                "must hold objects with a whole number `id` and a number `scale`",
            ));
        };
        let name = named(id, cards, field)?;
        if scale == 0.0 {
            continue;
        }
        if scale != 1.0 {
            return Err(Problem::unsupported(field, "scales other than 0 and 1 are not applied"));
        }
        if applied.replace(name.clone()).is_some_and(|before| before != name) {
            return Err(Problem::unsupported(field, "one adapter at a time"));
        }
    }
    Ok(applied)
}

fn named(id: u64, cards: &[Card], field: &str) -> Result<String> {
    let mut matching = cards.iter().filter(|card| u64::from(number(&card.id)) == id);
    match (matching.next(), matching.next()) {
        (Some(card), None) => Ok(card.id.clone()),
        (None, _) => Err(Problem::no_model(&id.to_string()).about(field)),
        (Some(_), Some(_)) => Err(Problem::invalid(
            field,
            format!("{id} stands for two functions; name the one you mean in `model`"),
        )),
    }
}
