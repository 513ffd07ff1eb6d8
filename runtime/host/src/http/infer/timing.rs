//! `Server-Timing`: where the time before the first token went, phase by phase, on every reply of a function.

use crate::call::{Cold, Phases};
use http::{HeaderMap, HeaderValue};
use std::fmt::Write;
use std::time::Duration;

/// Phases by name, in the order of the chain.
pub fn phases(phases: &Phases) -> [(&'static str, Duration); 9] {
    [
        ("prepare", phases.prepare),
        ("parked", phases.parked),
        ("adapter_read", phases.adapter_read),
        ("adapter_load", phases.adapter_load),
        ("backbone", phases.backbone),
        ("module", phases.module),
        ("handler", phases.handler),
        ("queue", phases.queue),
        ("prefill", phases.prefill),
    ]
}

/// Time to the first token: the sum of the phases.
pub fn ttft(of: &Phases) -> Duration {
    phases(of).iter().map(|(_, time)| *time).sum()
}

fn cold(cold: Cold) -> &'static str {
    match cold {
        Cold::Warm => "warm",
        Cold::Host => "host",
        Cold::Disk => "disk",
        Cold::Remote => "remote",
        Cold::Backbone => "backbone",
    }
}

/// Milliseconds with three decimals.
pub fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// Sets `Server-Timing`; without a first token there is nothing to tell.
pub fn mark(headers: &mut HeaderMap, opening: Option<(Phases, Cold)>) {
    let Some((of, how)) = opening else { return };
    let mut value = format!("cold;desc=\"{}\", ttft;dur={}", cold(how), ms(ttft(&of)));
    for (name, time) in phases(&of) {
        let _ = write!(value, ", {name};dur={}", ms(time));
    }
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert("server-timing", value);
    }
}
