//! Charges host calls to the guest's fuel, and measures the time a call takes of its thread.

use super::Call;
use crate::end::End;
use cpu_time::ThreadTime;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;
use wasmtime::StoreContextMut;

/// Begins a host call that copies so many bytes: counts it and charges it.
pub(crate) fn enter(store: &mut StoreContextMut<'_, Call>, bytes: usize) -> wasmtime::Result<()> {
    let call = store.data_mut();
    call.usage.host_calls += 1;
    let charges = call.sandbox.options.charges;
    call.debt =
        call.debt.saturating_add(charges.call).saturating_add(charges.byte.saturating_mul(bytes as u64));
    settle(store)
}

/// Charges bytes that go into the guest once they are known.
pub(crate) fn copied(store: &mut StoreContextMut<'_, Call>, bytes: usize) -> wasmtime::Result<()> {
    let byte = store.data().sandbox.options.charges.byte;
    spend(store.into(), byte.saturating_mul(bytes as u64))
}

/// Takes what the guest owes, and ends it where it called the host too often.
pub(super) fn settle(store: &mut StoreContextMut<'_, Call>) -> wasmtime::Result<()> {
    let call = store.data_mut();
    let limit = call.rules.limits.host_calls;
    if call.usage.host_calls > limit {
        return Err(End::HostCalls { limit }.into());
    }
    let debt = std::mem::take(&mut call.debt);
    spend(store.into(), debt)
}

/// Takes fuel.
pub(crate) fn spend(mut store: StoreContextMut<'_, Call>, cost: u64) -> wasmtime::Result<()> {
    let left = store.get_fuel()?;
    if cost > left {
        store.set_fuel(0)?;
        return Err(End::OutOfFuel { limit: store.data().rules.limits.fuel }.into());
    }
    store.set_fuel(left - cost)
}

/// Runs a future until its deadline, adding the thread's CPU time of each poll to `cpu_ns`; `None` past the deadline.
///
/// A guest comes back after each slice of its fuel, so the clock is read there too: the runtime's own timer may be late on a
/// busy thread.
pub(super) async fn timed<F: Future>(body: F, deadline: Instant, cpu_ns: &mut u64) -> Option<F::Output> {
    let mut body = pin!(body);
    let mut alarm = pin!(tokio::time::sleep_until(deadline.into()));
    poll_fn(|context| {
        if Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        let start = ThreadTime::now();
        let polled = body.as_mut().poll(context);
        *cpu_ns += u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match polled {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
        }
    })
    .await
}
