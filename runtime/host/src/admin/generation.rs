//! A generation's id: SHA-256 over the canonical JSON of what the function is.
//!
//! Keys are sorted at every depth, and neither time nor origin counts: the same content has the same id, from wherever
//! and whenever it came.

use crate::records::{Digest, Generation};
use sha2::{Digest as _, Sha256};

/// Changes whenever the form does.
const VERSION: &[u8] = b"coldframe generation 1\n";

/// The id that a generation must have.
pub fn id(generation: &Generation) -> Digest {
    let mut value = serde_json::to_value(generation).expect("records are JSON");
    let fields = value.as_object_mut().expect("a generation is an object");
    fields.remove("id");
    fields.remove("created_ms");
    for adapter in fields.get_mut("adapters").and_then(|all| all.as_array_mut()).into_iter().flatten() {
        if let Some(adapter) = adapter.as_object_mut() {
            adapter.remove("source");
        }
    }
    let mut hash = Sha256::new();
    hash.update(VERSION);
    hash.update(canonical(&value));
    super::cursor::hex(&hash.finalize())
}

/// SHA-256 of any value in canonical form.
pub fn digest(value: &serde_json::Value) -> Digest {
    super::cursor::hex(&Sha256::digest(canonical(value)))
}

/// JSON without blanks, keys sorted at every depth.
pub fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let inner = fields.iter().map(|(name, value)| {
                format!("{}:{}", serde_json::Value::from(name.as_str()), canonical(value))
            });
            format!("{{{}}}", inner.collect::<Vec<_>>().join(","))
        }
        Value::Array(entries) => {
            format!("[{}]", entries.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn canonical_form() {
        let value = json!({"b": [1, {"z": null, "a": "x\"\n"}], "a": 1.5});
        assert_eq!(super::canonical(&value), r#"{"a":1.5,"b":[1,{"a":"x\"\n","z":null}]}"#);
    }
}
