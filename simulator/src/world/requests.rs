//! Requests in flight: from arrival through admission to the last token, with what each waited for.

use super::World;
use crate::engine::Sequence;
use crate::measure::collect::{Finished, KINDS};
use crate::report::per_request::{Outcome as Ended, RequestRow};
use coldframe_policy::artifact::Class;
use coldframe_policy::event::Refused;
use coldframe_policy::log::Line;
use coldframe_policy::units::{Bytes, FunctionId, InstanceId, Nanos, RequestId};
use coldframe_traces::Record;

/// One request in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    id: u64,
    pub(super) function: u32,
    arrival: u64,
    admitted: u64,
    scheduled: u64,
    first: u64,
    prompt: u32,
    output: u32,
    pub(super) kv: Bytes,
    pub(super) instance: u32,
    cold: [u64; 5],
    preemptions: u32,
    joined: u64,
    worst_gap: u64,
}

impl World<'_> {
    pub(super) fn new_request(&mut self, record: &Record) -> RequestId {
        let fresh = Request {
            id: self.arrivals - 1,
            function: record.function,
            arrival: self.now,
            prompt: record.prompt_tokens,
            output: record.output_tokens,
            ..Request::default()
        };
        self.in_flight += 1;
        let slot = match self.free_requests.pop() {
            Some(slot) => {
                self.requests[slot as usize] = fresh;
                slot
            }
            None => {
                self.requests.push(fresh);
                self.requests.len() as u32 - 1
            }
        };
        RequestId(slot)
    }

    /// Hands a request to its instance's engine and books what it waited for.
    pub(super) fn admit(&mut self, i: InstanceId, id: RequestId, kv: Bytes) {
        let now = self.now;
        let request = &mut self.requests[id.index()];
        (request.admitted, request.kv, request.instance) = (now, kv, i.0);
        let function = FunctionId(request.function);
        let waited = self.core.instance(i).waited(function, Nanos(request.arrival), Nanos(now));
        request.cold = waited.map(|stage| stage.0);
        let adapter_missed = request.cold[Class::Adapter as usize] > 0;
        self.moved.admitted(adapter_missed);
        let sequence = Sequence {
            id: id.0,
            function: request.function,
            adapter_read: self.adapter_read[request.function as usize],
            prompt: request.prompt,
            output: request.output,
        };
        self.engine_for(i).push(sequence);
    }

    pub(super) fn scheduled(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        if request.scheduled == 0 {
            request.scheduled = self.now.max(1);
        }
    }

    /// Notes a first token at the engine's step; false when the request had one before a preemption.
    pub(super) fn first_token(&mut self, id: u32, step: u64) -> bool {
        let request = &mut self.requests[id as usize];
        let first = request.first == 0;
        request.joined = step;
        if first {
            request.first = self.now.max(1);
        }
        first
    }

    pub(super) fn preempted(&mut self, id: u32) {
        self.requests[id as usize].preemptions += 1;
        self.preemptions += 1;
    }

    /// Notes the longest gap between two of a request's tokens, ns.
    pub(super) fn gap(&mut self, id: u32, ns: u64) {
        let worst = &mut self.requests[id as usize].worst_gap;
        *worst = ns.max(*worst);
    }

    /// The step after which a request began to decode.
    pub(super) fn joined(&self, id: u32) -> u64 {
        self.requests[id as usize].joined
    }

    /// The last token is out: measure the request and forget it.
    pub(super) fn ended(&mut self, id: u32) -> Request {
        let request = self.requests[id as usize];
        let done = Finished {
            function: request.function,
            arrival_ns: request.arrival,
            first_token_ns: request.first.max(request.arrival),
            end_ns: self.now,
            prompt_tokens: request.prompt,
            output_tokens: request.output,
            cold_ns: request.cold,
            prefill_ns: request.first.saturating_sub(request.scheduled.max(request.arrival)),
        };
        let (per_prompt, per_output) = self.weights[request.function as usize];
        let weight = per_prompt * u64::from(request.prompt) + per_output * u64::from(request.output);
        self.collect.finished(&done, weight);
        self.log_end(id, &request, &done);
        if self.rows.is_some() {
            self.row(&request, &done, weight);
        }
        let device = self.core.instance(InstanceId(request.instance)).device.0;
        if let Some(watch) = &mut self.watch {
            watch.request(
                device,
                request.instance,
                request.function,
                request.arrival,
                request.admitted,
                request.first,
                self.now,
            );
        }
        self.in_flight -= 1;
        self.free_requests.push(id);
        request
    }

    /// Tells the log how a request ended. A device's own time of it is not kept apart in virtual time.
    fn log_end(&mut self, id: u32, request: &Request, done: &Finished) {
        let Some(log) = &mut self.decisions else { return };
        log(&Line::Ended {
            at: Nanos(self.now),
            request: RequestId(id),
            function: FunctionId(request.function),
            prompt_tokens: request.prompt,
            output_tokens: request.output,
            ttft: Nanos(done.ttft_ns()),
            device: Nanos::ZERO,
            outcome: "completed".to_owned(),
        });
    }

    fn row(&mut self, request: &Request, done: &Finished, weight: u64) {
        let (slo_ttft, slo_tpot) = self.collect.met(done);
        let [container_ns, runtime_ns, backbone_ns, adapter_ns, kernel_ns] = done.cold_ns;
        let row = RequestRow {
            id: request.id,
            function: request.function,
            gpu: self.core.instance(InstanceId(request.instance)).device.0,
            arrival_ns: request.arrival,
            first_scheduled_ns: request.scheduled,
            cold_kind: KINDS[done.kind()],
            queue_ns: done.queue_ns(),
            container_ns,
            runtime_ns,
            backbone_ns,
            adapter_ns,
            kernel_ns,
            prefill_ns: done.prefill_ns,
            ttft_ns: done.ttft_ns(),
            tpot_ns: done.tpot_ns().unwrap_or(0),
            e2e_ns: done.e2e_ns(),
            prompt_tokens: request.prompt,
            output_tokens: request.output,
            preemptions: request.preemptions,
            slo_ttft,
            slo_tpot,
            outcome: Ended::Completed,
            worst_gap_ns: request.worst_gap,
            adapter: request.function,
            base_model: request.function,
            seed: self.setup.seed,
            compute_ns: weight / 1000,
            ..RequestRow::default()
        };
        self.write_row(&row);
    }

    fn write_row(&mut self, row: &RequestRow) {
        if let Some(rows) = &mut self.rows
            && let Err(error) = rows.row(row)
        {
            self.row_error.get_or_insert(error);
        }
    }

    pub(super) fn refused(&mut self, id: RequestId, reason: Refused) {
        let request = self.requests[id.index()];
        let timed_out = reason == Refused::TimedOut;
        self.collect.counts.timed_out += u64::from(timed_out);
        self.collect.counts.refused += u64::from(!timed_out);
        if self.rows.is_some() {
            let row = RequestRow {
                id: request.id,
                function: request.function,
                arrival_ns: request.arrival,
                cold_kind: KINDS[0],
                queue_ns: self.now - request.arrival,
                prompt_tokens: request.prompt,
                output_tokens: request.output,
                outcome: if timed_out { Ended::TimedOut } else { Ended::Refused },
                adapter: request.function,
                base_model: request.function,
                seed: self.setup.seed,
                ..RequestRow::default()
            };
            self.write_row(&row);
        }
        self.in_flight -= 1;
        self.free_requests.push(id.0);
    }
}
