//! Integration tests of the traces: real files, hostile files, samples, transforms.

mod hostile;
mod real_files;
mod samples;
mod transforms;

use coldframe_traces::{Item, Record, Refusal, TraceStream};

/// Reads a stream to its end.
fn read_all(stream: &mut dyn TraceStream) -> (Vec<Record>, Vec<Refusal>) {
    let (mut records, mut refused) = (vec![], vec![]);
    while let Some(item) = stream.next_item().expect("the stream reads") {
        match item {
            Item::Record(record) => records.push(record),
            Item::Refused(refusal) => refused.push(refusal),
        }
    }
    (records, refused)
}
