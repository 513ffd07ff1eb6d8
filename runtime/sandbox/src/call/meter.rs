//! Charges host calls to the guest's fuel, and holds a call to its deadline.

use super::Call;
use crate::end::End;
use std::future::poll_fn;
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

/// Runs a future until its deadline; `None` past it.
///
/// A guest comes back after each slice of its fuel, so the clock is read there too: the runtime's own timer may be late on a
/// busy thread. Most calls never come back, and need no timer.
pub(super) async fn until<F: Future>(deadline: Instant, body: F) -> Option<F::Output> {
    let mut body = pin!(body);
    let mut alarm = pin!(None);
    poll_fn(|context| {
        if Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        if let Poll::Ready(done) = body.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if alarm.is_none() {
            alarm.set(Some(tokio::time::sleep_until(deadline.into())));
        }
        let alarm = alarm.as_mut().as_pin_mut().expect("set above");
        alarm.poll(context).map(|()| None)
    })
    .await
}
