//! CSV rows of our format. Fields with commas, quotes or line ends are quoted; line ends inside become spaces, because
//! our reader takes every line for a row.

use super::put_seconds;
use crate::readers::coldframe_csv::COLUMNS;
use crate::record::{Catalog, Record};
use std::io::Write;

pub(super) fn head(out: &mut Vec<u8>, notes: &[String]) {
    for note in notes {
        let _ = writeln!(out, "# {}", note.replace(['\n', '\r'], " "));
    }
    let _ = writeln!(out, "{}", COLUMNS.join(","));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let _ = write!(out, "\"{}\"", text.replace('"', "\"\"").replace(['\n', '\r'], " "));
}

pub(super) fn row(out: &mut Vec<u8>, record: &Record, catalog: &Catalog) {
    let info = &catalog.functions()[record.function as usize];
    put_seconds(out, record.arrival_ns);
    for name in [&info.name, &info.adapter, &info.base_model] {
        out.push(b',');
        put_text(out, name);
    }
    let _ = write!(out, ",{},{},", record.prompt_tokens, record.output_tokens);
    put_text(out, &info.tenant);
    out.push(b',');
    put_text(out, &catalog.slo_classes[record.slo_class as usize]);
    out.push(b',');
    // 0 means none and is left empty.
    if record.session > 0 {
        let _ = write!(out, "{}", record.session);
    }
    out.push(b',');
    if record.turn > 0 {
        let _ = write!(out, "{}", record.turn);
    }
    out.push(b',');
    for (i, block) in record.prefix.iter().flatten().enumerate() {
        let _ = write!(out, "{}{block}", if i > 0 { ";" } else { "" });
    }
    out.push(b',');
    if record.duration_ns > 0 {
        put_seconds(out, record.duration_ns);
    }
    out.push(b'\n');
}
