//! The token hook: for each generation an instance in a store of its own, called between two tokens.
//!
//! It runs on the engine's thread while a whole batch waits, so it is small in every way: a budget of fuel for each token, no way to
//! wait, no import but `log`. It is called without a fiber, which is most of what makes it cheap. Guests whose toolchain imports WASI
//! get the empty world of [`crate::wasi`], and cannot wait there either.

use crate::bindings::log;
use crate::call::{Log, Room};
use crate::convert;
use crate::end::End;
use crate::error::Error;
use crate::function::{BeforeParams, BeforeResults, Rules, export};
use crate::imports::outgoing::Sent;
use crate::imports::{Generation, interface};
use crate::limits::Charges;
use crate::sandbox::Inner;
use crate::services::{Failure, Services, TokenHook, Verdict};
use crate::ticker::Living;
use crate::wasi::Wasi;
use cpu_time::ThreadTime;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{
    Component, ComponentExportIndex, InstancePre, Linker, ResourceTable, ResourceType, TypedFunc,
};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Fuel for instantiating and for `begin`, as a multiple of that for one token: a large toolchain prepares itself there.
const BEGIN_TOKENS: u64 = 100;

/// Time on a processor that a hook may take in one call. Fuel ends it long before; this ends what spends little of it, as filling
/// memory does. Time of the clock is no measure: a server whose cores are taken does not let the engine's thread run for as long.
const CPU_MAX: Duration = Duration::from_millis(50);

/// WASI's way of waiting, which a hook has not.
const POLL: &str = "wasi:io/poll@0.2.12";

/// What a hook's store holds.
pub(crate) struct HookCall {
    log: Arc<Log>,
    room: Room,
    charges: Charges,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: Wasi,
    http: WasiHttpCtx,
    nowhere: Nowhere,
    /// What its thread had computed at the first tick of this call, which few calls see.
    since: Option<Duration>,
    _living: Living,
}

impl HookCall {
    /// A log of its own, for a hook that is used outside a call.
    pub(crate) fn log(services: Arc<dyn Services>) -> HookLog {
        HookLog::Own(services)
    }

    /// The log of the call it belongs to, within the same budget.
    pub(crate) fn shared(log: Arc<Log>) -> HookLog {
        HookLog::Shared(log)
    }
}

/// No way out: a hook sends nothing.
struct Nowhere;

impl WasiHttpHooks for Nowhere {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

impl WasiHttpView for HookCall {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.nowhere, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Where a hook writes.
pub(crate) enum HookLog {
    Own(Arc<dyn Services>),
    Shared(Arc<Log>),
}

/// Functions of ours that a component may import and its hook may not use.
const SHUT: [(&str, &[&str]); 6] = [
    (
        "model",
        &[
            "[constructor]generation",
            "[method]generation.next",
            "[method]generation.finish",
            "[method]generation.cancel",
            "wait-any",
            "tokenize",
            "detokenize",
            "adapters",
        ],
    ),
    ("reply", &["start", "write", "write-bytes", "finish"]),
    ("state", &["get", "set", "delete", "keys"]),
    ("clock", &["now-ms"]),
    ("random", &["bytes"]),
    ("http", &["send"]),
];

/// What hooks are linked with: `log`, the empty WASI without a way to wait, and everything else as an error with its name.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HookCall>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance(POLL)?;
    for name in ["poll", "[method]pollable.block"] {
        poll.func_new(name, |_, _, _, _| Err(wasmtime::Error::msg("a token hook cannot wait")))?;
    }
    linker.allow_shadowing(false);
    linker.instance(&interface("types"))?;
    linker.instance(&interface("log"))?.func_wrap("write", write)?;
    for (name, functions) in SHUT {
        let mut instance = linker.instance(&interface(name))?;
        if name == "model" {
            instance.resource("generation", ResourceType::host::<Generation>(), |_, _| Ok(()))?;
        }
        for function in functions {
            let import = format!("{}#{function}", interface(name));
            instance.func_new(function, move |_, _, _, _| {
                Err(End::NotGranted { import: import.clone() }.into())
            })?;
        }
    }
    Ok(linker)
}

fn write(
    mut store: StoreContextMut<'_, HookCall>,
    (level, message): (log::Level, String),
) -> wasmtime::Result<()> {
    let charges = store.data().charges;
    let cost = charges.call.saturating_add(charges.byte.saturating_mul(message.len() as u64));
    let left = store.get_fuel()?;
    store.set_fuel(left.saturating_sub(cost))?;
    if cost > left {
        return Err(Trap::OutOfFuel.into());
    }
    store.data().log.write(convert::level(level), &message);
    Ok(())
}

/// A component whose hook is linked.
pub(crate) struct HookPre {
    pre: InstancePre<HookCall>,
    begin: ComponentExportIndex,
    before: ComponentExportIndex,
}

impl HookPre {
    /// Links a component's hook.
    pub(crate) fn link(sandbox: &Inner, component: &Component) -> Result<Self, Error> {
        let refused = |error: wasmtime::Error| Error::Invalid(format!("{error:#}"));
        Ok(Self {
            pre: sandbox.hook_linker.instantiate_pre(component).map_err(refused)?,
            begin: export(component, crate::check::HOOK, "begin")?,
            before: export(component, crate::check::HOOK, "before-token")?,
        })
    }

