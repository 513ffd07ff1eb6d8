//! A timeline for Perfetto or `chrome://tracing`: trace events as JSON, written as they come.
//!
//! A process is a GPU, a track is a row of spans in it. Spans of a track must nest or follow one another; the caller
//! gives overlapping work its own tracks. The JSON is closed by `finish`, and by dropping when a run ends early. It
//! leaves out sampling: the caller decides which requests are drawn.

use std::io::{self, Write};

/// A row of spans: GPU and number of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// The GPU (process) it lies in.
    pub gpu: u32,
    /// Its number within the GPU.
    pub row: u32,
}

/// A value shown with an event.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Whole(u64),
    /// A number; not finite ones become `null`.
    Number(f64),
}

/// Arguments of an event.
pub type Args<'a> = &'a [(&'a str, Arg<'a>)];

/// A timeline being written.
pub struct Timeline<W: Write> {
    /// `None` once finished.
    out: Option<W>,
    events: u64,
}

impl<W: Write> Timeline<W> {
    /// Starts the file. Give it a buffered writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        Ok(Timeline { out: Some(out), events: 0 })
    }

    /// Names a GPU.
    pub fn process(&mut self, gpu: u32, name: &str) -> io::Result<()> {
        self.event(&format!(
            "\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{gpu},\"tid\":0,\"args\":{{\"name\":{}}}",
            quoted(name)
        ))
    }

    /// Names a track.
    pub fn track(&mut self, track: Track, name: &str) -> io::Result<()> {
        self.event(&format!(
            "\"ph\":\"M\",\"name\":\"thread_name\",{},\"args\":{{\"name\":{}}}",
            place(track),
            quoted(name)
        ))
    }

    /// Work from `start_ns` to `end_ns`, e.g. a load's stage or a decode run.
    pub fn span(
        &mut self,
        track: Track,
        name: &str,
        category: &str,
        start_ns: u64,
        end_ns: u64,
        args: Args<'_>,
    ) -> io::Result<()> {
        self.event(&format!(
            "\"ph\":\"X\",\"name\":{},\"cat\":{},{},\"ts\":{},\"dur\":{}{}",
            quoted(name),
            quoted(category),
            place(track),
            micros(start_ns),
            micros(end_ns.saturating_sub(start_ns)),
            arguments(args)
        ))
    }

    /// Something that takes no time, e.g. an eviction.
    pub fn instant(
        &mut self,
        track: Track,
        name: &str,
        category: &str,
        at_ns: u64,
        args: Args<'_>,
    ) -> io::Result<()> {
        self.event(&format!(
            "\"ph\":\"i\",\"s\":\"t\",\"name\":{},\"cat\":{},{},\"ts\":{}{}",
            quoted(name),
            quoted(category),
            place(track),
            micros(at_ns),
            arguments(args)
        ))
    }

    /// Values that change at a time, drawn as a stacked area; a name is one chart of its GPU.
    pub fn counter(&mut self, gpu: u32, name: &str, at_ns: u64, values: &[(&str, u64)]) -> io::Result<()> {
        let args: Vec<(&str, Arg<'_>)> =
            values.iter().map(|(series, value)| (*series, Arg::Whole(*value))).collect();
        self.event(&format!(
            "\"ph\":\"C\",\"name\":{},\"pid\":{gpu},\"ts\":{}{}",
            quoted(name),
            micros(at_ns),
            arguments(&args)
        ))
    }

    /// An arrow, e.g. from a request's arrival to its first token. Viewers tie each end to the span around it, so both
    /// ends need a span on their track at that time. `id` is unique to the arrow.
    pub fn flow(&mut self, id: u64, name: &str, from: (Track, u64), to: (Track, u64)) -> io::Result<()> {
        for (phase, (track, at_ns)) in [("\"s\"", from), ("\"f\",\"bp\":\"e\"", to)] {
            self.event(&format!(
                "\"ph\":{phase},\"id\":{id},\"name\":{},\"cat\":\"flow\",{},\"ts\":{}",
                quoted(name),
                place(track),
                micros(at_ns)
            ))?;
        }
        Ok(())
    }

    /// Events written so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Closes the JSON and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        let mut out = self.out.take().expect("finish is called once");
        close(&mut out)?;
        Ok(out)
    }

    fn event(&mut self, fields: &str) -> io::Result<()> {
        let out = self.out.as_mut().expect("open until finish");
        out.write_all(if self.events == 0 { b"\n{" } else { b",\n{" })?;
        self.events += 1;
        out.write_all(fields.as_bytes())?;
        out.write_all(b"}")
    }
}

