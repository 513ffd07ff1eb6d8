//! The small interfaces: `log`, and the capabilities `state`, `clock` and `random`, each shut unless granted.

use super::interface;
use crate::bindings::{log, types};
use crate::call::{Call, copied, enter};
use crate::convert::{failure_out, level};
use crate::end::End;
use crate::services::Failure;
use crate::wasi::now_ms;
use wasmtime::component::Linker;
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Call>;
type Answer<T> = Result<(Result<T, types::Failure>,)>;

/// Longest key of the function's store.
const KEY_BYTES_MAX: usize = 512;

/// Most random bytes of one call.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

pub(super) fn link(linker: &mut Linker<Call>) -> Result<()> {
    linker.instance(&interface("log"))?.func_wrap("write", write)?;
    linker.instance(&interface("clock"))?.func_wrap("now-ms", clock)?;
    linker.instance(&interface("random"))?.func_wrap("bytes", random)?;
    let mut state = linker.instance(&interface("state"))?;
    state.func_wrap_async("get", |store, (key,)| Box::new(get(store, key)))?;
    state.func_wrap_async("set", |store, (key, value)| Box::new(set(store, key, value)))?;
    state.func_wrap_async("delete", |store, (key,)| Box::new(delete(store, key)))?;
    state.func_wrap_async("keys", |store, (prefix,)| Box::new(keys(store, prefix)))
}

/// A function of a capability ends the call where that is not granted.
pub(super) fn granted(granted: bool, interface_name: &str) -> Result<()> {
    if granted { Ok(()) } else { Err(End::NotGranted { import: interface(interface_name) }.into()) }
}

fn write(mut store: Store<'_>, (of, message): (log::Level, String)) -> Result<()> {
    enter(&mut store, message.len())?;
    store.data().log.write(level(of), &message);
    Ok(())
}

fn clock(mut store: Store<'_>, (): ()) -> Result<(u64,)> {
    enter(&mut store, 0)?;
    granted(store.data().rules.grants.clock, "clock")?;
    Ok((now_ms(),))
}

fn random(mut store: Store<'_>, (len,): (u32,)) -> Result<(Vec<u8>,)> {
    enter(&mut store, len as usize)?;
    granted(store.data().rules.grants.random, "random")?;
    if len > RANDOM_BYTES_MAX {
        return Err(End::Trap { what: format!("more than {RANDOM_BYTES_MAX} random bytes at once") }.into());
    }
    let mut bytes = vec![0; len as usize];
    getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    Ok((bytes,))
}

async fn get(mut store: Store<'_>, key: String) -> Answer<Option<Vec<u8>>> {
    open(&mut store, &key, 0)?;
    let value = match valid(&key) {
        Ok(()) => store.data().services.state_get(&key).await,
        Err(failure) => Err(failure),
    };
    copied(&mut store, value.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len)))?;
    Ok((value.map_err(failure_out),))
}

async fn set(mut store: Store<'_>, key: String, value: Vec<u8>) -> Answer<()> {
    open(&mut store, &key, value.len())?;
    let limit = store.data().rules.limits.state_value_bytes;
    if value.len() > limit {
        return Err(End::State { limit }.into());
    }
    let done = match valid(&key) {
        Ok(()) => store.data().services.state_set(&key, value).await,
        Err(failure) => Err(failure),
    };
    Ok((done.map_err(failure_out),))
}

async fn delete(mut store: Store<'_>, key: String) -> Answer<()> {
    open(&mut store, &key, 0)?;
    let done = match valid(&key) {
        Ok(()) => store.data().services.state_delete(&key).await,
        Err(failure) => Err(failure),
    };
    Ok((done.map_err(failure_out),))
}

async fn keys(mut store: Store<'_>, prefix: String) -> Answer<Vec<String>> {
    open(&mut store, &prefix, 0)?;
    let keys = store.data().services.state_keys(&prefix).await;
    copied(&mut store, keys.as_ref().map_or(0, |keys| keys.iter().map(String::len).sum()))?;
    Ok((keys.map_err(failure_out),))
}

fn open(store: &mut Store<'_>, key: &str, bytes: usize) -> Result<()> {
    enter(store, key.len() + bytes)?;
    granted(store.data().rules.grants.state, "state")
}

fn valid(key: &str) -> Result<(), Failure> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Failure::new("invalid", format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
    }
    Ok(())
}
