//! Requests in flight: waiting, admitted, ended; and what each waited for.

use super::driver::{Asked, Driver, Report};
use super::handle::overloaded;
use super::residency::count;
use super::seam::{Ran, Size};
use super::stages::Needs;
use crate::call::{Answer, Call, CallError, Cold, Phases};
use crate::live::Before;
use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::event::{Event, Refused};
use coldframe_policy::log::Line;
use coldframe_policy::units::{Bytes, FunctionId, InstanceId, Nanos, RequestId};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// The least that a refused caller is told to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Where and since when a request runs.
pub(super) struct Admitted {
    instance: InstanceId,
    kv: Bytes,
    at: Nanos,
    reign: u64,
    /// Held by its task until nothing of it is left.
    lease: Weak<()>,
}

/// A request that the core knows.
pub(super) struct Request {
    pub(super) ticket: u64,
    pub(super) function: FunctionId,
    pub(super) arrived: Nanos,
    pub(super) admitted: Option<Admitted>,
    /// The farthest class it waited for.
    pub(super) cold: &'static str,
    id: String,
    size: Size,
    came: Instant,
    waiting: Option<(Call, oneshot::Sender<Result<Answer, CallError>>)>,
    _room: OwnedSemaphorePermit,
}

impl Request {
    pub(super) fn new(asked: Asked, function: FunctionId, now: Nanos) -> Self {
        Self {
            ticket: asked.ticket,
            function,
            arrived: now,
            admitted: None,
            cold: "warm",
            id: asked.call.id.clone(),
            size: asked.size,
            came: asked.call.arrived,
            waiting: Some((asked.call, asked.answer)),
            _room: asked._room,
        }
    }

    /// Its hold, where it runs.
    pub(super) fn lease(&self) -> Option<Weak<()>> {
        self.admitted.as_ref().map(|admitted| admitted.lease.clone())
    }

    /// Its number at the edge.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// When it came to the edge.
    pub(super) fn came(&self) -> Instant {
        self.came
    }

    /// KV bytes promised to it, and for how long until now.
    pub(super) fn held(&self, now: Nanos) -> (Bytes, Nanos) {
        self.admitted.as_ref().map_or((Bytes::ZERO, Nanos::ZERO), |a| (a.kv, now.saturating_sub(a.at)))
    }
}

/// Reports the end of a request whatever becomes of its task.
struct End {
    request: RequestId,
    ran: Option<Ran>,
    reports: mpsc::UnboundedSender<Report>,
}

impl End {
    fn with(mut self, ran: Ran) {
        self.ran = Some(ran);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let panicked = || Ran {
            error: Some(CallError::Internal(
                "the call's task ended early; the host's log says why".to_owned(),
            )),
            ..Ran::default()
        };
        let ran = self.ran.take().unwrap_or_else(panicked);
        // The driver outlives its reports, or nobody listens any more.
        let _ = self.reports.send(Report::Ended { request: self.request, ran: Box::new(ran) });
    }
}

impl Driver {
    /// Hands a request to what it runs on.
    pub(super) fn admit(&mut self, i: InstanceId, request: RequestId, kv: Bytes) {
        let now = self.now();
        let Some(known) = self.requests.get(&request) else { return };
        let (function, arrived) = (known.function, known.arrived);
        let waited = self.core.instance(i).waited(function, arrived, now);
        let before = self.before(function, &waited, now.saturating_sub(arrived));
        let kind = Class::ALL.into_iter().find(|class| waited[*class as usize] > Nanos::ZERO);
        let kind = kind.map_or("warm", Class::name);
        count(&mut self.counters.cold_starts, kind, 1);
        for class in Class::ALL {
            count(&mut self.counters.cold_ns, class.name(), waited[class as usize].0);
        }
        self.counters.admitted += 1;
        let lease = Arc::new(());
        let admitted =
            Admitted { instance: i, kv, at: now, reign: self.reign, lease: Arc::downgrade(&lease) };
        let known = self.requests.get_mut(&request).expect("just seen");
        (known.admitted, known.cold) = (Some(admitted), kind);
        let (call, answer) = known.waiting.take().expect("a request is admitted once");
        let needs = self.needs(i, function);
        let (executors, info) = (self.executors.clone(), self.functions.info(function).clone());
        let end = End { request, ran: None, reports: self.reports.clone() };
        tokio::spawn(async move {
            let awaited = Instant::now();
            let pieces = match needs {
                Some(needs) => needs.pieces().await,
                None => Err("what it runs on is gone".to_owned()),
            };
            let ran = match pieces {
                Ok(pieces) => {
                    // A replica's own start is over here; where everything was in place this is nothing.
                    let mut before = before;
                    before.phases.backbone += awaited.elapsed();
                    let (events, done) = executors.run(call, info, pieces, before);
                    // A caller who has gone drops the answer, which ends the call.
                    drop(answer.send(Ok(events)));
                    done.await
                }
                Err(why) => {
                    let error = CallError::Start(why);
                    drop(answer.send(Err(error.clone())));
                    Ran { error: Some(error), ..Ran::default() }
                }
            };
            drop(lease);
            end.with(ran);
        });
    }

