//! A log as a trace: who called what when, with how many tokens, for another policy to serve.
//!
//! Answers have the length they really had where the log tells it, the most they might have where it does not.

use coldframe_policy::event::Event;
use coldframe_policy::log::{Line, LogError, Reader};
use coldframe_policy::spec::WorkerSpec;
use coldframe_policy::units::{Bytes, RequestId};
use coldframe_traces::{Catalog, FunctionInfo, Record};
use std::collections::BTreeMap;
use std::io::BufRead;

/// What a log says of demand and hardware.
#[derive(Debug, Default)]
pub struct Demand {
    /// Requests in order of arrival, from the first one's time.
    pub records: Vec<Record>,
    /// Their functions.
    pub catalog: Catalog,
    /// Largest adapter of a function.
    pub adapter: Bytes,
    /// Workers at the start.
    pub workers: Vec<WorkerSpec>,
    /// Requests that never ended in the log: their answers count with the most they might have.
    pub open: u64,
}

/// Reads the demand out of a log.
pub fn demand<R: BufRead>(log: Reader<R>) -> Result<Demand, LogError> {
    let mut demand = Demand { catalog: Catalog::new(), ..Demand::default() };
    let mut names: BTreeMap<u32, FunctionInfo> = BTreeMap::new();
    // Record of each request under way, and the log's number of its function: names may follow.
    let mut places: BTreeMap<RequestId, usize> = BTreeMap::new();
    let mut functions = Vec::new();
    let mut first = None;
    for line in log {
        match line? {
            Line::Event { event: Event::WorkerJoined(spec), .. } => demand.workers.push(spec),
            Line::Event { event: Event::FunctionAdded(spec), .. } => {
                demand.adapter = demand.adapter.max(spec.adapter);
            }
            Line::Event {
                at,
                event: Event::RequestArrived { request, function, prompt_tokens, max_tokens },
            } => {
                let arrival_ns = at.0 - *first.get_or_insert(at.0);
                places.insert(request, demand.records.len());
                functions.push(function.0);
                let output_tokens = max_tokens.max(1);
                demand.records.push(Record { arrival_ns, prompt_tokens, output_tokens, ..Record::default() });
            }
            Line::Function { id, tenant, name, .. } => {
                names.insert(
                    id.0,
                    FunctionInfo { adapter: name.clone(), name, tenant, ..FunctionInfo::default() },
                );
            }
            Line::Ended { request, output_tokens, .. } => {
                if let Some(n) = places.remove(&request).filter(|_| output_tokens > 0) {
                    demand.records[n].output_tokens = output_tokens;
                }
            }
            Line::Cut { .. } => break,
            _ => {}
        }
    }
    demand.open = places.len() as u64;
    for (record, number) in demand.records.iter_mut().zip(functions) {
        let unnamed = || FunctionInfo { name: format!("function-{number}"), ..FunctionInfo::default() };
        record.function = demand.catalog.intern(names.get(&number).cloned().unwrap_or_else(unnamed));
    }
    Ok(demand)
}