    /// An instance for one generation.
    pub(crate) fn begin(
        &self,
        sandbox: &Inner,
        rules: &Rules,
        context: &str,
        log: HookLog,
    ) -> Result<Box<dyn TokenHook>, Failure> {
        let fuel = rules.limits.hook_fuel;
        let mut store = store(sandbox, rules, log);
        let begin = |store: &mut Store<HookCall>| {
            refill(store, fuel.saturating_mul(BEGIN_TOKENS))?;
            let instance = self.pre.instantiate(&mut *store)?;
            let begin = instance.get_typed_func::<(&str,), ()>(&mut *store, &self.begin)?;
            begin.call(&mut *store, (context,))?;
            instance.get_typed_func(&mut *store, self.before)
        };
        let before = begin(&mut store).map_err(|error| failure(&error))?;
        Ok(Box::new(Hook { store, before, fuel, dead: None }))
    }
}

fn store(sandbox: &Inner, rules: &Rules, log: HookLog) -> Store<HookCall> {
    let log = match log {
        HookLog::Own(services) => Arc::new(Log::new(services, rules.limits.log_bytes)),
        HookLog::Shared(log) => log,
    };
    let call = HookCall {
        wasi: Wasi::new(log.clone(), &rules.grants),
        log,
        room: Room::new(&rules.limits),
        charges: sandbox.options.charges,
        table: ResourceTable::new(),
        http: WasiHttpCtx::new(),
        nowhere: Nowhere,
        since: None,
        _living: sandbox.ticker.guest(),
    };
    let mut store = Store::new(&sandbox.engine, call);
    store.limiter(|call| &mut call.room);
    store.set_hostcall_fuel(rules.limits.memory_bytes);
    store.epoch_deadline_callback(on_tick);
    store
}

/// Ends a hook that has computed for too long. It runs on one thread from [`refill`] to its return.
fn on_tick(mut store: StoreContextMut<'_, HookCall>) -> wasmtime::Result<UpdateDeadline> {
    let now = ThreadTime::now().as_duration();
    let since = *store.data_mut().since.get_or_insert(now);
    if now.saturating_sub(since) >= CPU_MAX {
        return Err(Trap::Interrupt.into());
    }
    Ok(UpdateDeadline::Continue(1))
}

fn refill(store: &mut Store<HookCall>, fuel: u64) -> wasmtime::Result<()> {
    store.data_mut().since = None;
    store.set_epoch_deadline(1);
    store.set_fuel(fuel)
}

/// A hook at work.
struct Hook {
    store: Store<HookCall>,
    before: TypedFunc<BeforeParams<'static>, BeforeResults>,
    fuel: u64,
    /// Why it can be called no more: an instance that trapped is not entered again.
    dead: Option<Failure>,
}

impl TokenHook for Hook {
    fn before_token(&mut self, previous: Option<u32>, text: &str) -> Result<Verdict, Failure> {
        if let Some(failure) = &self.dead {
            return Err(failure.clone());
        }
        let said = refill(&mut self.store, self.fuel).and_then(|()| call(self, previous, text));
        let said = said.map_err(|error| failure(&error));
        self.dead = said.as_ref().err().cloned();
        said
    }
}

fn call(hook: &mut Hook, previous: Option<u32>, text: &str) -> wasmtime::Result<Verdict> {
    let before: &TypedFunc<BeforeParams<'_>, BeforeResults> = &hook.before;
    let (verdict,) = before.call(&mut hook.store, (previous, text))?;
    Ok(convert::verdict(verdict))
}

/// What an error of a hook means to the guest's generation.
fn failure(error: &wasmtime::Error) -> Failure {
    if let Some(end) = error.downcast_ref::<End>() {
        return Failure::new(end.code(), format!("the token hook: {end}"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new("busy", "no instance is free for the token hook now; try again");
    }
    let (code, what) = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            ("hook_fuel", "it used its budget for one token; do less or raise `hook_fuel`".to_owned())
        }
        Some(Trap::Interrupt) => {
            ("hook_deadline", format!("it computed for {} ms in one call", CPU_MAX.as_millis()))
        }
        Some(Trap::StackOverflow) => ("hook_stack", "it used up its stack".to_owned()),
        Some(trap) => ("hook_trap", trap.to_string()),
        None => ("hook_trap", format!("{:#}", error.root_cause())),
    };
    Failure::new(code, format!("the token hook: {what}"))
}