    fn needs(&mut self, i: InstanceId, f: FunctionId) -> Option<Needs> {
        let backbone = self.backbone_stage(i)?.clone();
        let adapters = self.instances[i.index()].pieces.get(&(Class::Adapter, Some(f))).cloned();
        let wanted = self.functions.info(f).adapter_bytes() > 0;
        let code = self.code_stage(i, f);
        (adapters.is_some() || !wanted).then_some(Needs { backbone, adapters, code })
    }

    /// The core's view of what a request waited for, in the words of a reply.
    fn before(&self, f: FunctionId, waited: &[Nanos; 5], whole: Nanos) -> Before {
        let of = |class: Class| Duration::from_nanos(waited[class as usize].0);
        let adapter = of(Class::Adapter);
        let times = self.read_share.get(&f).copied().unwrap_or((Duration::ZERO, adapter, Tier::Disk));
        let (read, load, from) = times;
        let share = read.as_secs_f64() / (read + load).as_secs_f64().max(1e-9);
        let adapter_read = adapter.mul_f64(share.clamp(0.0, 1.0)).min(adapter);
        let all: Duration = Class::ALL.into_iter().map(of).sum();
        let phases = Phases {
            parked: Duration::from_nanos(whole.0).saturating_sub(all),
            adapter_read,
            adapter_load: adapter - adapter_read,
            backbone: of(Class::Backbone),
            module: of(Class::Container) + of(Class::Runtime) + of(Class::Kernel),
            ..Phases::default()
        };
        let cold = if phases.backbone > Duration::ZERO {
            Cold::Backbone
        } else if adapter > Duration::ZERO && from == Tier::Host {
            Cold::Host
        } else if adapter > Duration::ZERO || of(Class::Container) > Duration::ZERO {
            Cold::Disk
        } else {
            Cold::Warm
        };
        Before { phases, cold }
    }

    pub(super) fn ended(&mut self, request: RequestId, ran: &Ran) {
        let Some(gone) = self.forget(request) else { return };
        self.counters.ended += 1;
        let now = self.now();
        let ttft = ran.phases.map_or(Duration::ZERO, |phases| phases.total());
        let outcome = match (&ran.error, ran.dropped) {
            (Some(_), _) => "failed",
            (None, true) => "dropped",
            (None, false) => "completed",
        };
        let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let prompt = if ran.usage.prompt_tokens > 0 {
            small(ran.usage.prompt_tokens)
        } else {
            gone.size.prompt_tokens
        };
        self.note(&Line::Ended {
            at: now,
            request,
            function: gone.function,
            prompt_tokens: prompt,
            output_tokens: small(ran.usage.completion_tokens),
            ttft: Nanos(u64::try_from(ttft.as_nanos()).unwrap_or(u64::MAX)),
            device: Nanos(ran.usage.device_ns),
            outcome: outcome.to_owned(),
        });
        let info = self.functions.info(gone.function).clone();
        self.metering.request(&gone, &info, ran, now);
        let Some(Admitted { instance, kv, reign, .. }) = gone.admitted else { return };
        if reign == self.reign {
            self.tell(Event::RequestDone { request, instance, function: gone.function, kv });
        }
    }

    pub(super) fn refused(&mut self, request: RequestId, reason: Refused, retry_after: Nanos) {
        let Some(gone) = self.forget(request) else { return };
        let Some((_, answer)) = gone.waiting else { return };
        let retry_after = Duration::from_nanos(retry_after.0).max(RETRY_AFTER_MIN);
        let (word, error) = match reason {
            Refused::QueueFull => (
                "queue-full",
                overloaded("queue_full", "this function has as many requests waiting as it may", retry_after),
            ),
            Refused::TimedOut => {
                ("timed-out", overloaded("timed_out", "it waited too long for its turn", retry_after))
            }
            Refused::NoCapacity => (
                "no-capacity",
                overloaded(
                    "no_capacity",
                    "no device of this host can ever hold what it needs: ask for fewer tokens",
                    retry_after,
                ),
            ),
            Refused::NoFunction => ("no-function", CallError::Start("the function was removed".to_owned())),
            Refused::Failed => {
                let why = self.failure.clone().unwrap_or_else(|| "what it waited for failed".to_owned());
                ("failed", CallError::Start(why))
            }
        };
        count(&mut self.counters.refused, word, 1);
        // Whoever has gone needs no answer.
        let _ = answer.send(Err(error));
    }
}
