//! When a function's queued requests become a batch, and which batch goes first.
//!
//! Source: ServerlessLoRA section 4.2 (fill-or-expire, deadline margin); `immediate` is what continuous-batching
//! engines do. How a batch runs once admitted is the engine's business.

use crate::spec::FunctionSpec;
use crate::units::Nanos;
use serde::{Deserialize, Serialize};

/// What the part sees of one queue.
pub struct QueueView<'a> {
    /// The function.
    pub function: &'a FunctionSpec,
    /// Requests queued.
    pub queued: u64,
    /// How long the oldest has waited.
    pub waited: Nanos,
    /// Batches at work on the device, this one not counted.
    pub contention: u64,
}

/// What to do with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchDecision {
    /// Make a batch of this many now.
    Dispatch(u64),
    /// Look again after this long, or when another request comes.
    Wait(Nanos),
}

/// The batching part.
pub trait Batching {
    /// Whether the queue is a batch yet.
    fn decide(&self, queue: &QueueView) -> BatchDecision;
    /// Most batches that may be at work on a device beside this one.
    fn concurrent(&self, queue: &QueueView) -> u64;
    /// Sort key among ripe batches of a device: smallest first.
    fn urgency(&self, queue: &QueueView) -> i64;
}

/// How long a batch that is not full may wait. The paper's rule is known second-hand, so both readings are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delay {
    /// `d = SLO − T(N)` with N the largest batch that meets the SLO: always below alpha.
    MaxBatch,
    /// `d = SLO − T(|batch|)`: waits as long as the SLO allows.
    CurrentBatch,
    /// No delay.
    None,
}

/// Which ripe batch goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Smallest deadline margin `SLO − (w + M T(b))`.
    Margin,
    /// Longest wait.
    Fifo,
}

/// Every batching rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BatchingPart {
    /// Admit at once, up to a batch size.
    Immediate {
        /// Most requests admitted together.
        max_batch: u64,
    },
    /// Fill-or-expire with deadline margin.
    FillOrExpire {
        /// The delay rule.
        delay: Delay,
        /// The order rule.
        order: Order,
        /// Whether contention bounds the batches at work (`floor(SLO / T(1))`), or they are unbounded.
        bounded: bool,
    },
}

/// `N = floor((SLO − T0) / alpha) + 1`: the largest batch that meets the SLO alone on its device; at least one.
pub fn largest_batch(function: &FunctionSpec) -> u64 {
    let room = function.slo_ttft.saturating_sub(function.t0).0;
    match function.alpha.0 {
        0 => 1 << 20,
        alpha => room / alpha + 1,
    }
}

impl Batching for BatchingPart {
    fn decide(&self, queue: &QueueView) -> BatchDecision {
        let f = queue.function;
        match *self {
            Self::Immediate { max_batch } => BatchDecision::Dispatch(queue.queued.min(max_batch.max(1))),
            Self::FillOrExpire { delay, .. } => {
                let full = largest_batch(f);
                let allowed = match delay {
                    // Always below alpha: a batch that could grow for nothing has nothing to wait for.
                    Delay::MaxBatch if f.alpha == Nanos::ZERO => Nanos::ZERO,
                    Delay::MaxBatch => f.slo_ttft.saturating_sub(f.prefill(full)),
                    Delay::CurrentBatch => f.slo_ttft.saturating_sub(f.prefill(queue.queued)),
                    Delay::None => Nanos::ZERO,
                };
                if queue.queued >= full || queue.waited >= allowed {
                    BatchDecision::Dispatch(queue.queued.min(full))
                } else {
                    BatchDecision::Wait(allowed - queue.waited)
                }
            }
        }
    }

    fn concurrent(&self, queue: &QueueView) -> u64 {
        match *self {
            // Of one request each: a bound that shrank with the queue would starve exactly the longest ones.
            Self::FillOrExpire { bounded: true, .. } => {
                (queue.function.slo_ttft.0 / queue.function.prefill(1).0.max(1)).max(1)
            }
            _ => u64::MAX,
        }
    }

    fn urgency(&self, queue: &QueueView) -> i64 {
        let f = queue.function;
        match *self {
            Self::FillOrExpire { order: Order::Margin, .. } => {
                let work = f.prefill(queue.queued).0.saturating_mul(queue.contention + 1);
                f.slo_ttft.0 as i64 - queue.waited.0.saturating_add(work).min(i64::MAX as u64 / 2) as i64
            }
            _ => -(queue.waited.0.min(i64::MAX as u64) as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{BackboneId, Bytes};

    fn function(slo_ms: u64, t0_ms: u64, alpha_ms: u64) -> FunctionSpec {
        let ms = |v| Nanos(v * 1_000_000);
        FunctionSpec {
            backbone: BackboneId(0),
            adapter: Bytes(1),
            runtime: Bytes(1),
            kernel: Bytes(1),
            slo_ttft: ms(slo_ms),
            t0: ms(t0_ms),
            alpha: ms(alpha_ms),
            load: [Nanos::ZERO; 5],
            backbone_from_host: Nanos::ZERO,
            keep_alive: None,
            max_concurrency: None,
        }
    }

    fn check(delay: Delay, queued: u64, waited_ms: u64, want: BatchDecision) {
        let f = function(2000, 400, 50);
        let part = BatchingPart::FillOrExpire { delay, order: Order::Margin, bounded: true };
        let view = QueueView { function: &f, queued, waited: Nanos(waited_ms * 1_000_000), contention: 0 };
        assert_eq!(part.decide(&view), want, "{delay:?} {queued} {waited_ms}");
    }

    #[test]
    fn the_reimplementations_defaults_give_33_and_no_delay() {
        assert_eq!(largest_batch(&function(2000, 400, 50)), 33);
        check(Delay::MaxBatch, 1, 0, BatchDecision::Dispatch(1));
        check(Delay::MaxBatch, 40, 0, BatchDecision::Dispatch(33));
    }

    #[test]
    fn the_other_reading_waits_as_long_as_the_slo_allows() {
        check(Delay::CurrentBatch, 1, 0, BatchDecision::Wait(Nanos(1_600_000_000)));
        check(Delay::CurrentBatch, 2, 1000, BatchDecision::Wait(Nanos(550_000_000)));
        check(Delay::CurrentBatch, 1, 1600, BatchDecision::Dispatch(1));
    }

    #[test]
    fn contention_shrinks_the_margin() {
        let f = function(2000, 400, 50);
        let part = BatchingPart::FillOrExpire { delay: Delay::None, order: Order::Margin, bounded: true };
        let margin = |contention, waited_ms: u64| {
            part.urgency(&QueueView {
                function: &f,
                queued: 1,
                waited: Nanos(waited_ms * 1_000_000),
                contention,
            })
        };
        assert_eq!(margin(0, 0), 1_600_000_000);
        assert_eq!(margin(2, 100), 700_000_000);
        assert_eq!(
            part.concurrent(&QueueView { function: &f, queued: 1, waited: Nanos::ZERO, contention: 0 }),
            5
        );
    }
}
