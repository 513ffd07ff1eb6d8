//! JSON lines of our format; fields that are empty or 0 are left out.

use super::put_seconds;
use crate::record::{Catalog, Record};
use std::io::Write;

pub(super) fn head(out: &mut Vec<u8>, notes: &[String]) {
    let head = serde_json::json!({ "coldframe_trace": 1, "notes": notes });
    let _ = writeln!(out, "{head}");
}

fn put_text(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        let _ = write!(out, ",\"{name}\":{}", serde_json::Value::from(text));
    }
}

pub(super) fn row(out: &mut Vec<u8>, record: &Record, catalog: &Catalog) {
    let info = &catalog.functions()[record.function as usize];
    out.extend_from_slice(b"{\"arrival_s\":");
    put_seconds(out, record.arrival_ns);
    let _ = write!(out, ",\"function\":{}", serde_json::Value::from(info.name.as_str()));
    put_text(out, "adapter", &info.adapter);
    put_text(out, "base_model", &info.base_model);
    let _ =
        write!(out, ",\"prompt_tokens\":{},\"output_tokens\":{}", record.prompt_tokens, record.output_tokens);
    put_text(out, "tenant", &info.tenant);
    put_text(out, "slo_class", &catalog.slo_classes[record.slo_class as usize]);
    if record.session > 0 {
        let _ = write!(out, ",\"session\":{}", record.session);
    }
    if record.turn > 0 {
        let _ = write!(out, ",\"turn\":{}", record.turn);
    }
    if let Some(blocks) = &record.prefix {
        let _ = write!(out, ",\"prefix_group\":{}", serde_json::Value::from(&blocks[..]));
    }
    if record.duration_ns > 0 {
        out.extend_from_slice(b",\"duration_s\":");
        put_seconds(out, record.duration_ns);
    }
    out.extend_from_slice(b"}\n");
}