impl<W: Write> Drop for Timeline<W> {
    fn drop(&mut self) {
        if let Some(out) = &mut self.out {
            // Nobody is left to tell of a failure here.
            let _ = close(out);
        }
    }
}

fn close(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\n]}\n")?;
    out.flush()
}

fn place(track: Track) -> String {
    format!("\"pid\":{},\"tid\":{}", track.gpu, track.row)
}

/// Trace events count microseconds; the fraction keeps the nanoseconds.
fn micros(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000, ns % 1_000)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn arguments(args: Args<'_>) -> String {
    if args.is_empty() {
        return String::new();
    }
    let fields: Vec<String> = args
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Arg::Text(text) => quoted(text),
                Arg::Whole(number) => number.to_string(),
                Arg::Number(number) => serde_json::Value::from(*number).to_string(),
            };
            format!("{}:{value}", quoted(key))
        })
        .collect();
    format!(",\"args\":{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const LOADS: Track = Track { gpu: 0, row: 1 };

    fn parsed(bytes: &[u8]) -> Vec<Value> {
        let whole: Value = serde_json::from_slice(bytes).expect("valid JSON");
        whole["traceEvents"].as_array().expect("a list").clone()
    }

    #[test]
    fn every_kind_of_event_parses() {
        let mut timeline = Timeline::new(Vec::new()).expect("memory");
        timeline.process(0, "GPU 0 \"a\"\n</script>").expect("memory");
        timeline.track(LOADS, "loads").expect("memory");
        let args =
            [("bytes", Arg::Whole(u64::MAX)), ("of", Arg::Text("x\"y")), ("share", Arg::Number(f64::NAN))];
        timeline.span(LOADS, "backbone", "load", 1_500, 2_001_750, &args).expect("memory");
        timeline.instant(LOADS, "evict", "memory", 7, &[]).expect("memory");
        timeline.counter(0, "memory", 9, &[("base", 1), ("free", 2)]).expect("memory");
        timeline.flow(3, "request 3", (LOADS, 1_600), (LOADS, 2_000_000)).expect("memory");
        assert_eq!(timeline.events(), 7);
        let events = parsed(&timeline.finish().expect("memory"));
        assert_eq!(events.len(), 7);
        assert_eq!(events[2]["ts"], json!(1.5));
        assert_eq!(events[2]["dur"], json!(2000.25));
        assert_eq!(events[2]["args"], json!({"bytes": u64::MAX, "of": "x\"y", "share": null}));
        assert_eq!(events[4]["args"], json!({"base": 1, "free": 2}));
        assert_eq!((&events[5]["ph"], &events[6]["bp"]), (&json!("s"), &json!("e")));
    }

    #[test]
    fn closed_when_empty_and_when_dropped() {
        assert!(parsed(&Timeline::new(Vec::new()).expect("memory").finish().expect("memory")).is_empty());
        let mut bytes = Vec::new();
        let mut timeline = Timeline::new(&mut bytes).expect("memory");
        timeline.process(1, "x").expect("memory");
        drop(timeline);
        assert_eq!(parsed(&bytes).len(), 1);
    }

    #[test]
    fn time_that_runs_back_has_no_length() {
        let mut timeline = Timeline::new(Vec::new()).expect("memory");
        timeline.span(LOADS, "x", "y", 10, 5, &[]).expect("memory");
        assert_eq!(parsed(&timeline.finish().expect("memory"))[0]["dur"], json!(0.0));
    }
}
